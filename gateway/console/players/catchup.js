/** One idea: how fast a viewer who is behind plays: a little faster until the delay is gone, and not back and forth. */

/**
 * Every number in seconds, or a factor of the usual speed.
 */
const LEAST = 0.4;         // kept ahead of the picture on a good line
const MOST = 3;            // and on a bad one
const MORE = 0.4;          // added with each stall
const CALM = 20;           // after so long without one, a part is taken away again
const LESS = 0.1;
const WINDOW = 1.5;        // what was always there for so long is more than is needed; a single burst is not
const BEGIN = 0.5;         // too much by this: faster
const FAR = 4;             // too much by this: jump
const FAST = 1.08;         // where sound is stretched without changing its pitch, up to here nobody hears it
const GENTLE = 1.04;
const GENTLE_BELOW = 1;    // too much by less than this

/** Decides from what is buffered ahead of the picture. It knows no clock and no element. */
export class CatchUp {
  #keep = LEAST;
  #rate = 1;
  #calmSince = 0;
  /** @type {[time: number, ahead: number][]} */
  #seen = [];

  /** Seconds that are kept ahead of the picture now. */
  get keep() { return this.#keep; }

  /**
   * The picture stood still because nothing was left to show.
   * @param {number} now  seconds
   */
  stalled(now) {
    this.#keep = Math.min(MOST, this.#keep + MORE);
    this.#calmSince = now;
    this.#settle();
  }

  /**
   * @param {number} ahead  seconds buffered ahead of the picture
   * @param {number} now    seconds, of any clock that does not jump
   * @returns {{rate: number, jump: number}}  how fast to play, and by how many seconds to jump first (mostly 0)
   */
  next(ahead, now) {
    this.#seen.push([now, ahead]);
    while (this.#seen[0] && now - this.#seen[0][0] > WINDOW) this.#seen.shift();
    if (now - this.#calmSince > CALM) {
      this.#keep = Math.max(LEAST, this.#keep - LESS);
      this.#calmSince = now;
    }
    const first = this.#seen[0];
    const least = Math.min(...this.#seen.map(([, seen]) => seen));
    const excess = least - this.#keep;
    const known = first !== undefined && now - first[0] > WINDOW * 0.6;
    if (known && excess > FAR) {
      this.#settle();
      return { rate: 1, jump: excess };
    }
    if (this.#rate === 1) {
      if (known && excess > BEGIN) this.#rate = excess > GENTLE_BELOW ? FAST : GENTLE;
    } else if (excess <= 0) this.#rate = 1;
    else if (excess < GENTLE_BELOW / 2) this.#rate = GENTLE; // from fast to gentle on the way, never up and down
    return { rate: this.#rate, jump: 0 };
  }

  /** What was seen says nothing about what comes. */
  #settle() {
    this.#rate = 1;
    this.#seen = [];
  }
}
