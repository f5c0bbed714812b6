/** Encodes the samples of the sound tap as AAC if the browser can, else as Opus, with times of the page's clock. */

import { Timeline } from "./timeline.js";

/**
 * A block of the tap: planar samples, and the number of its first sample in the tap's count.
 * @typedef {{at: number, samples: Float32Array<ArrayBuffer>}} Block
 */

/** @typedef {(chunk: EncodedAudioChunk, pts: number, config: AudioDecoderConfig) => void} Use */

export class SoundEncoder {
  #format; #encoder;
  #timeline = new Timeline();
  /** @type {AudioDecoderConfig | null} */
  #config = null;
  #expected = -1;
  #shift = 0; // samples that the encoder's count is behind the tap's, because the encoder ignores gaps

  /**
   * @param {import("./types.js").SoundFormat} format
   * @param {Use} use
   * @param {(reason: string) => void} failed
   */
  constructor(format, use, failed) {
    this.#format = format;
    this.#encoder = new AudioEncoder({
      output: (chunk, metadata) => {
        if (metadata?.decoderConfig) this.#config = metadata.decoderConfig;
        if (this.#config !== null) use(chunk, this.#timeline.at(chunk.timestamp + this.#shift), this.#config);
      },
      error: (error) => failed(error.message),
    });
    this.#encoder.configure(soundSettings(format));
  }

  /** @param {Block} block */
  encode({ at, samples }) {
    const { sampleRate, channels } = this.#format;
    const frames = samples.length / channels;
    const micros = (/** @type {number} */ count) => count / sampleRate * 1e6;
    if (this.#expected < 0) this.#expected = at;
    this.#shift += micros(at - this.#expected);
    this.#expected = at + frames;
    const timestamp = micros(at) - this.#shift;
    this.#timeline.learn(micros(at + frames), performance.now() * 1000);
    if (this.#encoder.state !== "configured") return;
    const data = new AudioData({ format: "f32-planar", sampleRate, numberOfFrames: frames, numberOfChannels: channels, timestamp,
      data: samples });
    this.#encoder.encode(data);
    data.close();
  }

  /** Encodes all remaining samples. */
  async flush() {
    if (this.#encoder.state === "configured") await this.#encoder.flush();
  }

  close() { if (this.#encoder.state !== "closed") this.#encoder.close(); }
}

/**
 * @param {import("./types.js").SoundFormat} format
 * @returns {AudioEncoderConfig}
 */
export function soundSettings({ codec, sampleRate, channels, bitrate }) {
  /** @type {AudioEncoderConfig & {opus?: object, aac?: object}} */
  const settings = { codec, sampleRate, numberOfChannels: channels, bitrate };
  if (codec === "opus") settings.opus = { format: "opus", frameDuration: 20_000 };
  else settings.aac = { format: "aac" };
  return settings;
}
