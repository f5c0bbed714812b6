/** Writes messages of `millrace.frames.v1` (see docs/api.md). */

export const SUBPROTOCOL = "millrace.frames.v1";

export const VIDEO = 1;
export const AUDIO = 2;
const KEY = 0x80;
const HEADER = 13; // kind, signed pts in µs (8 bytes), duration in µs (4 bytes), all big-endian

/**
 * @param {typeof VIDEO | typeof AUDIO} kind
 * @param {EncodedVideoChunk | EncodedAudioChunk} chunk
 * @param {number} pts  µs
 * @returns {Uint8Array<ArrayBuffer>} one binary message
 */
export function message(kind, chunk, pts) {
  const out = new Uint8Array(HEADER + chunk.byteLength);
  const header = new DataView(out.buffer);
  header.setUint8(0, chunk.type === "key" ? kind | KEY : kind);
  header.setBigInt64(1, BigInt(Math.round(pts)));
  header.setUint32(9, Math.max(0, Math.min(0xffffffff, Math.round(chunk.duration ?? 0))));
  chunk.copyTo(out.subarray(HEADER));
  return out;
}

/**
 * Returns the text message before the first frame. It is sent again when the coding of the frames changes.
 * @param {{config: VideoDecoderConfig, width: number, height: number, frameRate: number} | null} video
 * @param {AudioDecoderConfig | null} audio
 * @returns {string}
 */
export function configuration(video, audio) {
  return JSON.stringify({
    type: "config",
    video: video && {
      codec: video.config.codec,
      width: video.config.codedWidth ?? video.width,
      height: video.config.codedHeight ?? video.height,
      framerate: video.frameRate,
      description: base64(video.config.description),
    },
    audio: audio && {
      codec: audio.codec,
      sampleRate: audio.sampleRate,
      numberOfChannels: audio.numberOfChannels,
      description: base64(audio.description),
    },
  });
}

/** The last message of a push. Without it the server would wait for a new connection. */
export const END = JSON.stringify({ type: "end" });

/**
 * @param {AllowSharedBufferSource | undefined} source
 * @returns {string | null}
 */
function base64(source) {
  if (source === undefined) return null;
  const bytes = ArrayBuffer.isView(source)
    ? new Uint8Array(source.buffer, source.byteOffset, source.byteLength)
    : new Uint8Array(source);
  return btoa(String.fromCharCode(...bytes));
}
