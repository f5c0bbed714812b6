/** The addresses of a stream's renditions as FLV: each is a separate stream. */

import { streamName } from "./status.js";

/**
 * @param {import("./types.js").Status} status
 * @returns {import("./types.js").Address[]}
 */
export function flvRenditions({ renditions = [] }) {
  return renditions.filter(({ outputs }) => outputs.includes("flv"))
    .map(({ name, bitrate }) => ({ id: name, file: `../${encodeURIComponent(`${streamName()}@${name}`)}/live.flv`, bitrate }));
}
