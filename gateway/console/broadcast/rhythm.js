/** One idea: which pictures of a source are taken, so that no more than the chosen number goes out each second. */

export class Rhythm {
  #period; #next = -Infinity;

  /** @param {number} rate  pictures a second */
  constructor(rate) { this.#period = 1e6 / rate; }

  /**
   * @param {number} now  µs
   * @returns {boolean} is the picture of this moment taken?
   */
  takes(now) {
    // A third of a period early is in time: cameras do not keep time to the microsecond.
    if (now < this.#next - this.#period / 3) return false;
    this.#next = Math.max(this.#next + this.#period, now - this.#period);
    return true;
  }
}
