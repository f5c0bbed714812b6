/** Chooses the rendition of an FLV stream by what arrives, and says when the link is too slow. Uses no clock. */

/** All numbers are seconds, or bits a second. The *lag* is the time from the gateway's arrival of media to this page's. */
const WINDOW = 2; // of the measurements
const LEAST_WINDOW = 1.2; // shorter ones decide nothing
const LATE = 0.9; // lag from which a growing lag means a slow link
const ABOVE = 0.4; // lag above the smallest one, as before
const GROWTH = 0.12; // seconds of lag a second; less may be the clocks
const CALM = 0.35; // lag above the smallest one up to which all is well
const USABLE = 0.8; // share of the measured rate that a rendition may need
const CALM_SECONDS = 5; // for which all was well before a larger rendition is tried
const HOLD = 12; // until the first try, or after a failed one
const MOST_HOLD = 120;
const PROVEN = 30; // a change to a larger rendition that lasts so long was right
const TRY_SECONDS = 1; // after which a try is judged by the rate
export const MOST_TRY = 12; // a key frame should come meanwhile

/** What has arrived of one connection. */
export class Arrivals {
  /** The latest lag; NaN: unknown. */
  lag = NaN;
  /** The smallest lag so far. */
  floor = Infinity;
  #bytes = 0;
  /** Since when the lag is small; Infinity: it is not. */
  #calm = Infinity;
  /** @type {{at: number, bytes: number, lag: number}[]} */
  #seen = [];
  #first = NaN;

  /** @param {number} at @param {number} bytes  @param {number | null} lag  null: unknown */
  add(at, bytes, lag) {
    if (Number.isNaN(this.#first)) this.#first = at;
    this.#bytes += bytes;
    if (lag !== null) {
      this.lag = lag;
      this.floor = Math.min(this.floor, lag);
      if (lag > this.floor + CALM) this.#calm = Infinity;
      else if (this.#calm === Infinity) this.#calm = at;
    }
    this.#seen.push({ at, bytes: this.#bytes, lag: this.lag });
    while (this.#seen[1] && at - this.#seen[1].at >= WINDOW) this.#seen.shift();
  }

  /** Seconds since the first arrival. @param {number} at */
  age(at) { return at - this.#first || 0; }

  /** Seconds for which the lag has been small. @param {number} at */
  calm(at) { return Math.max(0, at - this.#calm); }

  /** Bits a second since the beginning of the window. @param {number} at */
  rate(at) {
    const [first] = this.#seen;
    return first && at > first.at ? (this.#bytes - first.bytes) * 8 / (at - first.at) : 0;
  }

  /** Whether the link brings less than the stream needs. */
  get slow() {
    const known = this.#seen.filter(({ lag }) => !Number.isNaN(lag));
    const [first] = known;
    const last = known.at(-1);
    if (!first || !last || known.length < 3 || last.at - first.at < LEAST_WINDOW) return false;
    return last.lag > LATE && last.lag > this.floor + ABOVE && last.lag - first.lag > GROWTH * (last.at - first.at);
  }
}

/** @typedef {{id: string, bitrate: number}} Level  bitrate: bits a second; 0: unknown */

/** Decides between the levels. */
export class Adapter {
  #hold = HOLD;
  #next = -Infinity; // when a larger one may be tried
  #raised = -Infinity; // when a larger one was taken

  /**
   * A page knows the rate of its link roughly from its own files.
   * @param {Level[]} levels  the smallest first
   * @param {number} rate  bits a second; 0: unknown
   * @returns {string} the level to begin with
   */
  first(levels, rate) {
    const best = levels.at(-1);
    if (!best?.bitrate || !rate) return best?.id ?? "";
    return (fitting(levels, rate) ?? levels[0] ?? best).id;
  }

  /**
   * The link is too slow for the current level.
   * @param {Level[]} levels  the smallest first
   * @param {string} current
   * @param {number} rate
   * @param {number} at
   * @returns {string | null} the level to take; null: there is none that is smaller
   */
  lower(levels, current, rate, at) {
    const index = levels.findIndex(({ id }) => id === current);
    const smaller = levels.slice(0, Math.max(0, index));
    if (at - this.#raised < PROVEN) this.#postpone(at);
    else this.#next = at + this.#hold;
    return (fitting(smaller, rate) ?? smaller[0])?.id ?? null;
  }

  /**
   * @param {Level[]} levels
   * @param {string} current
   * @param {Arrivals} arrivals
   * @param {number} at
   * @returns {string | null} the larger level to try; null: none
   */
  higher(levels, current, arrivals, at) {
    if (at < this.#next || arrivals.calm(at) < CALM_SECONDS) return null;
    if (at - this.#raised >= PROVEN && this.#raised !== -Infinity) this.#hold = HOLD;
    return levels[levels.findIndex(({ id }) => id === current) + 1]?.id ?? null;
  }

  /** A larger level has been taken, or could not be. @param {boolean} taken @param {number} at */
  tried(taken, at) {
    if (taken) {
      this.#raised = at;
      this.#next = at + CALM_SECONDS;
    } else this.#postpone(at);
  }

  /** @param {number} at */
  #postpone(at) {
    this.#hold = Math.min(MOST_HOLD, this.#hold * 2);
    this.#next = at + this.#hold;
    this.#raised = -Infinity;
  }
}

/**
 * Whether a try of a larger level has failed, while both levels arrive.
 * @param {Arrivals} current
 * @param {Arrivals} candidate
 * @param {number} bitrate  of the candidate
 * @param {number} at
 */
export function fails(current, candidate, bitrate, at) {
  if (current.lag > current.floor + CALM) return true;
  return candidate.age(at) > TRY_SECONDS && candidate.lag > current.floor + CALM && candidate.rate(at) + current.rate(at) < bitrate * 1.25;
}

/** Whether a candidate is as close to live as the current level. @param {Arrivals} current @param {Arrivals} candidate */
export function isClose(current, candidate) { return candidate.lag <= current.floor + 2 * CALM; }

/** @param {Level[]} levels  the smallest first @param {number} rate */
function fitting(levels, rate) { return levels.findLast(({ bitrate }) => bitrate > 0 && bitrate <= rate * USABLE); }
