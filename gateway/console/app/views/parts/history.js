/** Keeps the values of the last minutes in the page, for the small charts of all live channels. */

/**
 * Samples of several values with common times, oldest first. They are lost when the page is closed.
 */
export class History {
  /** @type {number[]} */
  times = [];
  /** @type {Map<string, (number | null)[]>} */
  #values = new Map();

  /**
   * @param {number} seconds  for which samples are kept
   * @param {number} gap      seconds without a sample that are shown as a gap
   */
  constructor(seconds, gap) {
    this.seconds = seconds;
    this.gap = gap;
  }

  /** @returns {number} when the last sample was taken, seconds since 1970; 0 before the first */
  get last() { return this.times.at(-1) ?? 0; }

  /**
   * @param {number} at  seconds since 1970; a sample that is not later than the last is ignored
   * @param {Readonly<Record<string, number | null>>} sample
   */
  add(at, sample) {
    if (at <= this.last) return;
    if (this.times.length && at - this.last > this.gap) this.#push(this.last + 0.001, {});
    this.#push(at, sample);
    const old = this.times.findIndex((time) => time >= at - this.seconds);
    if (old > 0) {
      this.times = this.times.slice(old);
      for (const [name, values] of this.#values) {
        const rest = values.slice(old);
        if (rest.some((value) => value !== null)) this.#values.set(name, rest);
        else this.#values.delete(name);
      }
    }
  }

  /**
   * @param {string} name
   * @returns {readonly (number | null)[]}  as many as there are times
   */
  values(name) { return this.#values.get(name) ?? this.times.map(() => null); }

  /**
   * @param {number} at
   * @param {Readonly<Record<string, number | null>>} sample
   */
  #push(at, sample) {
    // A new list each time, so that charts notice the change.
    this.times = [...this.times, at];
    for (const name of new Set([...this.#values.keys(), ...Object.keys(sample)])) {
      const before = this.#values.get(name) ?? Array.from({ length: this.times.length - 1 }, () => null);
      this.#values.set(name, [...before, sample[name] ?? null]);
    }
  }
}
