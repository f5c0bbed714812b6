/** Makes the decoder configurations of WebCodecs from the sequence headers of FLV. Pure functions. */

/** @typedef {import("./flv-demuxer.js").FourCC} FourCC */

const SAMPLE_RATES = [96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350];

/**
 * Returns the configuration for a VideoDecoder; null for an unknown codec or a broken header.
 * @param {FourCC} codec
 * @param {Uint8Array<ArrayBuffer>} config
 * @returns {VideoDecoderConfig | null}
 */
export function videoConfig(codec, config) {
  const name = videoName(codec, config);
  if (name === null) return null;
  // Without the latency hint some decoders hold pictures back, to decode several at once.
  const common = { codec: name, optimizeForLatency: true };
  // The registrations of AV1 and VP9 have no description: their key frames contain it.
  return codec === "avc1" || codec === "hvc1" ? { ...common, description: config } : common;
}

/** @param {FourCC} codec @param {Uint8Array} config @returns {string | null} the codec string, as in RFC 6381 */
function videoName(codec, config) {
  const at = (/** @type {number} */ i) => config[i] ?? 0;
  const two = (/** @type {number} */ n) => String(n).padStart(2, "0");
  if (codec === "avc1" && config.length >= 7) { // ISO/IEC 14496-15 §5.3.3.1
    return `avc1.${[1, 2, 3].map((i) => at(i).toString(16).padStart(2, "0")).join("")}`;
  }
  if (codec === "hvc1" && config.length >= 23) { // ISO/IEC 14496-15 Annex E.3
    const space = ["", "A", "B", "C"][at(1) >> 6] ?? "";
    let flags = 0;
    for (let bit = 0; bit < 32; bit++) if (at(2 + (bit >> 3)) & 0x80 >> (bit & 7)) flags |= 1 << bit; // in reverse order
    const constraints = [...config.subarray(6, 12)].map((byte) => byte.toString(16).toUpperCase());
    while (constraints.at(-1) === "0") constraints.pop();
    return [`hvc1.${space}${at(1) & 31}`, (flags >>> 0).toString(16).toUpperCase(), `${at(1) & 32 ? "H" : "L"}${at(12)}`, ...constraints].join(".");
  }
  if (codec === "av01" && config.length >= 4) { // AV1 in ISO-BMFF §5
    const bits = at(2) & 0x40 ? (at(2) & 0x20 ? 12 : 10) : 8;
    return `av01.${at(1) >> 5}.${two(at(1) & 31)}${at(2) & 0x80 ? "H" : "M"}.${two(bits)}`;
  }
  if (codec === "vp09" && config.length >= 8) { // "VP Codec ISO Media File Format Binding", with version and flags before
    return `vp09.${two(at(4))}.${two(at(5))}.${two(at(6) >> 4)}`;
  }
  return null;
}

/**
 * Returns the configuration for an AudioDecoder; null for an unknown codec or a broken header.
 * @param {FourCC} codec
 * @param {Uint8Array<ArrayBuffer>} config  empty for MP3
 * @returns {AudioDecoderConfig | null}
 */
export function audioConfig(codec, config) {
  // The decoder finds the real values in the frames of MP3.
  if (codec === ".mp3") return { codec: "mp3", sampleRate: 44100, numberOfChannels: 2 };
  if (codec === "Opus") { // RFC 7845 §5.1
    const channels = config[9] ?? 0;
    return config.length >= 19 && channels ? { codec: "opus", sampleRate: 48000, numberOfChannels: channels, description: config } : null;
  }
  return codec === "mp4a" ? aac(config) : null;
}

/**
 * Reads an AudioSpecificConfig (ISO/IEC 14496-3 §1.6.2.1).
 * @param {Uint8Array<ArrayBuffer>} config
 * @returns {AudioDecoderConfig | null}
 */
function aac(config) {
  let at = 0;
  const bits = (/** @type {number} */ count) => {
    let value = 0;
    for (; count > 0; count--, at++) value = value << 1 | (config[at >> 3] ?? 0) >> (7 - (at & 7)) & 1;
    return value;
  };
  let type = bits(5);
  if (type === 31) type = 32 + bits(6);
  const index = bits(4);
  const sampleRate = index === 15 ? bits(24) : SAMPLE_RATES[index];
  const layout = bits(4);
  if (at > config.length * 8 || type === 0 || !sampleRate || layout > 7) return null;
  // Layout 0 has its channels in the frames; 7 means eight channels.
  return { codec: `mp4a.40.${type}`, sampleRate, numberOfChannels: layout === 0 ? 2 : layout === 7 ? 8 : layout, description: config };
}
