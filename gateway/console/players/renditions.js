/** The addresses of a stream's renditions. */

import { AUTO } from "./quality.js";

/** @typedef {import("./types.js").Address} Address */
/** @typedef {import("./types.js").Status} Status */

/**
 * Returns those of HLS: one playlist has all of them.
 * @param {Status} status
 * @returns {Address[]}
 */
export function hlsRenditions({ ladder, renditions = [] }) {
  if (ladder !== "hls") return [];
  return [{ name: AUTO, bitrate: 0 }, ...renditions].map(({ name, bitrate }) => ({ id: name, bitrate, file: "index.m3u8" }));
}
