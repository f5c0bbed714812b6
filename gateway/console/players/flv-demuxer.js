/** Splits a live FLV stream into track headers and frames. Uses no I/O: bytes in, events out. */

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

/** The bytes are not FLV. */
export class FlvError extends Error {}

const AUDIO = 8, VIDEO = 9, SCRIPT = 18;
const HEADER_BYTES = 13; // with PreviousTagSize0
const TAG_BYTES = 11;    // of a tag's header; its body follows, and 4 bytes of PreviousTagSize

/**
 * One FLV stream. It keeps the bytes of one unfinished tag: at most 16 MB, because a tag's size has 24 bits.
 *
 * Sources: "Adobe Flash Video File Format Specification" 10.1, Annex E; "Enhanced RTMP (V2)". Tags of other codecs and
 * packet types are left out, because the gateway sends each frame in one form only.
 */
export class FlvDemuxer {
  /** @type {Uint8Array<ArrayBuffer>[]} */
  #parts = [];
  #length = 0;            // bytes in #parts
  #need = HEADER_BYTES;   // bytes until the next step is possible; smaller input is only stored
  #begun = false;
  #last = NaN;            // the latest time, unwrapped

  /**
   * Returns the events that these bytes complete. Throws FlvError; after that the object must not be used.
   * @param {Uint8Array<ArrayBuffer>} data
   * @returns {FlvEvent[]}
   */
  push(data) {
    this.#parts.push(data);
    this.#length += data.length;
    if (this.#length < this.#need) return [];
    const bytes = joined(this.#parts, this.#length);
    /** @type {FlvEvent[]} */
    const events = [];
    let at = 0;
    if (!this.#begun) {
      events.push(head(bytes));
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
      const body = bytes.subarray(at + TAG_BYTES, at + TAG_BYTES + size);
      const dts = this.#time(u24(bytes, at + 4) | u8(bytes, at + 7) << 24);
      const event = type === VIDEO ? video(body, dts) : type === AUDIO ? audio(body, dts) : null;
      if (event) events.push(event);
      at += this.#need;
    }
    this.#parts = at < bytes.length ? [bytes.subarray(at)] : [];
    this.#length = bytes.length - at;
    return events;
  }

  /**
   * Times have 32 bits and wrap after 49 days.
   * @param {number} low  milliseconds, the low 32 bits
   */
  #time(low) {
    this.#last = Number.isNaN(this.#last) ? low >>> 0 : this.#last + ((low - this.#last) | 0);
    return this.#last;
  }
}

/** @param {Uint8Array<ArrayBuffer>} bytes @returns {Head} */
function head(bytes) {
  if (u24(bytes, 0) !== 0x464c56 || u8(bytes, 3) !== 1) throw new FlvError("no FLV header");
  const flags = u8(bytes, 4);
  return { kind: "head", video: (flags & 1) !== 0, audio: (flags & 4) !== 0 };
}

/**
 * @param {Uint8Array<ArrayBuffer>} body
 * @param {number} dts
 * @returns {FlvEvent | null}
 */
function video(body, dts) {
  if (body.length < 5) return null;
  const first = u8(body, 0);
  const key = (first >> 4 & 7) === 1;
  if (first & 0x80) {
    const codec = fourCC(body);
    const packet = first & 0x0f;
    if (packet === 0) return { kind: "config", track: "video", codec, config: body.subarray(5) };
    // CodedFrames of H.264 and HEVC begin with a composition time, CodedFramesX (3) has none.
    const hasTime = packet === 1 && (codec === "hvc1" || codec === "avc1");
    if ((packet !== 1 && packet !== 3) || (hasTime && body.length < 8)) return null;
    return { kind: "frame", track: "video", codec, key, dts, pts: dts + (hasTime ? i24(body, 5) : 0), data: body.subarray(hasTime ? 8 : 5) };
  }
  if ((first & 0x0f) !== 7) return null; // 7: AVC
  const packet = u8(body, 1);
  if (packet === 0) return { kind: "config", track: "video", codec: "avc1", config: body.subarray(5) };
  return packet === 1 ? { kind: "frame", track: "video", codec: "avc1", key, dts, pts: dts + i24(body, 2), data: body.subarray(5) } : null;
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

/** @param {Uint8Array<ArrayBuffer>} body */
function fourCC(body) { return String.fromCharCode(...body.subarray(1, 5)); }

/** @param {Uint8Array} bytes @param {number} at */
function u8(bytes, at) { return bytes[at] ?? 0; }

/** @param {Uint8Array} bytes @param {number} at */
function u24(bytes, at) { return u8(bytes, at) << 16 | u8(bytes, at + 1) << 8 | u8(bytes, at + 2); }

/** @param {Uint8Array} bytes @param {number} at */
function i24(bytes, at) { return u24(bytes, at) << 8 >> 8; }

/**
 * @param {Uint8Array<ArrayBuffer>[]} parts
 * @param {number} length  of all
 */
function joined(parts, length) {
  const [only] = parts;
  if (only && parts.length === 1) return only;
  const all = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}
