/** The base of both sending methods: the link, the bit rate control, and figures once a second. */

import { Link } from "./link.js";
import { BitrateControl } from "./bitrate-control.js";
import { Source } from "./source.js";

/** @typedef {import("./types.js").Start} Start */
/** @typedef {import("./types.js").Report} Report */
/** @typedef {import("./types.js").ServerLine} ServerLine */
/** @typedef {import("./types.js").Trouble} Trouble */

/** @abstract */
export class Push {
  #report; #timer; #lastSent = 0; #lastFrames = 0; #lastLook = performance.now();
  /** Numbers of pictures: sent, dropped because of the network, dropped because of this device. */
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
    this.bitrateControl = new BitrateControl(start.picture.bitrate + start.sound.bitrate);
    this.link = new Link(start.urls, protocol, {
      opened: () => { this.bitrateControl.reconnected(); this.#lastSent = 0; this.opened(); },
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

  /** Sends everything, then ends the push. */
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

  // ---- overridden by both methods ----

  /** Called for a new connection. */
  opened() { throw new Error("abstract"); }

  /** Called when the connection is closed. */
  closed() { throw new Error("abstract"); }

  /** Encodes a composed picture and closes it. @param {VideoFrame} frame */
  picture(frame) { throw new Error(`abstract: ${frame}`); }

  /** Called when the bit rate has changed. */
  bitrateChanged() { throw new Error("abstract"); }

  /** Encodes and sends everything that is still queued. @returns {Promise<void>} */
  finish() { throw new Error("abstract"); }

  #second() {
    const time = performance.now();
    const { link, bitrateControl } = this;
    const elapsed = Math.max(0.001, (time - this.#lastLook) / 1000);
    const bytes = Math.max(0, link.sent - this.#lastSent);
    const frames = this.frames - this.#lastFrames;
    this.#lastLook = time;
    this.#lastSent = link.sent;
    this.#lastFrames = this.frames;
    if (link.isOpen && bitrateControl.update(time / 1000, link.sent, link.queued)) this.bitrateChanged();
    link.look();
    this.#report({
      say: "figures",
      figures: {
        bitrate: bytes * 8 / elapsed, wanted: bitrateControl.bitrate, rate: frames / elapsed, frames: this.frames, late: this.late,
        busy: this.busy, queued: bitrateControl.seconds(link.queued), slow: bitrateControl.slow,
      },
    });
  }
}
