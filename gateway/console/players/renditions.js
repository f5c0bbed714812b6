/** The addresses of a stream's renditions. */

import { AUTO, SOURCE } from "./quality.js";

/** @typedef {import("./types.js").Address} Address */
/** @typedef {import("./types.js").Status} Status */

/**
 * Returns those of HLS: one playlist has all of them, and the captions.
 * @param {Status} status
 * @returns {Address[]}
 */
export function hlsRenditions({ ladder, renditions = [], captions = [] }) {
  const source = captions.length ? [{ name: SOURCE, bitrate: 0 }] : [];
  const all = ladder === "hls" ? [...source, { name: AUTO, bitrate: 0 }, ...renditions] : source;
  return all.map(({ name, ...known }) => ({ id: name, ...known, file: "index.m3u8" }));
}
