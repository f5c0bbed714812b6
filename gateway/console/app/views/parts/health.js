/** The faults of a push, in words of the user's language. */

import { moment, number } from "../../format.js";
import { hasWords, t } from "../../i18n.js";
import { errorText } from "./errors.js";

/**
 * A fault of a session. text: in English, for codes that this console does not know. value: a number, or
 * what is wrong; of `output_failing`, the name of the output and of its target.
 * @typedef {{code: string, text: string, since: string, value: number | string, level?: "fault" | "notice"}} Finding
 */

/**
 * Measured values of a push; null: not known.
 * @typedef {object} Measured
 * @property {number | null} fps
 * @property {number | null} declaredFps
 * @property {number | null} bitrate
 * @property {number | null} bitrate1m
 * @property {number | null} gop  seconds
 * @property {number | null} avOffsetMs
 * @property {number | null} driftMsPerS
 * @property {boolean | null} bFrames
 */

/** The faults whose value is shown in tenths. */
const TENTHS = ["arrivals_late", "link_loss", "timestamps_jump"];

/** @param {unknown} name  of an output, as the API calls it @returns {string} */
export const outputName = (name) => (hasWords(`output.short.${name}`) ? t(`output.short.${name}`) : String(name));

/** The time in which the gateway measures lateness. */
const LATENESS_SECONDS = 10;

/**
 * Returns what is wrong and what to do. The gateway puts the worst fault first.
 * @param {Pick<Finding, "code" | "text" | "value">} finding
 * @returns {string}
 */
export function faultText({ code, text, value }) {
  if (!hasWords(`health.fault.${code}`)) return text;
  if (typeof value === "string" && code !== "output_failing") return t(`health.fault.${code}`, { value });
  if (typeof value === "string") {
    const [output = "", ...target] = value.split(" ");
    const reason = text.split(" fails: ").slice(1).join(" fails: ");
    return t(`health.fault.${code}`, { value: [outputName(output), ...target].join(" "), reason: errorText(reason) });
  }
  const [kbps] = /(?<=below )\d+(?= kbit)/.exec(text) ?? [];
  if (code === "input_lost" && kbps) return t("health.input_lost.thin", { value: number(value), kbps: number(Number(kbps)) });
  const [input] = /(?<=“).*(?=”)/.exec(text) ?? []; // without a name, the slate is on air
  if (code === "input_lost" && input) return t("health.input_lost.other", { value: number(value), input });
  if (code === "arrivals_late" && value > LATENESS_SECONDS) return t("health.nothing_arrives", { value: number(value) });
  if (code === "key_expires") return t("health.fault.key_expires", { date: moment(value * 1000) });
  const [latency = NaN, ratio = NaN, trip = NaN] = (text.match(/\d+/g) ?? []).map(Number);
  if (code === "link_latency_low") {
    return t("health.fault.link_latency_low", { value: number(value), latency: number(latency), ratio: number(ratio), trip: number(trip) });
  }
  const digits = TENTHS.includes(code) ? 1 : 0;
  return t(`health.fault.${code}`, { value: number(Math.abs(value), digits), declared: number(Number(/(?<=of )\d+/.exec(text)?.[0] ?? value)) });
}
