/** The time bar over the controls: the position, what is loaded, and a small picture under the pointer. */

import { h } from "./dom.js";
import { speak } from "./language.js";
import { picture } from "./previews.js";
import { previewAt } from "./webvtt.js";
import { t } from "./words.js";

/** @typedef {import("./webvtt.js").Preview} Preview */

export class TimeBar {
  #video;
  #slider = h("input", { type: "range", class: "rewind-slider", min: "0", max: "0", step: "any", value: "0", id: "position" });
  #loaded = h("span", { class: "time-loaded" });
  #marks = h("span", { class: "time-marks", "aria-hidden": "true" });
  #picture = picture();
  #tipTime = h("span", { class: "rewind-tip-time" });
  #tip = h("div", { class: "rewind-tip", hidden: true, "aria-hidden": "true" }, this.#picture.element, this.#tipTime);
  #dragging = false;
  /** @type {readonly Preview[]} */
  #previews = [];
  /** @type {readonly {at: number}[]} */
  #marked = [];

  /** The current position and the length, as text. */
  clock = h("span", { class: "time-clock" });
  element = h("div", { class: "time" }, h("div", { class: "rewind-track" }, this.#loaded, this.#marks, this.#slider), this.#tip);

  /** @param {HTMLVideoElement} video */
  constructor(video) {
    this.#video = video;
    const slider = this.#slider;
    slider.addEventListener("input", () => {
      this.#dragging = true;
      video.currentTime = Number(slider.value);
      this.refresh();
    });
    slider.addEventListener("change", () => { this.#dragging = false; });
    // The page's own keys seek; the slider's steps would be too small.
    slider.addEventListener("keydown", (event) => { if (event.key.startsWith("Arrow")) event.preventDefault(); });
    this.element.addEventListener("pointermove", (event) => this.#point(event));
    for (const event of ["pointerleave", "pointerup", "pointercancel"]) {
      this.element.addEventListener(event, () => { this.#tip.hidden = true; });
    }
    video.addEventListener("durationchange", () => this.#mark());
    for (const event of ["timeupdate", "durationchange", "progress", "seeking", "emptied"]) {
      video.addEventListener(event, () => this.refresh());
    }
    speak(() => {
      slider.setAttribute("aria-label", t("time.bar"));
      this.refresh();
    });
  }

  /** @param {readonly Preview[]} previews */
  show(previews) { this.#previews = previews; }

  /** @param {readonly {at: number}[]} chapters  that are marked. at: seconds */
  mark(chapters) {
    this.#marked = chapters;
    this.#mark();
  }

  #mark() {
    const all = this.length;
    const inside = all ? this.#marked.filter(({ at }) => at > 0 && at < all) : [];
    this.#marks.replaceChildren(...inside.map(({ at }) => {
      const mark = h("i");
      mark.style.left = `${(at / all) * 100}%`;
      return mark;
    }));
  }

  refresh() {
    const { currentTime, buffered } = this.#video;
    const all = this.length;
    const slider = this.#slider;
    slider.max = String(all);
    if (!this.#dragging) slider.value = String(currentTime);
    const words = { at: time(currentTime), all: time(all) };
    slider.setAttribute("aria-valuetext", t("time.at", words));
    this.clock.textContent = `${words.at} / ${words.all}`;
    let end = 0;
    for (let i = 0; i < buffered.length; i++) if (buffered.start(i) <= currentTime + 0.5) end = Math.max(end, buffered.end(i));
    this.element.style.setProperty("--played", String(all ? currentTime / all : 0));
    this.element.style.setProperty("--loaded", String(all ? Math.min(1, end / all) : 0));
  }

  /** The length in seconds; what is loaded so far if it is unknown. */
  get length() {
    const { duration, seekable } = this.#video;
    if (Number.isFinite(duration)) return duration;
    return seekable.length ? seekable.end(seekable.length - 1) : 0;
  }

  /** @param {PointerEvent} event */
  #point(event) {
    const { left, width } = this.#slider.getBoundingClientRect();
    if (!this.length || !width) return;
    const share = Math.min(1, Math.max(0, (event.clientX - left) / width));
    const at = share * this.length;
    const preview = previewAt(this.#previews, at);
    this.#picture.element.hidden = !preview;
    if (preview) this.#picture.show(preview);
    this.#tipTime.textContent = time(at);
    this.#tip.hidden = false;
    const half = this.#tip.offsetWidth / 2;
    this.#tip.style.left = `${Math.min(width - half, Math.max(half, share * width))}px`;
  }
}

/**
 * @param {number} seconds
 * @returns {string} "1:02:03" or "2:03"
 */
export function time(seconds) {
  const whole = Math.max(0, Math.floor(seconds || 0));
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const two = (/** @type {number} */ n) => String(n).padStart(2, "0");
  return hours ? `${hours}:${two(minutes)}:${two(rest)}` : `${minutes}:${two(rest)}`;
}
