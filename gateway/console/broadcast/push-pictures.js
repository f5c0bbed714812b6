/** Composes the pictures for a track of the page, which WebRTC sends. */

import { Source } from "./source.js";

export class PicturesPush {
  source;
  /** @type {WritableStreamDefaultWriter<VideoFrame> | null} */
  #writer = null;

  /**
   * @param {import("./types.js").Start} start
   * @param {(report: import("./types.js").Report) => void} report
   */
  constructor(start, report) {
    this.source = new Source(start, (frame) => this.#write(frame), () => report({ say: "grab" }));
  }

  begin() { /* the page opens the connection */ }

  /** Sets the destination of composed pictures. @param {WritableStream<VideoFrame>} writable */
  set output(writable) { this.#writer = writable.getWriter(); }

  async stop() {
    this.source.close();
    const writer = this.#writer;
    this.#writer = null;
    await writer?.close().catch(() => undefined); // its track may have ended already
  }

  /** @param {VideoFrame} frame */
  #write(frame) {
    if (this.#writer === null) return frame.close();
    // The track accepts a picture at once or not at all; it closes an accepted picture.
    this.#writer.write(frame).catch(() => { this.#writer = null; });
  }
}
