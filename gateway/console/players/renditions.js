/** The addresses of a stream's renditions. */

import { AUTO } from "./quality.js";
import { streamName } from "./status.js";

/** @typedef {import("./types.js").Address} Address */
/** @typedef {import("./types.js").Status} Status */

/**
 * Returns those of FLV: each is a separate stream.
 * @param {Status} status
 * @returns {Address[]}
 */
export function flvRenditions({ renditions = [] }) {
  return renditions.filter(({ outputs }) => outputs.includes("flv"))
    .map(({ name, bitrate }) => ({ id: name, file: `../${encodeURIComponent(`${streamName()}@${name}`)}/live.flv`, bitrate }));
}

/**
 * Returns those of HLS: one playlist has all of them.
 * @param {Status} status
 * @returns {Address[]}
 */
export function hlsRenditions({ ladder, renditions = [] }) {
  if (ladder !== "hls") return [];
  return [{ name: AUTO, bitrate: 0 }, ...renditions].map(({ name, bitrate }) => ({ id: name, bitrate, file: "index.m3u8" }));
}
