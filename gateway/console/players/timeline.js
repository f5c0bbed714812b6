/** Knows the date of each moment of the media, from the clock that the gateway puts into FLV. */

const WINDOW = 30_000; // ms; the smallest difference of the last one or two windows counts

/**
 * A publisher's link delays some of its media. What came fastest shows how late the others are, so the smallest
 * difference counts, for a while: the publisher's clock may be slow.
 */
export class Timeline {
  #old = Infinity;
  #new = Infinity;
  #since = -Infinity;
  #value = NaN; // ms from the media's time to its date

  /**
   * @param {number} time  of the media, ms
   * @param {number} date  of its arrival at the gateway, ms since 1970
   */
  note(time, date) {
    if (date - this.#since >= WINDOW || date < this.#since) {
      this.#old = this.#new;
      this.#new = Infinity;
      this.#since = date;
    }
    this.#new = Math.min(this.#new, date - time);
    this.#value = Math.min(this.#old, this.#new);
  }

  /** Forgets all but the present value: a publisher has returned. */
  restart() {
    this.#old = this.#new = Infinity;
    this.#since = -Infinity;
  }

  /** @param {number} time  of the media, ms @returns {number} its date, ms since 1970; NaN: unknown */
  dateOf(time) { return time + this.#value; }
}
