/** The faults of a push, in words of the user's language. */

import { hasWords, t } from "../../i18n.js";

/**
 * A fault of a session. text: in English, for codes that this console does not know.
 * @typedef {{code: string, text: string, since: string, value: number}} Finding
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

/**
 * Returns what is wrong and what to do. The gateway puts the worst fault first.
 * @param {Finding} finding
 * @param {Measured} [measured]
 * @returns {string}
 */
export function faultText({ code, text, value }, measured) {
  if (!hasWords(`health.fault.${code}`)) return text;
  const size = Math.abs(value);
  return t(`health.fault.${code}`, { value: size < 10 && code === "arrivals_late" ? Math.round(size * 10) / 10 : Math.round(size),
    declared: Math.round(measured?.declaredFps ?? value) });
}
