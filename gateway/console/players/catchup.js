/** Chooses the playback speed of a late viewer: a little faster until the delay is gone, without oscillation. */

/**
 * All numbers are in seconds, or factors of the normal speed.
 */
const MIN_BUFFER = 0.4; // smallest buffer, with a good network
const MAX_BUFFER = 3; // largest buffer, with a bad network
const STALL_STEP = 0.4; // added with each stall
const CALM_SECONDS = 20; // time without a stall after which a part is removed again
const LESS = 0.1;
const WINDOW = 1.5; // a buffer counts as excess only after this time; a short burst does not
const SPEED_UP_EXCESS = 0.5; // excess from which playback is faster
const JUMP_EXCESS = 4; // excess from which it jumps
const LONG_STALL = 1; // after such a long stall it may jump, because the picture was interrupted anyway
const AFTER_LONG_STALL = 2;  // time after such a stall in which an excess of SPEED_UP_EXCESS is enough for a jump
const FAST = 1.08; // highest speed that is not audible if the pitch is kept
const GENTLE = 1.04;
const GENTLE_BELOW = 1; // excess below which the gentle speed is used

/** Decides from the length of the buffer. Uses no clock and no element. */
export class CatchUp {
  #keep = MIN_BUFFER;
  #rate = 1;
  #calmSince = 0;
  /** @type {number | null} */
  #stallStart = null; // start of the current stall
  #stallIncrease = 0; // increase of the kept buffer by this stall
  #jumpsUntil = -Infinity; // until then an excess of SPEED_UP_EXCESS is enough for a jump
  /** @type {[time: number, ahead: number][]} */
  #seen = [];

  /** Current length of the kept buffer, seconds. */
  get keep() { return this.#keep; }

  /**
   * Call when the picture stops because the buffer is empty.
   * @param {number} now  seconds
   */
  stalled(now) {
    const keep = Math.min(MAX_BUFFER, this.#keep + STALL_STEP);
    this.#stallIncrease = keep - this.#keep;
    this.#keep = keep;
    this.#calmSince = this.#stallStart = now;
    this.#settle();
  }

  /**
   * Call when the picture moves again.
   * @param {number} now  seconds
   */
  moves(now) {
    if (this.#stallStart !== null && now - this.#stallStart >= LONG_STALL) this.#jumpsUntil = now + AFTER_LONG_STALL;
    this.#stallStart = null;
  }

  /**
   * Call when the publisher is back: then a stall was not caused by the network.
   * @param {number} now  seconds
   */
  returned(now) {
    if (this.#stallStart !== null) this.#keep -= this.#stallIncrease;
    this.#stallIncrease = 0;
    this.#jumpsUntil = now + AFTER_LONG_STALL;
    this.#settle();
  }

  /**
   * For the first media after the publisher's return. Here the excess need not be measured for a while, because it is
   * the length of the break.
   * @param {number} ahead  seconds buffered ahead of the picture
   * @returns {number} seconds to jump, 0 for no jump
   */
  over(ahead) { return ahead > this.#keep + SPEED_UP_EXCESS ? ahead - this.#keep : 0; }

  /**
   * @param {number} ahead  seconds buffered ahead of the picture
   * @param {number} now    seconds, of any clock that does not jump
   * @returns {{rate: number, jump: number}}  the speed, and the seconds to jump before (mostly 0)
   */
  next(ahead, now) {
    this.#seen.push([now, ahead]);
    while (this.#seen[0] && now - this.#seen[0][0] > WINDOW) this.#seen.shift();
    if (now - this.#calmSince > CALM_SECONDS) {
      this.#keep = Math.max(MIN_BUFFER, this.#keep - LESS);
      this.#calmSince = now;
    }
    const first = this.#seen[0];
    const least = Math.min(...this.#seen.map(([, seen]) => seen));
    const excess = least - this.#keep;
    const known = first !== undefined && now - first[0] > WINDOW * 0.6;
    if (known && excess > (now < this.#jumpsUntil ? SPEED_UP_EXCESS : JUMP_EXCESS)) {
      this.#settle();
      return { rate: 1, jump: excess };
    }
    if (this.#rate === 1) {
      if (known && excess > SPEED_UP_EXCESS) this.#rate = excess > GENTLE_BELOW ? FAST : GENTLE;
    } else if (excess <= 0) this.#rate = 1;
    else if (excess < GENTLE_BELOW / 2) this.#rate = GENTLE; // the speed only falls from fast to gentle, it does not oscillate
    return { rate: this.#rate, jump: 0 };
  }

  /** Forgets the measurements, because they do not apply to the next media. */
  #settle() {
    this.#rate = 1;
    this.#seen = [];
  }
}
