/** Maps the clocks of camera and microphone to one clock, without jitter and drift. */

const BUCKET = 2_000_000;  // µs in which the arrival with the least delay is searched
const STEP = 2_000;        // maximum change of the offset per bucket, µs, to follow a drifting clock
const JUMP = 150_000;      // µs; a larger difference is not drift: the device's clock was set, or the device slept

/**
 * Each device stamps its data with its own clock. The data with the least delay give the best measure of the offset to
 * our clock; all others were only delayed more.
 */
export class Timeline {
  /** @type {number | null} */
  #offset = null;
  #settled = false;
  #least = Infinity;
  #end = 0;
  #last = -Infinity;

  /**
   * @param {number} stamp    µs by the device's clock
   * @param {number} arrived  µs by ours
   */
  learn(stamp, arrived) {
    const seen = arrived - stamp;
    if (this.#offset === null) {
      this.#offset = seen;
      this.#end = arrived + BUCKET;
    }
    this.#least = Math.min(this.#least, seen);
    if (!this.#settled) this.#offset = Math.min(this.#offset, this.#least);
    if (arrived < this.#end) return;
    const error = this.#least - this.#offset;
    this.#offset += Math.abs(error) > JUMP ? error : Math.max(-STEP, Math.min(STEP, error));
    this.#settled = true;
    this.#least = Infinity;
    this.#end = arrived + BUCKET;
  }

  /**
   * @param {number} stamp  µs by the device's clock
   * @returns {number} whole µs of our clock, always later than the one before
   */
  at(stamp) {
    this.#last = Math.max(Math.round(stamp + (this.#offset ?? 0)), this.#last + 1);
    return this.#last;
  }

  /**
   * Returns the time for a picture that the page makes itself.
   * @param {number} now  µs by our clock
   * @returns {number} `now`, or just after the last returned time
   */
  own(now) {
    this.#last = Math.max(Math.round(now), this.#last + 1);
    return this.#last;
  }

  /** Begins with another device; its times continue after those of the last one. */
  renew() {
    this.#offset = null;
    this.#settled = false;
    this.#least = Infinity;
  }
}
