/** Sends the bytes of a MediaRecorder: one recording for each connection, paused while the network is too slow. */

import { Push } from "./push.js";

const WORTH = 0.7; // a new recording, whose start viewers notice, is made only for a bit rate below this share

/**
 * The recorder is on the page and does not know connections and their queues. This class tells it when to begin a new
 * file (each connection has to begin with the file's header) and when to pause.
 */
export class ContainerPush extends Push {
  #take = 0;
  #held = false;
  #connected = false;
  #asked; // bit/s of the current recording
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

  /** Sets the destination of composed pictures. @param {WritableStream<VideoFrame>} writable */
  set output(writable) { this.#writer = writable.getWriter(); }

  /** @override */
  opened() {
    this.#connected = true;
    this.#begin();
  }

  /** @override */
  closed() {
    this.#connected = false;
    this.#take++; // late data of the last recording must not go to the next connection
  }

  /** @override @param {VideoFrame} frame */
  picture(frame) {
    this.drawn();
    if (this.#writer === null) return frame.close();
    // The recorder's track accepts a picture at once or not at all; it closes an accepted picture.
    this.#writer.write(frame).catch(() => { this.#writer = null; });
  }

  /** Counts a picture of the recorder's track, and pauses the recorder while the network is too slow. */
  drawn() {
    const held = this.#connected && this.bitrateControl.mustDrop(this.link.queued);
    if (held !== this.#held) {
      this.#held = held;
      this.say({ say: "hold", on: held });
    }
    if (held) this.late++;
    else if (this.#connected) this.frames++;
  }

  /** @param {number} take @param {ArrayBuffer} data */
  media(take, data) { if (take === this.#take) this.link.send(data); }

  /** Called when the page has sent all data of this recording. @param {number} take */
  finished(take) { if (take === this.#take) this.#finished?.(); }

  /** @override */
  bitrateChanged() {
    const bitrate = this.#picture();
    const worth = bitrate <= this.#asked * WORTH || (bitrate > this.#asked && !this.bitrateControl.slow);
    if (worth) this.link.renew(); // the bit rate of a recorder cannot be changed, so `opened` begins another
  }

  /** @override */
  async finish() {
    if (!this.#connected) return;
    await new Promise((done) => {
      this.#finished = done;
      setTimeout(done, 1500); // a failed recorder does not report its end
      this.say({ say: "finish", take: this.#take });
    });
  }

  /** @override */
  release() {
    super.release();
    const writer = this.#writer;
    this.#writer = null;
    writer?.close().catch(() => undefined); // its track may have ended already
  }

  #begin() {
    this.#take++;
    this.#held = false;
    this.#asked = this.#picture();
    this.say({ say: "record", take: this.#take, bitrate: this.#asked });
  }

  /** @returns {number} bit/s of the picture alone */
  #picture() { return Math.max(100_000, this.bitrateControl.bitrate - this.start.sound.bitrate); }
}
