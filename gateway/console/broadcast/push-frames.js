/** Encodes with WebCodecs and sends each picture as soon as it is encoded (`millrace.frames.v1`). */

import { AUDIO, configuration, END, message, SUBPROTOCOL, VIDEO } from "./frames.js";
import { PictureEncoder } from "./picture-encoder.js";
import { Push } from "./push.js";
import { SoundEncoder } from "./sound-encoder.js";

/** @typedef {import("./sound-encoder.js").Block} Block */

const INTRODUCE = 1000;  // ms that a new connection waits for the configuration of both encoders
const SOUND_BOUND = 4;   // seconds of queued media from which sound is left out too

export class FramesPush extends Push {
  #picture; #sound;
  /** @type {VideoDecoderConfig | null} */
  #video = null;
  /** @type {AudioDecoderConfig | null} */
  #audio = null;
  #introduced = "";
  /** @type {{kind: typeof VIDEO | typeof AUDIO, key: boolean, data: Uint8Array<ArrayBuffer>}[]} */
  #early = [];
  #since = 0;
  #connected = false;
  #begun = false;

  /**
   * @param {import("./types.js").Start} start
   * @param {MessagePort | null} tap  of the sound
   * @param {(report: import("./types.js").Report) => void} report
   */
  constructor(start, tap, report) {
    super(start, SUBPROTOCOL, report);
    this.#picture = new PictureEncoder(
      start.picture, (chunk, config) => this.#coded(chunk, config), () => this.source.drawRgb(),
      (reason) => this.fail("encoder", reason),
    );
    this.#sound = tap && new SoundEncoder(
      start.sound, (chunk, pts, config) => this.#heard(chunk, pts, config), (reason) => this.fail("encoder", reason),
    );
    if (tap) tap.onmessage = (/** @type {MessageEvent<Block>} */ event) => this.#sound?.encode(event.data);
  }

  /** @override */
  opened() {
    this.#connected = true;
    this.#begun = false;
    this.#introduced = "";
    this.#early = [];
    this.#since = performance.now();
    this.#picture.demandKey();
  }

  /** @override */
  closed() {
    this.#connected = false;
    this.#early = [];
  }

  /** @override @param {VideoFrame} frame */
  picture(frame) {
    if (!this.#connected) return frame.close();
    if (this.bitrateControl.mustDrop(this.link.queued)) this.late++;
    else if (this.#picture.busy) this.busy++;
    else return this.#picture.encode(frame);
    frame.close();
  }

  /** @override */
  bitrateChanged() {
    this.#picture.bitrate = Math.max(100_000, this.bitrateControl.bitrate - this.start.sound.bitrate);
  }

  /** @override */
  async finish() {
    await Promise.allSettled([this.#picture.flush(), this.#sound?.flush()]); // a failed encoder has nothing more to send
    this.link.send(END);
  }

  /** @override */
  release() {
    super.release();
    this.#picture.close();
    this.#sound?.close();
  }

  /** @param {EncodedVideoChunk} chunk @param {VideoDecoderConfig} config */
  #coded(chunk, config) {
    this.#video = config;
    if (this.#connected) this.#out(VIDEO, chunk.type === "key", message(VIDEO, chunk, chunk.timestamp));
  }

  /** @param {EncodedAudioChunk} chunk @param {number} pts @param {AudioDecoderConfig} config */
  #heard(chunk, pts, config) {
    this.#audio = config;
    if (this.#connected && this.bitrateControl.seconds(this.link.queued) < SOUND_BOUND) this.#out(AUDIO, true, message(AUDIO, chunk, pts));
  }

  /**
   * Sends nothing before the configuration, and no picture before a key frame.
   * @param {typeof VIDEO | typeof AUDIO} kind
   * @param {boolean} key
   * @param {Uint8Array<ArrayBuffer>} data
   */
  #out(kind, key, data) {
    if (this.#video === null || (this.#audio === null && this.#sound !== null && performance.now() - this.#since < INTRODUCE)) {
      this.#early.push({ kind, key, data });
      return;
    }
    this.#introduce();
    for (const early of this.#early) this.#send(early.kind, early.key, early.data);
    this.#early = [];
    this.#send(kind, key, data);
  }

  /** @param {typeof VIDEO | typeof AUDIO} kind @param {boolean} key @param {Uint8Array<ArrayBuffer>} data */
  #send(kind, key, data) {
    if (kind === VIDEO) {
      if (!this.#begun && !key) return; // encoded for the connection before
      this.#begun = true;
      this.frames++;
    }
    this.link.send(data);
  }

  #introduce() {
    const { width, height, frameRate } = this.start.picture;
    const said = configuration(this.#video && { config: this.#video, width, height, frameRate }, this.#audio);
    if (said === this.#introduced) return;
    this.#introduced = said;
    this.link.send(said);
  }
}
