/** Derives a message about a problem of the broadcast from its figures. */

import { bitrate } from "./numbers.js";

/** @typedef {import("./device-errors.js").Message} Message */
/** @typedef {import("./types.js").Figures} Figures */
/** @typedef {import("./types.js").ServerLine} ServerLine */

const MEMORY = 6;    // seconds that a problem is reported after it happened
const TOO_MANY = 3;  // pictures dropped within that time that count as a problem
const BEHIND = 1;    // seconds
const FEW = 0.8;     // share of the chosen frame rate below which pictures are missing

/** Considers the last seconds only. */
export class Health {
  /** @type {{late: number, busy: number, dropped: number}[]} */
  #past = [];
  #behind = 0;
  #lags = 0; // consecutive late reports; more than one is needed, because workers need time to start
  #dropped = 0;
  #few = 0; // consecutive seconds with too few pictures

  /** Number of pictures that the server has dropped since the start. */
  get dropped() { return this.#dropped; }

  get behind() { return this.#behind; }

  /** @param {ServerLine} line */
  hear(line) {
    if (line.type !== "stats") return;
    this.#behind = line.behind ?? 0;
    this.#lags = this.#behind > BEHIND ? this.#lags + 1 : 0;
    this.#dropped = line.dropped ?? 0;
  }

  /**
   * @param {Figures} figures  once a second
   * @param {number} wanted    the chosen bit/s
   * @param {import("./types.js").Transport} transport
   * @param {number} frameRate  the chosen one; 0: the source gives pictures only when they change
   * @returns {Message | null} the worst problem
   */
  judge(figures, wanted, transport, frameRate) {
    this.#few = figures.rate < frameRate * FEW ? this.#few + 1 : 0;
    const now = { late: figures.late, busy: figures.busy, dropped: this.#dropped };
    this.#past.push(now);
    if (this.#past.length > MEMORY) this.#past.shift();
    const before = this.#past[0] ?? now;
    if (now.busy - before.busy >= TOO_MANY) return { word: "warn.busy" };
    if (now.late - before.late >= TOO_MANY && !figures.slow) return { word: "warn.late" };
    if (figures.slow) return { word: "warn.slow", fill: { now: bitrate(figures.wanted), wanted: bitrate(wanted) } };
    if (this.#lags >= TOO_MANY && transport !== "whip") return { word: `warn.behind.${transport}`, fill: { seconds: Math.round(this.#behind) } };
    if (now.dropped - before.dropped >= TOO_MANY) return { word: "warn.dropped" };
    if (this.#few >= MEMORY) return { word: "warn.few", fill: { now: Math.round(figures.rate), wanted: frameRate } };
    return null;
  }
}
