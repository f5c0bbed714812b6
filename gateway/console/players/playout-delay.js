/** Chooses how long media wait until they are shown: as short as the arrivals allow. Uses no clock. */

/** @typedef {"video" | "audio"} Kind */

/**
 * All numbers are milliseconds. The *lateness* of a frame is the time at which it could be shown, minus its own time. The
 * clocks differ, so only differences of latenesses mean something.
 */
const START = 40; // lateness above the smallest one that is expected at first
const BIN = 5; // width of a class of the histogram
const MOST = 500; // the largest lateness above the smallest one that is waited for
const MARGIN = 8; // added to what is expected
const SHRINK = 0.06; // at most this share of the time passed is taken from the delay
const AT_ONCE = 300; // a delay that is too long by more is shortened at once
const WINDOW = 3000; // the smallest lateness is that of the last one or two windows

/** A late picture is shown at once, and missing sound is heard. So less sound may be late. */
const IN_TIME = { video: 0.95, audio: 0.985 };  // share of the frames
const FORGET = { video: 0.01, audio: 0.004 }; // least weight of a new frame in the histogram

/** The distribution of the lateness of one track. Each frame takes weight from those before, so the histogram forgets. */
class Track {
  #kind;
  #old = Infinity;
  #new = Infinity;
  #since = -Infinity;
  #bins = new Float64Array(MOST / BIN);
  #frames = 1; // the first expectation counts as one

  /** @param {Kind} kind */
  constructor(kind) {
    this.#kind = kind;
    this.#bins[START / BIN] = 1;
  }

  /** @param {number} lateness @param {number} now */
  note(lateness, now) {
    if (now - this.#since >= WINDOW) {
      this.#old = this.#new;
      this.#new = Infinity;
      this.#since = now;
    }
    this.#new = Math.min(this.#new, lateness);
    const weight = Math.max(FORGET[this.#kind], 1 / ++this.#frames);
    const bin = Math.min(this.#bins.length - 1, Math.floor((lateness - this.floor) / BIN));
    for (let i = 0; i < this.#bins.length; i++) this.#bins[i] = (this.#bins[i] ?? 0) * (1 - weight) + (i === bin ? weight : 0);
  }

  /** The smallest lateness. A publisher's slow clock raises it. */
  get floor() { return Math.min(this.#old, this.#new); }

  /** The delay with which enough frames are in time. */
  get wanted() {
    let left = IN_TIME[this.#kind];
    let bin = 0;
    while (bin < this.#bins.length && (left -= this.#bins[bin] ?? 0) > 1e-9) bin++;
    return this.floor + (bin + 1) * BIN + MARGIN;
  }
}

/** The delay between a frame's time and the moment of its presentation, common to picture and sound. */
export class PlayoutDelay {
  /** @type {Map<Kind, Track>} */
  #tracks = new Map();
  #value = NaN;
  #changed = 0;

  /** The delay. NaN until the first frame. It grows at once and shrinks slowly. */
  get value() { return this.#value; }

  /**
   * Call for each frame when it could be shown.
   * @param {Kind} kind
   * @param {number} lateness
   * @param {number} now
   */
  note(kind, lateness, now) {
    let track = this.#tracks.get(kind);
    if (!track) {
      track = new Track(kind);
      this.#tracks.set(kind, track);
    }
    track.note(lateness, now);
    const wanted = Math.max(...[...this.#tracks.values()].map((each) => each.wanted));
    const excess = this.#value - wanted;
    if (excess > 0 && excess < AT_ONCE) this.#value -= Math.min(excess, Math.max(0, now - this.#changed) * SHRINK);
    else this.#value = wanted;
    this.#changed = now;
  }

  /** Forgets a track that is no longer played. @param {Kind} kind */
  forget(kind) { this.#tracks.delete(kind); }

  /** Forgets the arrivals, for a publisher that returned: its frames may come earlier or later. */
  restart() { this.#tracks.clear(); }
}
