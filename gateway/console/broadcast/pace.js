/** One idea: how fast the network takes what we make, and what follows from it: a lower bit rate, then fewer pictures. */

const HOLD = 1.0;        // seconds that wait to be sent: no new pictures are made
const RELEASE = 0.3;     // … until only this much waits
const SLOW = 0.4;        // seconds that wait: the bit rate goes down
const CALM = 0.1;        // less than this is no queue at all
const SETTLE = 1.5;      // seconds before the effect of a lower bit rate is judged
const PATIENCE = 8;      // calm seconds before a little more is tried
const RAISE = 1.15;
const LEAST = 150_000;   // bit/s below which a picture is worth nothing

/** Time and sizes are told to it; it looks at no clock and at no socket. */
export class Pace {
  #wanted; #bitrate; #changed = -Infinity; #calmSince = -Infinity; #holding = false;
  #last = { now: -1, sent: 0, queued: 0 };

  /** @param {number} wanted  bit/s that the person chose */
  constructor(wanted) { this.#wanted = this.#bitrate = wanted; }

  get bitrate() { return this.#bitrate; }

  /** Is the network too slow for what was chosen? */
  get slow() { return this.#bitrate < this.#wanted; }

  /** A new connection says nothing yet of the old one's queue. */
  reconnected() {
    this.#holding = false;
    this.#last.now = -1;
    this.#calmSince = -Infinity;
  }

  /**
   * Called for every picture, before it is made.
   * @param {number} queued  bytes that wait to be sent
   * @returns {boolean} is this picture to be left out?
   */
  holds(queued) {
    const seconds = this.seconds(queued);
    if (seconds > HOLD) this.#holding = true;
    else if (seconds < RELEASE) this.#holding = false;
    return this.#holding;
  }

  /**
   * @param {number} queued  bytes
   * @returns {number} how long they take at the present bit rate
   */
  seconds(queued) { return queued * 8 / this.#bitrate; }

  /**
   * Called about once a second.
   * @param {number} now     seconds
   * @param {number} sent    bytes handed to the socket since it was opened
   * @param {number} queued  bytes of those that still wait there
   * @returns {boolean} has the bit rate changed?
   */
  look(now, sent, queued) {
    const before = this.#last;
    this.#last = { now, sent, queued };
    const waiting = this.seconds(queued);
    if (waiting > CALM) this.#calmSince = -Infinity;
    else if (this.#calmSince === -Infinity) this.#calmSince = now;
    if (before.now < 0 || now <= before.now) return false;
    if (waiting > SLOW && now - this.#changed >= SETTLE) {
      // What really left, less a margin that empties the queue; never below half of what was tried.
      const through = Math.max(0, (sent - queued) - (before.sent - before.queued)) * 8 / (now - before.now);
      return this.#set(now, Math.max(this.#bitrate * 0.5, Math.min(this.#bitrate * 0.8, through * 0.85)));
    }
    const calm = Math.min(now - this.#calmSince, now - this.#changed);
    if (this.slow && this.#calmSince !== -Infinity && calm >= PATIENCE) return this.#set(now, this.#bitrate * RAISE);
    return false;
  }

  /** @param {number} now @param {number} bitrate */
  #set(now, bitrate) {
    const before = this.#bitrate;
    this.#bitrate = Math.round(Math.min(this.#wanted, Math.max(Math.min(LEAST, this.#wanted), bitrate)));
    this.#changed = now;
    return this.#bitrate !== before;
  }
}
