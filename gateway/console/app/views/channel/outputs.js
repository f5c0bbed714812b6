/** The switches of a channel's outputs, each with its state and its errors. */

import { useEffect, useState } from "preact/hooks";

import { isAbort } from "../../../players/api.js";
import { nameOf } from "../../../players/quality.js";
import { loadInstalled } from "../../installed_outputs.js";
import { bytes, number, span } from "../../format.js";
import { t } from "../../i18n.js";
import { useMissing } from "../../missing_outputs.js";
import { flagged, groups, needs, turn } from "../../switches.js";
import { toast } from "../../toast.js";
import { Badge, Card, html, Switch } from "../../ui.js";
import { errorText } from "../parts/errors.js";
import { FirstSettings } from "./first_settings.js";

/** @typedef {import("../../channel.js").Channel} Channel */
/** @typedef {import("../../channel.js").Session} Session */
/** @typedef {import("../../channel.js").Output} Output */

/** @type {Record<string, import("../../kit/status.js").Tone>} */
const TONES = { running: "ok", degraded: "warn", waiting: "idle", retrying: "warn", failed: "bad", done: "idle", off: "idle" };

const SEEN_WITHIN = 6000; // ms after a change in which the wanted state is shown; then the gateway's

/**
 * @param {{channel: Channel, session: Session | null, onChanged: () => void}} props
 */
export function Switches({ channel, session, onChanged }) {
  // The wanted states, until the gateway reports them: a running request may return an answer from before the change.
  const [wanted, setWanted] = useState(/** @type {Record<string, {on: boolean, busy: boolean, at: number}>} */ ({}));
  const [asking, setAsking] = useState(/** @type {import("./first_settings.js").Section | null} */ (null));
  useEffect(() => void loadInstalled(), []);
  const missing = useMissing();
  const live = session !== null && session.state !== "idle";
  const set = async (/** @type {string} */ name, /** @type {boolean} */ on) => {
    const section = on ? needs(channel, name) : null;
    if (section) return setAsking(section);
    const want = (/** @type {boolean} */ busy) => setWanted((now) => ({ ...now, [name]: { on, busy, at: Date.now() } }));
    const forget = () => setWanted(({ [name]: _, ...rest }) => rest);
    want(true);
    try {
      await turn(channel, name, on);
      want(false);
      toast(t(on ? "switch.on" : "switch.off", { what: t(`output.${name}`) }), "ok");
    } catch (error) {
      if (!isAbort(error)) toast(t("switch.failed",
        { what: t(`output.${name}`), reason: error instanceof Error ? error.message : String(error) }), "bad");
      forget();
    }
    onChanged();
  };
  const outputOf = (/** @type {string} */ name) => (live ? session.outputs.find((one) => one.name === name) : undefined);
  const real = (/** @type {string} */ name) => outputOf(name)?.enabled ?? flagged(channel, name);
  useEffect(() => {
    setWanted((now) => {
      const left = Object.entries(now).filter(([name, want]) =>
        want.busy || (real(name) !== want.on && Date.now() - want.at < SEEN_WITHIN));
      return left.length === Object.keys(now).length ? now : Object.fromEntries(left);
    });
  }, [session, channel]);
  return html`<${Card} title=${t("switches.title")} class="is-switches">
    <p class="hint gap">${live ? t("switches.live") : t("switches.idle")}</p>
    ${asking && html`<${FirstSettings} section=${asking} channel=${channel} session=${session} onClose=${() => setAsking(null)} onChanged=${onChanged} />`}
    ${groups().map(([group, names]) => html`<h3 class="group-head">${t(`switches.${group}`)}</h3>
    <div class="switches">${names.map((name) => {
      const [output, flag, want] = [outputOf(name), flagged(channel, name), wanted[name]];
      const on = want ? want.on : real(name);
      const lack = on ? "" : missing(name);
      return html`<div key=${name} class="one">
        <${Switch} label=${t(`output.${name}`)} checked=${on} busy=${want?.busy} disabled=${lack !== ""}
          onChange=${(/** @type {boolean} */ value) => set(name, value)}
          note=${output && output.enabled && html`<${Badge}
            kind=${TONES[output.state] ?? "idle"}>
              ${t(`output.state.${output.state}`)}<//>`}
          error=${output?.error && errorText(output.error)} hint=${lack || (output ? told(output, flag) : undefined)} />
      </div>`;
    })}</div>`)}
  <//>`;
}

/**
 * The details of an output besides its state.
 * @param {Output} output
 * @param {boolean} flag  the channel's flag, for every push
 */
function told(output, flag) {
  const words = [];
  if (output.enabled !== flag) words.push(t("switches.only"));
  if (output.enabled && output["openSince"]) words.push(t("told.recording", { time: span(Date.now() / 1000 - output["openSince"]) }));
  if (output.enabled && output["pieces"]) words.push(t("told.pieces", { n: output["pieces"], size: bytes(output["bytes"]) }));
  if (output.enabled && output["segments"]) words.push(t("told.segments", { n: output["segments"], size: bytes(output["bytes"]) }));
  if (output.enabled && "made" in output) words.push(t("told.made", { n: output["made"] }));
  if (output.enabled && "clips" in output) words.push(t("told.clips", { n: output["clips"] }));
  if (output.enabled && output.name === "codec" && output["renditions"]) words.push(output["renditions"].map((/** @type {{name: string, width: number, height: number}} */ one) =>
    nameOf({ ...one, id: one.name.replace(/^.*@/, ""), bitrate: 0 })).join(" · "));
  if (output.enabled && output["larger"]?.length) words.push(t("told.larger", { names: output["larger"].join(", ") }));
  if (output.enabled && output["fragments"]) words.push(t("told.fragments",
    { n: output["fragments"].persisted, waiting: output["fragments"].waiting }));
  if (output.enabled && output["dropped"] > 0) words.push(t("told.dropped", { n: number(output["dropped"]) }));
  if (output.enabled && output["targets"]?.length) words.push(t("told.targets", { n: output["targets"].length }));
  if (output.enabled && "waiting" in output) words.push(t("told.hours"));
  return words.filter(Boolean).join(" · ") || undefined;
}
