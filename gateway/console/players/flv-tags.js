/** Splits a live FLV stream into tags. Uses no I/O: bytes in, tags out. */

/** The bytes are not FLV. */
export class FlvError extends Error {}

export const AUDIO = 8, VIDEO = 9, SCRIPT = 18;
const HEADER_BYTES = 13; // with PreviousTagSize0
const TAG_BYTES = 11; // of a tag's header; its body follows, and 4 bytes of PreviousTagSize
const CLOCK = "onMillraceClock";

/**
 * - type 0: the file header
 * - time: decode time, milliseconds; it does not wrap
 * - bytes: the whole tag, or the file header
 * - body: the part of `bytes` after the tag's header; of the file header: all
 * @typedef {{type: number, time: number, bytes: Uint8Array<ArrayBuffer>, body: Uint8Array<ArrayBuffer>}} Tag
 */

/**
 * One FLV stream. It keeps the bytes of one unfinished tag: at most 16 MB, because a tag's size has 24 bits.
 *
 * Source: "Adobe Flash Video File Format Specification" 10.1, Annex E.
 */
export class FlvTags {
  /** @type {Uint8Array<ArrayBuffer>[]} */
  #parts = [];
  #length = 0; // bytes in #parts
  #need = HEADER_BYTES; // bytes until the next step is possible; smaller input is only stored
  #begun = false;
  #last; // the latest time, unwrapped

  /** @param {number} near  a time of the same timeline, of another stream; NaN: none */
  constructor(near = NaN) { this.#last = near; }

  /**
   * Returns the tags that these bytes complete. Throws FlvError; after that the object must not be used.
   * @param {Uint8Array<ArrayBuffer>} data
   * @returns {Tag[]}
   */
  push(data) {
    this.#parts.push(data);
    this.#length += data.length;
    if (this.#length < this.#need) return [];
    const bytes = joined(this.#parts, this.#length);
    /** @type {Tag[]} */
    const tags = [];
    let at = 0;
    if (!this.#begun) {
      const head = bytes.subarray(0, HEADER_BYTES);
      if (u24(head, 0) !== 0x464c56 || u8(head, 3) !== 1) throw new FlvError("no FLV header");
      tags.push({ type: 0, time: 0, bytes: head, body: head });
      this.#begun = true;
      at = HEADER_BYTES;
    }
    for (;;) {
      this.#need = TAG_BYTES;
      if (bytes.length - at < TAG_BYTES) break;
      const size = u24(bytes, at + 1);
      this.#need = TAG_BYTES + size + 4;
      const type = u8(bytes, at);
      if (type !== AUDIO && type !== VIDEO && type !== SCRIPT) throw new FlvError(`a tag of type ${type}`);
      if (bytes.length - at < this.#need) break;
      const tag = bytes.subarray(at, at + this.#need);
      const time = this.#time(u24(tag, 4) | u8(tag, 7) << 24, type);
      tags.push({ type, time, bytes: tag, body: tag.subarray(TAG_BYTES, TAG_BYTES + size) });
      at += this.#need;
    }
    this.#parts = at < bytes.length ? [bytes.subarray(at)] : [];
    this.#length = bytes.length - at;
    return tags;
  }

  /**
   * Times have 32 bits and wrap after 49 days.
   * @param {number} low  milliseconds, the low 32 bits
   * @param {number} type
   */
  #time(low, type) {
    if (type === SCRIPT && low === 0) return 0; // the first metadata have this time, whatever the time of the media is
    this.#last = Number.isNaN(this.#last) ? low >>> 0 : this.#last + ((low - this.#last) | 0);
    return this.#last;
  }
}

/**
 * @param {Tag} tag
 * @returns {number | null}  when the media of the tag's time arrived at the gateway, ms since 1970; null: another tag
 */
export function clockOf({ type, body }) {
  const size = 3 + CLOCK.length;
  if (type !== SCRIPT || body.length !== size + 9 || u8(body, 2) !== CLOCK.length || u8(body, size) !== 0) return null;
  if (String.fromCharCode(...body.subarray(3, size)) !== CLOCK) return null;
  return new DataView(body.buffer, body.byteOffset).getFloat64(size + 1);
}

/** @param {Tag} tag @returns {boolean} whether it has onMetaData, which precede sequence headers */
export function isMetadata({ type, body }) {
  return type === SCRIPT && String.fromCharCode(...body.subarray(3, 13)) === "onMetaData";
}

/** @param {Tag} tag @returns {boolean} whether it has a sequence header */
export function isHeader({ type, body }) {
  const first = u8(body, 0);
  if (type === VIDEO) return first & 0x80 ? (first & 0x0f) === 0 : (first & 0x0f) === 7 && u8(body, 1) === 0;
  if (type === AUDIO) return first >> 4 === 9 ? (first & 0x0f) === 0 : first >> 4 === 10 && u8(body, 1) === 0;
  return false;
}

/** @param {Tag} tag @returns {boolean} whether it has a picture at which decoding can begin */
export function isKey(tag) { return tag.type === VIDEO && (u8(tag.body, 0) >> 4 & 7) === 1 && !isHeader(tag); }

/** The presentation time of a tag's picture or sound, ms. @param {Tag} tag */
export function shownAt({ type, time, body }) {
  const at = type === VIDEO ? compositionAt(body) : 0;
  return at ? time + (u24(body, at) << 8 >> 8) : time;
}

/** The place of the composition time in a video tag; 0: it has none. @param {Uint8Array} body */
export function compositionAt(body) {
  const first = u8(body, 0);
  if (!(first & 0x80)) return (first & 0x0f) === 7 && u8(body, 1) === 1 ? 2 : 0;
  // CodedFrames (1) of H.264 and HEVC have one; CodedFramesX (3) have none.
  return (first & 0x0f) === 1 && /^(avc1|hvc1)$/.test(fourCC(body)) ? 5 : 0;
}

/** @param {Uint8Array} body  of Enhanced RTMP */
export function fourCC(body) { return String.fromCharCode(...body.subarray(1, 5)); }

/**
 * Copies tags, with media times since a moment. Some players read times as signed, and lose those from 2^31 ms on.
 * @param {Tag[]} tags
 * @param {number} base  ms; NaN: not known yet
 * @returns {ArrayBuffer}
 */
export function join(tags, base) {
  const parts = tags.map(({ bytes }) => bytes);
  const { buffer } = joined(parts, parts.reduce((sum, { length }) => sum + length, 0), true);
  const view = new DataView(buffer);
  let at = 0;
  for (const { type, time, bytes } of tags) {
    const ms = time - base;
    if ((type === AUDIO || type === VIDEO) && !Number.isNaN(base)) view.setUint32(at + 4, ms << 8 | ms >> 24 & 0xff);
    at += bytes.length;
  }
  return buffer;
}

/** @param {Uint8Array} bytes @param {number} at */
export function u8(bytes, at) { return bytes[at] ?? 0; }

/** @param {Uint8Array} bytes @param {number} at */
export function u24(bytes, at) { return u8(bytes, at) << 16 | u8(bytes, at + 1) << 8 | u8(bytes, at + 2); }

/**
 * @param {Uint8Array<ArrayBuffer>[]} parts
 * @param {number} length  of all
 * @param {boolean} copy   even if there is only one part
 */
function joined(parts, length, copy = false) {
  const [only] = parts;
  if (only && parts.length === 1 && !copy) return only;
  const all = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}
