/** One idea: the bytes of a MediaRecorder, one recording for each connection, paused while the network is behind. */

import { Push } from "./push.js";

const WORTH = 0.7; // a bit rate this much lower is worth a new recording, whose begin viewers notice

/**
 * A recorder lives on the page and knows neither connections nor their queues: it is told from here when to begin a
 * new file (a connection has to begin with the file's header), and when to pause.
 */
export class ContainerPush extends Push {
  #take = 0;
  #held = false;
  #connected = false;
  #asked; // bit/s of the present recording
  /** @type {WritableStreamDefaultWriter<VideoFrame> | null} */
  #writer = null;
  /** @type {((value?: unknown) => void) | null} */
  #finished = null;

  /**
   * @param {import("./types.js").Start} start
   * @param {(report: import("./types.js").Report) => void} report
   */
  constructor(start, report) {
    super(start, null, report);
    this.#asked = start.picture.bitrate;
  }

  /** Where composed pictures go. @param {WritableStream<VideoFrame>} writable */
  set output(writable) { this.#writer = writable.getWriter(); }

  /** @override */
  opened() {
    this.#connected = true;
    this.#begin();
  }

  /** @override */
  closed() {
    this.#connected = false;
    this.#take++; // what still comes of the last recording is not for the next connection
  }

  /** @override @param {VideoFrame} frame */
  picture(frame) {
    const held = this.#connected && this.pace.holds(this.link.queued);
    if (held !== this.#held) {
      this.#held = held;
      this.say({ say: "hold", on: held });
    }
    if (held) this.late++;
    else if (this.#connected) this.frames++;
    if (this.#writer === null) return frame.close();
    // The recorder's track takes a picture at once or not at all; it closes what it takes.
    this.#writer.write(frame).catch(() => { this.#writer = null; });
  }

  /** @param {number} take @param {ArrayBuffer} data */
  media(take, data) { if (take === this.#take) this.link.send(data); }

  /** The page has given everything of this recording. @param {number} take */
  finished(take) { if (take === this.#take) this.#finished?.(); }

  /** @override */
  paced() {
    const bitrate = this.#picture();
    const worth = bitrate <= this.#asked * WORTH || (bitrate > this.#asked && !this.pace.slow);
    if (worth) this.link.renew(); // a recorder's bit rate cannot be changed: `opened` begins another
  }

  /** @override */
  async finish() {
    if (!this.#connected) return;
    await new Promise((done) => {
      this.#finished = done;
      setTimeout(done, 1500); // a recorder that has failed says nothing
      this.say({ say: "finish", take: this.#take });
    });
  }

  /** @override */
  release() {
    super.release();
    const writer = this.#writer;
    this.#writer = null;
    writer?.close().catch(() => undefined); // its track may have ended before
  }

  #begin() {
    this.#take++;
    this.#held = false;
    this.#asked = this.#picture();
    this.say({ say: "record", take: this.#take, bitrate: this.#asked });
  }

  /** @returns {number} bit/s of the picture alone */
  #picture() { return Math.max(100_000, this.pace.bitrate - this.start.sound.bitrate); }
}
