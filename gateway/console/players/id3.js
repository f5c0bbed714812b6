/** Reads the texts of an ID3 tag, in which HLS and DASH carry timed metadata. */

const HEADER = 10; // bytes, of the tag and of each frame
const MOST = 16; // frames
const ENCODINGS = ["iso-8859-1", "utf-16", "utf-16be", "utf-8"];

/**
 * Returns the texts of the text frames (`T***`); of `TXXX`, the value without its description.
 *
 * Source: ID3 tag version 2.4.0, "Main Structure" §3 and "Native Frames" §4.2; version 2.3.0 §3.3.
 * @param {Uint8Array} bytes  of one tag; more tags may follow
 * @returns {string[]}  empty for other and damaged bytes
 */
export function id3Texts(bytes) {
  const version = bytes[3] ?? 0;
  if (letters(bytes, 0, 3) !== "ID3" || version < 3 || version > 4) return [];
  const end = Math.min(bytes.length, HEADER + size(bytes, 6, 7));
  const texts = [];
  let at = HEADER;
  if ((bytes[5] ?? 0) & 0x40) at += version === 4 ? size(bytes, at, 7) : 4 + size(bytes, at, 8); // an extended header
  for (let frames = 0; frames < MOST && at + HEADER <= end; frames++) {
    const id = letters(bytes, at, 4);
    const next = at + HEADER + size(bytes, at + 4, version === 4 ? 7 : 8);
    if (!/^[A-Z0-9]{4}$/.test(id) || next > end) break;
    if (id.startsWith("T")) texts.push(textOf(bytes.subarray(at + HEADER, next), id === "TXXX"));
    at = next;
  }
  return texts;
}

/** @param {Uint8Array} frame @param {boolean} described  whether a description comes first */
function textOf(frame, described) {
  const all = new TextDecoder(ENCODINGS[frame[0] ?? 0] ?? "utf-8").decode(frame.subarray(1));
  const parts = all.replace(/\0+$/, "").split("\0");
  return ((described ? parts[1] : parts[0]) ?? "").replace(/^\ufeff/, ""); // each part may have its own byte order mark
}

/** @param {Uint8Array} bytes @param {number} at @param {number} bits  of each byte that count @returns {number} */
function size(bytes, at, bits) {
  return bytes.subarray(at, at + 4).reduce((sum, byte) => sum * 2 ** bits + (byte & (2 ** bits - 1)), 0);
}

/** @param {Uint8Array} bytes @param {number} at @param {number} count */
function letters(bytes, at, count) { return String.fromCharCode(...bytes.subarray(at, at + count)); }
