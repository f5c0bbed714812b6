/** One idea: what both ways of sending share: the link, the pace, and figures once a second. */

import { Link } from "./link.js";
import { Pace } from "./pace.js";
import { Source } from "./source.js";

/** @typedef {import("./types.js").Start} Start */
/** @typedef {import("./types.js").Report} Report */
/** @typedef {import("./types.js").ServerLine} ServerLine */
/** @typedef {import("./types.js").Trouble} Trouble */

/** @abstract */
export class Push {
  #report; #timer; #lastSent = 0; #lastFrames = 0; #lastLook = performance.now();
  /** Pictures: sent, left out for the network's sake, left out for this device's. */
  frames = 0;
  late = 0;
  busy = 0;

  /**
   * @param {Start} start
   * @param {string | null} protocol
   * @param {(report: Report) => void} report
   */
  constructor(start, protocol, report) {
    this.#report = report;
    this.start = start;
    this.pace = new Pace(start.picture.bitrate + start.sound.bitrate);
    this.link = new Link(start.urls, protocol, {
      opened: () => { this.pace.reconnected(); this.#lastSent = 0; this.opened(); },
      closed: () => this.closed(),
      progress: (progress) => {
        if (progress.phase === "over") this.release();
        report({ say: "progress", progress });
      },
      line: (line) => report({ say: "server", line }),
    });
    this.source = new Source(start, (frame) => this.picture(frame), () => report({ say: "grab" }));
    this.#timer = setInterval(() => this.#second(), 1000);
  }

  begin() { this.link.open(); }

  /** Everything is sent, then the push is over. */
  async stop() {
    this.source.close();
    await this.finish();
    this.release();
    await this.link.close();
    this.#report({ say: "progress", progress: { phase: "over", why: null, code: 1000, reason: "" } });
  }

  release() {
    clearInterval(this.#timer);
    this.source.close();
  }

  /** @param {Trouble} why @param {string} reason */
  fail(why, reason) { this.link.fail(why, reason); }

  /** @param {Report} report */
  say(report) { this.#report(report); }

  // What the two ways differ in.

  /** A new connection is there. */
  opened() { throw new Error("abstract"); }

  /** It is gone. */
  closed() { throw new Error("abstract"); }

  /** A composed picture; it is closed here. @param {VideoFrame} frame */
  picture(frame) { throw new Error(`abstract: ${frame}`); }

  /** The network asks for another bit rate. */
  paced() { throw new Error("abstract"); }

  /** What is inside comes out and is sent. @returns {Promise<void>} */
  finish() { throw new Error("abstract"); }

  #second() {
    const time = performance.now();
    const { link, pace } = this;
    const elapsed = Math.max(0.001, (time - this.#lastLook) / 1000);
    const bytes = Math.max(0, link.sent - this.#lastSent);
    const frames = this.frames - this.#lastFrames;
    this.#lastLook = time;
    this.#lastSent = link.sent;
    this.#lastFrames = this.frames;
    if (link.isOpen && pace.look(time / 1000, link.sent, link.queued)) this.paced();
    link.look();
    this.#report({
      say: "figures",
      figures: {
        bitrate: bytes * 8 / elapsed, wanted: pace.bitrate, rate: frames / elapsed, frames: this.frames, late: this.late,
        busy: this.busy, queued: pace.seconds(link.queued), slow: pace.slow,
      },
    });
  }
}
