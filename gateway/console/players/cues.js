/** Captions and metadata with their times, and which of them belong to a moment. */

/** A caption. line: its distance from the top, percent of the picture; null: at the bottom. @typedef {{text: string, line: number | null}} Cue */
/**
 * Times are those of one clock, in any unit. open: the next caption ends it, at `end` at the latest.
 * @typedef {Cue & {start: number, end: number, open?: boolean}} TimedCue
 */
/** Timed metadata. time: seconds of the media timeline of the player. @typedef {{text: string, time: number}} Metadata */

const MOST = 64; // captions or metadata that are kept

/** The latest captions of a track. Above the bound, the oldest one is forgotten. */
export class CueList {
  /** @type {Map<string, TimedCue>} */
  #cues = new Map();

  /** @param {TimedCue} cue  one with the begin and text of an earlier one replaces it */
  add(cue) {
    const key = `${cue.start} ${cue.text}`;
    this.#cues.delete(key);
    for (const earlier of this.#cues.values()) if (earlier.open && earlier.start <= cue.start) earlier.end = Math.min(earlier.end, cue.start);
    this.#cues.set(key, cue);
    const [oldest] = this.#cues.keys();
    if (this.#cues.size > MOST && oldest !== undefined) this.#cues.delete(oldest);
  }

  clear() { this.#cues.clear(); }

  /** @param {number} time @returns {Cue[]} the captions at this time, in their order; each text once */
  at(time) {
    const shown = [...this.#cues.values()].filter(({ start, end }) => start <= time && time < end).sort((a, b) => a.start - b.start);
    return [...new Map(shown.map(({ text, line }) => [text, { text, line }])).values()];
  }
}

/** Metadata that wait for their time. Above the bound, the oldest ones are forgotten. */
export class Moments {
  /** @type {Metadata[]} */
  #waiting = [];
  /** @type {string[]} */
  #known = [];
  #late;

  /** @param {number} late  how long after its time one still counts: a player joins after it, or learns of it late */
  constructor(late) { this.#late = late; }

  /** @param {number} time @param {string} text  repetitions are ignored: players may read media twice */
  add(time, text) {
    const key = `${time.toFixed(2)} ${text}`;
    if (this.#known.includes(key)) return;
    this.#known = [...this.#known, key].slice(-MOST);
    this.#waiting = [...this.#waiting, { text, time }].slice(-MOST);
  }

  /** @param {number} now @returns {Metadata[]} those whose time has come since the last call */
  due(now) {
    if (!this.#waiting.length || Number.isNaN(now)) return [];
    const due = this.#waiting.filter(({ time }) => time <= now);
    if (due.length) this.#waiting = this.#waiting.filter(({ time }) => time > now);
    return due.filter(({ time }) => now - time <= this.#late).sort((a, b) => a.time - b.time);
  }
}

/** @param {VTTCue} cue @returns {Cue} its text without markup */
export function plain(cue) {
  const text = typeof cue.getCueAsHTML === "function" ? cue.getCueAsHTML().textContent ?? "" : cue.text;
  return { text, line: !cue.snapToLines && typeof cue.line === "number" ? cue.line : null };
}
