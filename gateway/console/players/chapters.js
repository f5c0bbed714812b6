/** The chapters of a recorded session: its ad breaks, as its playlist has them (EXT-X-DATERANGE). */

import { h } from "./dom.js";
import { speak } from "./language.js";
import { time } from "./time-bar.js";
import { t } from "./words.js";

/** at: seconds of the media timeline. @typedef {{at: number, type: "break" | "program"}} Chapter */
/** A range, as hls.js reads it. startTime: seconds. @typedef {Pick<import("./hls.min.js").DateRange, "startTime" | "duration" | "plannedDuration" | "attr">} Range */

const MOST = 100;
const NEAR = 0.5; // seconds: two chapters that begin within them are one

/**
 * @param {readonly (Range | undefined)[]} ranges  of one playlist
 * @returns {Chapter[]} in order; empty without breaks
 */
export function breakChapters(ranges) {
  /** @type {Chapter[]} */
  const found = [];
  for (const range of ranges) {
    if (!range || !Number.isFinite(range.startTime)) continue;
    const { startTime: at, attr } = range;
    const length = range.duration ?? range.plannedDuration;
    if ("SCTE35-CMD" in attr) continue; // not a break
    if ("SCTE35-OUT" in attr || length) {
      found.push({ at, type: "break" });
      if (length) found.push({ at: at + length, type: "program" });
    } else if ("SCTE35-IN" in attr) found.push({ at, type: "program" });
  }
  found.sort((a, b) => a.at - b.at);
  if (!found.length) return [];
  if ((found[0]?.at ?? 0) > NEAR) found.unshift({ at: 0, type: "program" });
  return found.filter(({ at }, i) => at >= 0 && (i === 0 || at - (found[i - 1]?.at ?? 0) > NEAR)).slice(0, MOST);
}

/** The list of the chapters, below the picture. */
export class ChapterList {
  element = h("ol", { class: "chapters break-chapters" });
  #play;
  /** @type {readonly Chapter[]} */
  #shown = [];

  /** @param {(at: number) => void} play  plays from there, seconds */
  constructor(play) {
    this.#play = play;
    speak(() => {
      this.element.setAttribute("aria-label", t("chapters.label"));
      this.show(this.#shown);
    });
  }

  /** @param {readonly Chapter[]} chapters */
  show(chapters) {
    this.#shown = chapters;
    this.element.replaceChildren(...chapters.map(({ at, type }) => h("li", {},
      h("button", { type: "button", class: "plain", onclick: () => this.#play(at) },
        h("span", { class: "chapter-at" }, time(at)), ` ${t(`chapters.${type}`)}`))));
  }
}
