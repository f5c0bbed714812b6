/** Switches an output on or off: now, if the channel is live, and for all later pushes. */

import { api } from "../players/api.js";
import { isOn, OUTPUTS, RUNGS } from "./channel.js";
import { installedSwitches } from "./installed_outputs.js";

/** @typedef {import("./channel.js").Channel} Channel */
/** @typedef {import("./channel.js").Session} Session */

/** The outputs by purpose, in the order of the page. @type {readonly [group: string, names: string[]][]} */
const GROUPS = [
  ["watch", ["flv", "hls", "cmaf", "codec", "watermark", "captions"]],
  ["keep", ["video", "ondemand", "image", "motion"]],
  ["send", ["relay", "kvs"]],
];

const FLAGS = /** @type {Record<string, string>} */ (Object.fromEntries(OUTPUTS.map(([flag, name]) => [name, flag])));

/** The names of all outputs by group; installed outputs are the group "installed". @returns {typeof GROUPS} */
export function groups() {
  const installed = installedSwitches.value.map(([name]) => name);
  return installed.length ? [...GROUPS, ["installed", installed]] : GROUPS;
}

/** @param {string} name @returns {string | undefined} the channel field that switches the output on */
const flagOf = (name) => FLAGS[name] ?? installedSwitches.value.find(([output]) => output === name)?.[1];

const filled = (/** @type {unknown} */ value) =>
  (Array.isArray(value) ? value.length > 0 : typeof value === "string" && value.trim() !== "");

/**
 * The editor section with settings that the output needs before it can be switched on. null: none.
 * @param {Channel} channel
 * @param {string} name
 * @returns {"transcoding" | "watermark" | "relay" | null}
 */
export function needs(channel, name) {
  if (name === "codec" && !RUNGS.some((rung) => isOn(channel[rung]))) return "transcoding";
  if (name === "watermark" && !filled(channel["WaterMarkText"]) && !filled(channel["ImageURL"])) return "watermark";
  if (name === "relay" && !filled(channel["relayURL"])) return "relay";
  return null;
}

/** @param {Channel} channel @param {string} name @returns {boolean} whether the channel's flag is on */
export function flagged(channel, name) {
  if (name === "watermark") return isOn(channel["isWaterMark"]) || isOn(channel["isImageWaterMark"]);
  const flag = flagOf(name);
  return flag !== undefined && isOn(channel[flag]);
}

/** @param {Channel} channel @param {string} name @param {boolean} on @returns {Record<string, boolean>} */
function changes(channel, name, on) {
  if (name === "watermark") {
    // A watermark is a text, a picture or both; on switches on the parts that are configured.
    return { isWaterMark: on && filled(channel["WaterMarkText"]), isImageWaterMark: on && filled(channel["ImageURL"]) };
  }
  const flag = flagOf(name);
  return flag ? { [flag]: on } : {};
}

/**
 * Sets the channel's flag, which a live stream follows. If the output was switched for this push only, the flag may
 * already have the wanted value, so nothing would change; then the live output is switched too.
 * @param {Channel} channel
 * @param {string} name
 * @param {boolean} on
 * @returns {Promise<Channel>} the changed channel
 */
export async function turn(channel, name, on) {
  const path = `/videostream/${encodeURIComponent(channel.id)}`;
  const now = await api.put(path, changes(channel, name, on));
  /** @type {Session} */
  const session = await api.get(`${path}/session`);
  const output = session.state === "idle" ? undefined : session.outputs.find((one) => one.name === name);
  if (output && output.enabled !== on) await api.post(`${path}/outputs/${name}`, { enabled: on });
  return now;
}
