/** One idea: turning an output on or off so that it holds: now, if the channel is live, and for every push to come. */

import { api } from "./api.js";
import { isOn } from "./channel.js";

/** @typedef {import("./channel.js").Channel} Channel */
/** @typedef {import("./channel.js").Session} Session */

/** Outputs in the order in which operators reach for them, with the flag that turns each on. */
export const SWITCHES = /** @type {const} */ ([
  ["video", "isVideo"], ["ondemand", "isOnDemand"], ["image", "isImage"], ["motion", "isMotion"], ["codec", "isCodec"], ["watermark", "isWaterMark"],
  ["relay", "isRelay"], ["kvs", "isKvs"], ["flv", "isFlv"], ["hls", "isHls"], ["cmaf", "isCMAF"],
]);

/** @typedef {typeof SWITCHES[number][0]} OutputName */

const RUNGS = ["ld", "sd", "hd", "ud"];
const filled = (/** @type {unknown} */ value) => (Array.isArray(value) ? value.length > 0 : typeof value === "string" && value.trim() !== "");

/**
 * What an output still needs before it can be turned on: the section of the editor that has it. null: nothing.
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

/** @param {Channel} channel @param {string} name @returns {boolean} what the channel itself says */
export function flagged(channel, name) {
  if (name === "watermark") return isOn(channel["isWaterMark"]) || isOn(channel["isImageWaterMark"]);
  const flag = SWITCHES.find(([output]) => output === name)?.[1];
  return flag !== undefined && isOn(channel[flag]);
}

/** @param {Channel} channel @param {string} name @param {boolean} on @returns {Record<string, boolean>} */
function changes(channel, name, on) {
  if (name === "watermark") {
    // A watermark is a text, a picture or both: on means what there is.
    return { isWaterMark: on && filled(channel["WaterMarkText"]), isImageWaterMark: on && filled(channel["ImageURL"]) };
  }
  const flag = SWITCHES.find(([output]) => output === name)?.[1];
  return flag ? { [flag]: on } : {};
}

/**
 * Sets the channel's flag, which a live stream follows by itself. Only where somebody had switched the output for this
 * push alone (the flag stays what it was then, and nothing follows), the live output is switched too.
 * @param {Channel} channel
 * @param {string} name
 * @param {boolean} on
 * @returns {Promise<Channel>} as it is now
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
