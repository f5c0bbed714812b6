/** Selects pictures of a source, so that at most the chosen number is sent each second. */

const ANOTHER = 1_000_000; // µs; times that go back by more are those of another device, or of a clock that was set

export class FrameLimiter {
  #period; #next = -Infinity;

  /** @param {number} rate  pictures per second */
  constructor(rate) { this.#period = 1e6 / rate; }

  /**
   * @param {number} now  µs
   * @returns {boolean} whether the picture of this moment is accepted
   */
  accepts(now) {
    if (this.#next - now > ANOTHER) this.#next = now;
    // A picture may come a third of a period early, because cameras are not exact.
    if (now < this.#next - this.#period / 3) return false;
    this.#next = Math.max(this.#next + this.#period, now - this.#period);
    return true;
  }
}
