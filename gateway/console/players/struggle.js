/** Knows which part of the last seconds a viewer waited for pictures. Uses no clock. */

const LOOKS = 40; // of two a second
const LEAST = 16; // looks before anything is said
const OFTEN = 0.25;  // share of the looks

export class Struggle {
  /** @type {boolean[]} */
  #waited = [];

  /** Call twice a second while the stream is live. @param {boolean} waits */
  look(waits) {
    this.#waited.push(waits);
    if (this.#waited.length > LOOKS) this.#waited.shift();
  }

  /** Forgets all: another player begins, or the publisher is away. */
  reset() { this.#waited = []; }

  /** Whether the viewer waits so often that another way to play may be better. */
  get often() { return this.#waited.length >= LEAST && this.#share >= OFTEN; }

  /** Whether nobody waited for a while. */
  get smooth() { return this.#waited.length === LOOKS && this.#share === 0; }

  get #share() { return this.#waited.filter(Boolean).length / this.#waited.length; }
}
