/** Encodes pictures as H.264 that the gateway can copy: no reordering, a key frame every two seconds. */

const KEY_EVERY = 2_000_000; // µs
const DEPTH = 3;             // number of pictures in the encoder from which it counts as too slow
const FORGIVEN = 3;          // encoders that may fail within a minute before an error is reported

/**
 * @typedef {(chunk: EncodedVideoChunk, config: VideoDecoderConfig) => void} Use
 */

export class PictureEncoder {
  #format; #use; #replaced; #failed;
  /** @type {VideoEncoder} */
  #encoder;
  /** @type {VideoDecoderConfig | null} */
  #config = null;
  #lastKey = -Infinity;
  #bitrate;
  /** @type {number[]} */
  #failures = [];

  /**
   * @param {import("./types.js").PictureFormat} format
   * @param {Use} use
   * @param {() => void} replaced  called when an encoder has failed and another one is used
   * @param {(reason: string) => void} failed  called when it gives up
   */
  constructor(format, use, replaced, failed) {
    this.#format = format;
    this.#bitrate = format.bitrate;
    this.#use = use;
    this.#replaced = replaced;
    this.#failed = failed;
    this.#encoder = this.#make();
  }

  /** Whether it is still busy with earlier pictures. */
  get busy() { return this.#encoder.encodeQueueSize >= DEPTH; }

  /** @param {number} bitrate  bit/s */
  set bitrate(bitrate) {
    if (bitrate === this.#bitrate) return;
    this.#bitrate = bitrate;
    this.#encoder.configure(this.#settings());
  }

  /** Makes the next picture a key frame. */
  demandKey() { this.#lastKey = -Infinity; }

  /** @param {VideoFrame} frame  is closed here */
  encode(frame) {
    const keyFrame = frame.timestamp - this.#lastKey >= KEY_EVERY;
    if (keyFrame) this.#lastKey = frame.timestamp;
    try {
      this.#encoder.encode(frame, { keyFrame });
    } finally {
      frame.close();
    }
  }

  /** Encodes all remaining pictures. */
  async flush() {
    if (this.#encoder.state === "configured") await this.#encoder.flush();
  }

  close() { if (this.#encoder.state !== "closed") this.#encoder.close(); }

  #make() {
    const encoder = new VideoEncoder({
      output: (chunk, metadata) => {
        if (metadata?.decoderConfig) this.#config = metadata.decoderConfig;
        if (this.#config !== null) this.#use(chunk, this.#config);
      },
      error: (error) => this.#broken(encoder, error),
    });
    encoder.configure(this.#settings());
    return encoder;
  }

  /**
   * Replaces a failed encoder: a crash of the graphics process ends its encoders, but a new one may work.
   * @param {VideoEncoder} encoder
   * @param {DOMException} error
   */
  #broken(encoder, error) {
    if (encoder !== this.#encoder) return;
    const time = performance.now();
    this.#failures = [...this.#failures.filter((t) => time - t < 60_000), time];
    if (this.#failures.length > FORGIVEN) return this.#failed(error.message);
    this.#config = null;
    this.demandKey();
    this.#encoder = this.#make();
    this.#replaced();
  }

  /** @returns {VideoEncoderConfig} */
  #settings() {
    const { codec, width, height, frameRate } = this.#format;
    return pictureSettings({ codec, width, height, frameRate, bitrate: this.#bitrate });
  }
}

/**
 * @param {import("./types.js").PictureFormat} format
 * @returns {VideoEncoderConfig}
 */
export function pictureSettings({ codec, width, height, frameRate, bitrate }) {
  return { codec, width, height, bitrate, framerate: frameRate, latencyMode: "realtime", avc: { format: "avc" } };
}
