/** Adapts to the speed of the network: first with a lower bit rate, then with fewer pictures. */

const HOLD = 1.0;        // seconds of queued media from which new pictures are dropped
const RELEASE = 0.3;     // … until the queue is this short
const SLOW = 0.4;        // seconds of queued media from which the bit rate is lowered
const EMPTY = 0.1;       // seconds; a shorter queue counts as none
const SETTLE = 1.5;      // seconds until the effect of a lower bit rate is measured
const RETRY = 8;         // seconds without a queue until a higher bit rate is tried
const RAISE = 1.15;
const MIN_BITRATE = 150_000;  // bit/s; with less, the picture is useless

/** Gets times and sizes as arguments; uses no clock and no socket. */
export class BitrateControl {
  #wanted; #bitrate; #changed = -Infinity; #calmSince = -Infinity; #holding = false;
  #last = { now: -1, sent: 0, queued: 0 };

  /** @param {number} wanted  bit/s that the user chose */
  constructor(wanted) { this.#wanted = this.#bitrate = wanted; }

  get bitrate() { return this.#bitrate; }

  /** Whether the network is too slow for the chosen bit rate. */
  get slow() { return this.#bitrate < this.#wanted; }

  /** Resets the measurements for a new connection. */
  reconnected() {
    this.#holding = false;
    this.#last.now = -1;
    this.#calmSince = -Infinity;
  }

  /**
   * Called for every picture, before it is made.
   * @param {number} queued  bytes that wait to be sent
   * @returns {boolean} whether this picture must be dropped
   */
  mustDrop(queued) {
    const seconds = this.seconds(queued);
    if (seconds > HOLD) this.#holding = true;
    else if (seconds < RELEASE) this.#holding = false;
    return this.#holding;
  }

  /**
   * @param {number} queued  bytes
   * @returns {number} seconds that they need at the current bit rate
   */
  seconds(queued) { return queued * 8 / this.#bitrate; }

  /**
   * Called about once a second.
   * @param {number} now     seconds
   * @param {number} sent    bytes handed to the socket since it was opened
   * @param {number} queued  bytes of these that still wait there
   * @returns {boolean} whether the bit rate has changed
   */
  update(now, sent, queued) {
    const before = this.#last;
    this.#last = { now, sent, queued };
    const waiting = this.seconds(queued);
    if (waiting > EMPTY) this.#calmSince = -Infinity;
    else if (this.#calmSince === -Infinity) this.#calmSince = now;
    if (before.now < 0 || now <= before.now) return false;
    if (waiting > SLOW && now - this.#changed >= SETTLE) {
      // The measured rate minus a margin that empties the queue, but at least half of the bit rate before.
      const through = Math.max(0, (sent - queued) - (before.sent - before.queued)) * 8 / (now - before.now);
      return this.#set(now, Math.max(this.#bitrate * 0.5, Math.min(this.#bitrate * 0.8, through * 0.85)));
    }
    const calm = Math.min(now - this.#calmSince, now - this.#changed);
    if (this.slow && this.#calmSince !== -Infinity && calm >= RETRY) return this.#set(now, this.#bitrate * RAISE);
    return false;
  }

  /** @param {number} now @param {number} bitrate */
  #set(now, bitrate) {
    const before = this.#bitrate;
    this.#bitrate = Math.round(Math.min(this.#wanted, Math.max(Math.min(MIN_BITRATE, this.#wanted), bitrate)));
    this.#changed = now;
    return this.#bitrate !== before;
  }
}
