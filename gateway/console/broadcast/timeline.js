/** One idea: the clocks of camera and microphone put on one clock, without jitter and without drifting apart. */

const BUCKET = 2_000_000;  // µs over which the promptest arrival is looked for
const STEP = 2_000;        // µs by which the offset follows a drifting clock, each bucket
const JUMP = 150_000;      // µs from which it is no drift: the device's clock was set, or it slept

/**
 * Every device stamps what it delivers with a clock of its own. The delivery that took least is the best measure of how
 * far that clock is from ours; all others were only delivered later.
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
   * @returns {number} whole µs by ours, always later than the one before
   */
  at(stamp) {
    this.#last = Math.max(Math.round(stamp + (this.#offset ?? 0)), this.#last + 1);
    return this.#last;
  }

  /**
   * For pictures of our own making.
   * @param {number} now  µs by our clock
   * @returns {number} the same, or just after what was last given out
   */
  own(now) {
    this.#last = Math.max(Math.round(now), this.#last + 1);
    return this.#last;
  }

  /** Another device follows; what it says goes on after what the last one said. */
  renew() {
    this.#offset = null;
    this.#settled = false;
    this.#least = Infinity;
  }
}
