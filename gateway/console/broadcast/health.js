/** One idea: from figures to words: what a broadcaster should know is not going well, and why. */

import { bitrate } from "./numbers.js";

/** @typedef {import("./faults.js").Words} Words */
/** @typedef {import("./types.js").Figures} Figures */
/** @typedef {import("./types.js").ServerLine} ServerLine */

const MEMORY = 6;    // seconds that something is spoken of after it happened
const TOO_MANY = 3;  // pictures left out within that time that are no accident
const BEHIND = 1;    // seconds

/** Looks at the last seconds only: what is over is over. */
export class Health {
  /** @type {{late: number, busy: number, dropped: number}[]} */
  #past = [];
  #behind = 0;
  #lags = 0; // how often in a row it was too far behind: workers take a moment to begin
  #dropped = 0;

  /** What the server has left out since the beginning. */
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
   * @param {number} wanted    bit/s that were chosen
   * @param {import("./types.js").Transport} transport
   * @returns {Words | null} the worst of what is wrong
   */
  judge(figures, wanted, transport) {
    const now = { late: figures.late, busy: figures.busy, dropped: this.#dropped };
    this.#past.push(now);
    if (this.#past.length > MEMORY) this.#past.shift();
    const before = this.#past[0] ?? now;
    if (now.busy - before.busy >= TOO_MANY) return { word: "warn.busy" };
    if (now.late - before.late >= TOO_MANY && !figures.slow) return { word: "warn.late" };
    if (figures.slow) return { word: "warn.slow", fill: { now: bitrate(figures.wanted), wanted: bitrate(wanted) } };
    if (this.#lags >= TOO_MANY) return { word: `warn.behind.${transport}`, fill: { seconds: Math.round(this.#behind) } };
    if (now.dropped - before.dropped >= TOO_MANY) return { word: "warn.dropped" };
    return null;
  }
}
