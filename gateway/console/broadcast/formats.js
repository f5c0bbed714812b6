/** Finds the formats that this browser can encode, and selects the best one for the gateway. */

import { pictureSettings } from "./picture-encoder.js";
import { CHANNELS, RATE } from "./sound.js";
import { soundSettings } from "./sound-encoder.js";

/** @typedef {import("./types.js").PictureFormat} PictureFormat */
/** @typedef {import("./types.js").SoundFormat} SoundFormat */

// Simple profiles first: all decoders support them, and encoders do not reorder pictures in them.
const PROFILES = ["42E0", "4D00", "6400"];

// Levels by macroblocks per second (H.264 table A-1), as the last two digits of a codec string.
const LEVELS = /** @type {const} */ ([[40_500, "1E"], [108_000, "1F"], [216_000, "20"], [245_760, "28"], [522_240, "2A"], [983_040, "33"]]);

// Formats that the gateway copies come first, those that it has to transcode last. Chromium writes WebM for each
// picture, but MP4 only at key frames, seconds later. Safari supports only MP4.
const CONTAINERS = [
  "video/webm;codecs=h264,opus",
  "video/x-matroska;codecs=avc1,opus",
  "video/mp4;codecs=avc1.42E01F,mp4a.40.2",
  "video/mp4;codecs=avc1.42E01F,opus",
  "video/mp4",
  "video/webm;codecs=vp9,opus",
  "video/webm;codecs=vp8,opus",
  "video/webm",
];

/**
 * @param {Omit<PictureFormat, "codec">} wish
 * @returns {Promise<PictureFormat | null>} null if this browser cannot encode H.264
 */
export async function pictureFormat(wish) {
  if (!("VideoEncoder" in globalThis)) return null;
  const macroblocks = Math.ceil(wish.width / 16) * Math.ceil(wish.height / 16) * wish.frameRate;
  const fitting = LEVELS.filter(([most]) => most >= macroblocks).map(([, level]) => level);
  for (const level of fitting) {
    for (const profile of PROFILES) {
      const format = { ...wish, codec: `avc1.${profile}${level}` };
      if ((await VideoEncoder.isConfigSupported(pictureSettings(format)).catch(() => null))?.supported) return format;
    }
  }
  return null;
}

/**
 * @param {number} bitrate
 * @returns {Promise<SoundFormat | null>} AAC if the browser can encode it, because it needs no transcoding
 */
export async function soundFormat(bitrate) {
  if (!("AudioEncoder" in globalThis)) return null;
  for (const codec of /** @type {const} */ (["mp4a.40.2", "opus"])) {
    const format = { codec, sampleRate: RATE, channels: CHANNELS, bitrate };
    if ((await AudioEncoder.isConfigSupported(soundSettings(format)).catch(() => null))?.supported) return format;
  }
  return null;
}

/** @returns {string | null} type for a MediaRecorder; null if there is no MediaRecorder */
export function containerFormat() {
  if (!("MediaRecorder" in globalThis)) return null;
  return CONTAINERS.find((type) => MediaRecorder.isTypeSupported(type)) ?? null;
}

/**
 * Returns a size with the camera's aspect ratio within the chosen size; both sides are even, as H.264 requires.
 * @param {{width?: number, height?: number}} source  of the camera or screen; if unknown, the chosen size is used
 * @param {readonly [number, number]} chosen
 * @returns {[number, number]}
 */
export function within({ width = 0, height = 0 }, chosen) {
  const even = (/** @type {number} */ n) => Math.max(2, Math.round(n / 2) * 2);
  if (!width || !height) return [even(chosen[0]), even(chosen[1])];
  const upright = height > width;
  const [long, short] = chosen;
  const scale = Math.min(1, (upright ? short : long) / width, (upright ? long : short) / height);
  return [even(width * scale), even(height * scale)];
}

/**
 * Returns the bit rate for moving pictures: about 0.1 bit per pixel, less at high frame rates.
 * @param {number} width
 * @param {number} height
 * @param {number} frameRate
 */
export function usualBitrate(width, height, frameRate) {
  const bits = width * height * 30 * 0.09 * Math.sqrt(frameRate / 30);
  return Math.round(Math.max(500_000, bits) / 50_000) * 50_000;
}
