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
import { reason } from "../parts/trouble.js";
import { useWanted } from "./channel_switch.js";
import { FirstSettings } from "./first_settings.js";
import { AddTarget } from "./simulcast.js";

/** @typedef {import("../../channel.js").Channel} Channel */
/** @typedef {import("../../channel.js").Session} Session */
/** @typedef {import("../../channel.js").Output} Output */

/** The settings without which an output cannot be switched on. @typedef {import("./first_settings.js").Section | "relay"} Lacking */

/** @type {Record<string, import("../../kit/status.js").Tone>} */
const TONES = { running: "ok", degraded: "warn", waiting: "idle", retrying: "warn", failed: "bad", done: "idle", off: "idle" };

/**
 * @param {{channel: Channel, session: Session | null, onChanged: () => void}} props
 */
export function Switches({ channel, session, onChanged }) {
  const [asking, setAsking] = useState(/** @type {Lacking | null} */ (null));
  useEffect(() => void loadInstalled(), []);
  const missing = useMissing();
  const live = session !== null && session.state !== "idle";
  return html`<${Card} title=${t("switches.title")} class="is-switches">
    <p class="hint gap">${live ? t("switches.live") : t("switches.idle")}</p>
    ${asking === "relay" && html`<${AddTarget} channel=${channel} onClose=${() => setAsking(null)} onChanged=${onChanged} />`}
    ${asking && asking !== "relay" && html`<${FirstSettings} section=${asking} channel=${channel} session=${session} onClose=${() => setAsking(null)} onChanged=${onChanged} />`}
    ${groups().map(([group, names]) => html`<h3 class="group-head">${t(`switches.${group}`)}</h3>
    <div class="switches">${names.map((name) => html`<div key=${name} class="one"><${OutputSwitch} name=${name} channel=${channel}
      session=${session} output=${live ? session.outputs.find((one) => one.name === name) : undefined} lack=${missing(name)}
      ask=${setAsking} onChanged=${onChanged} /></div>`)}</div>`)}
  <//>`;
}

/**
 * @param {{name: string, channel: Channel, session: Session | null, output: Output | undefined, lack: string,
 *   ask: (section: Lacking) => void, onChanged: () => void}} props  lack: why it cannot be switched on
 */
function OutputSwitch({ name, channel, session, output, lack, ask, onChanged }) {
  const flag = flagged(channel, name);
  const { on, busy, change } = useWanted(output?.enabled ?? flag, [session, channel]);
  const what = t(`output.${name}`);
  const set = async (/** @type {boolean} */ to, /** @type {HTMLInputElement} */ box) => {
    const section = to ? needs(channel, name) : null;
    if (section) {
      box.checked = on; // not before the dialog's answer
      return ask(section);
    }
    await change(to, async () => {
      try {
        await turn(channel, name, to);
      } catch (error) {
        if (!isAbort(error)) toast(t("switch.failed", { what, reason: reason(error) }), "bad");
        return false;
      }
      toast(t(to ? "switch.on" : "switch.off", { what }), "ok");
      return true;
    });
    onChanged();
  };
  const lacks = on ? "" : lack;
  return html`<${Switch} label=${what} checked=${on} busy=${busy} disabled=${lacks !== ""} onChange=${set}
    note=${output?.enabled && html`<${Badge} kind=${TONES[output.state] ?? "idle"}>${t(`output.state.${output.state}`)}<//>`}
    error=${output?.error && errorText(output.error)} hint=${lacks || (output ? told(output, flag) : undefined)} />`;
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
