/** Reads track headers and frames from the tags of a live FLV stream. Uses no I/O. */

import { AUDIO, compositionAt, fourCC, shownAt, u8, VIDEO } from "./flv-tags.js";

/**
 * The codec of a track: the FourCC of Enhanced RTMP V2, also for the codecs with older numbers.
 * @typedef {"avc1" | "hvc1" | "av01" | "vp09" | "mp4a" | "Opus" | ".mp3" | string} FourCC
 */

/**
 * - `head`: the file header, which says what tracks there are
 * - `config`: a track's sequence header, without the FLV bytes
 * - `frame`: a coded picture or piece of sound; times are milliseconds
 * @typedef {{kind: "head", video: boolean, audio: boolean}} Head
 * @typedef {{kind: "config", track: "video" | "audio", codec: FourCC, config: Uint8Array<ArrayBuffer>}} Config
 * @typedef {{kind: "frame", track: "video" | "audio", codec: FourCC, key: boolean, dts: number, pts: number,
 *   data: Uint8Array<ArrayBuffer>}} Frame
 * @typedef {Head | Config | Frame} FlvEvent
 */

/**
 * Reads the frames of one FLV stream.
 *
 * Sources: "Adobe Flash Video File Format Specification" 10.1, Annex E; "Enhanced RTMP (V2)". Tags of other codecs and
 * packet types are left out, because the gateway sends each frame in one form only.
 * @param {import("./flv-tags.js").Tag[]} tags
 * @returns {FlvEvent[]}
 */
export function eventsOf(tags) {
  /** @type {FlvEvent[]} */
  const events = [];
  for (const tag of tags) {
    const { type, time, body } = tag;
    const event = type === VIDEO ? video(tag) : type === AUDIO ? audio(body, time) : type === 0 ? head(body) : null;
    if (event) events.push(event);
  }
  return events;
}

/** @param {Uint8Array<ArrayBuffer>} bytes @returns {Head} */
function head(bytes) {
  const flags = u8(bytes, 4);
  return { kind: "head", video: (flags & 1) !== 0, audio: (flags & 4) !== 0 };
}

/**
 * @param {import("./flv-tags.js").Tag} tag
 * @returns {FlvEvent | null}
 */
function video(tag) {
  const { time: dts, body } = tag;
  if (body.length < 5) return null;
  const first = u8(body, 0);
  const key = (first >> 4 & 7) === 1;
  const enhanced = (first & 0x80) !== 0;
  if (!enhanced && (first & 0x0f) !== 7) return null; // 7: AVC
  const codec = enhanced ? fourCC(body) : "avc1";
  const packet = enhanced ? first & 0x0f : u8(body, 1);
  if (packet === 0) return { kind: "config", track: "video", codec, config: body.subarray(5) };
  const at = compositionAt(body);
  if ((packet !== 1 && !(enhanced && packet === 3)) || (at && body.length < at + 3)) return null;
  return { kind: "frame", track: "video", codec, key, dts, pts: shownAt(tag), data: body.subarray(at ? at + 3 : 5) };
}

/**
 * @param {Uint8Array<ArrayBuffer>} body
 * @param {number} dts
 * @returns {FlvEvent | null}
 */
function audio(body, dts) {
  if (body.length < 2) return null;
  const frame = (/** @type {FourCC} */ codec, /** @type {number} */ at) =>
    /** @type {Frame} */ ({ kind: "frame", track: "audio", codec, key: true, dts, pts: dts, data: body.subarray(at) });
  const format = u8(body, 0) >> 4;
  if (format === 9 && body.length >= 5) { // Enhanced RTMP
    const packet = u8(body, 0) & 0x0f;
    const codec = fourCC(body);
    if (packet === 0) return { kind: "config", track: "audio", codec, config: body.subarray(5) };
    return packet === 1 ? frame(codec, 5) : null;
  }
  if (format === 10) { // AAC
    const packet = u8(body, 1);
    if (packet === 0) return { kind: "config", track: "audio", codec: "mp4a", config: body.subarray(2) };
    return packet === 1 ? frame("mp4a", 2) : null;
  }
  return format === 2 ? frame(".mp3", 1) : null;
}
