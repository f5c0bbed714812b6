/** The time bar of a live stream whose viewers may go back: the kept time, a small picture under the pointer, and "Live". */

import { h } from "./dom.js";
import { languageTag, speak } from "./language.js";
import { neighbour } from "./status.js";
import { t } from "./words.js";

const STEP = 10; // seconds of an arrow key
const LONG_STEP = 60; // seconds of "page up" and "page down"
const LIVE_SECONDS = 6; // so close to the end of the bar is "live"
const THUMB = 15; // pixels, the width of the slider's handle
const PICTURE_DELAY = 120;  // ms for which the pointer rests before a picture is requested
const PICTURE_EVERY = 5; // seconds; pictures of nearer times are equal

export class RewindBar {
  #slider = h("input", { type: "range", id: "rewind", class: "rewind-slider", min: "0", max: "1", step: "any", value: "1" });
  #clock = h("span", { class: "rewind-clock", id: "behind" });
  #live = h("button", { type: "button", class: "rewind-live", id: "live" });
  #picture = h("img", { class: "rewind-picture", alt: "", hidden: true });
  #tipBehind = h("span");
  #tipClock = h("span", { class: "rewind-tip-clock" });
  #tip = h("div", { class: "rewind-tip", hidden: true, "aria-hidden": "true" }, this.#picture,
    h("span", { class: "rewind-tip-time" }, this.#tipBehind, this.#tipClock));
  #track = h("div", { class: "rewind-track" }, this.#slider, this.#tip);

  element = h("div", { class: "rewind", hidden: true }, this.#track, this.#clock, this.#live);

  #go; #toLive;
  /** ms since 1970 */
  #oldest = 0;
  #now = 0;
  /** The date of the picture, ms since 1970; null: live. @type {number | null} */
  #shown = null;
  #dragging = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #resting;

  /**
   * @param {(date: number) => void} go   called with the wanted date, ms since 1970
   * @param {() => void} toLive
   */
  constructor(go, toLive) {
    this.#go = go;
    this.#toLive = toLive;
    const slider = this.#slider;
    slider.addEventListener("input", () => {
      this.#dragging = true;
      this.#show(this.#dateAt(Number(slider.value)));
      this.#tell(this.#dateAt(Number(slider.value)), Number(slider.value));
    });
    slider.addEventListener("change", () => this.#choose(this.#dateAt(Number(slider.value))));
    slider.addEventListener("keydown", (event) => this.#key(event));
    this.#track.addEventListener("pointermove", (event) => {
      const { left, width } = slider.getBoundingClientRect();
      const at = (event.clientX - left - THUMB / 2) / (width - THUMB); // as browsers read a click on a slider
      const share = Math.min(1, Math.max(0, at));
      if (width) this.#tell(this.#dateAt(share), share);
    });
    for (const event of ["pointerleave", "pointerup", "pointercancel"]) {
      this.#track.addEventListener(event, () => this.#hide());
    }
    slider.addEventListener("blur", () => this.#hide());
    this.#live.addEventListener("click", () => this.#toLive());
    this.#picture.addEventListener("load", () => { this.#picture.hidden = false; });
    this.#picture.addEventListener("error", () => { this.#picture.hidden = true; });
    speak(() => {
      slider.setAttribute("aria-label", t("rewind.bar"));
      this.#live.textContent = t("rewind.live");
      this.#show(this.#shown);
    });
  }

  /**
   * Shows the bar for this time.
   * @param {number} oldest  the date to which viewers can go back, ms since 1970
   * @param {number} now     ms since 1970
   * @param {number | null} shown  the date of the picture; null: live
   */
  refresh(oldest, now, shown) {
    this.element.hidden = now - oldest < LIVE_SECONDS * 1000;
    this.#oldest = oldest;
    this.#now = now;
    if (!this.#dragging) this.#show(shown);
  }

  hide() { this.element.hidden = true; }

  /** @param {number} share  0 to 1 @returns {number | null} */
  #dateAt(share) {
    const date = this.#oldest + share * (this.#now - this.#oldest);
    return this.#now - date < LIVE_SECONDS * 1000 ? null : date;
  }

  /** @param {number | null} date */
  #choose(date) {
    this.#dragging = false;
    this.#hide();
    if (date === null) this.#toLive();
    else {
      this.#shown = date;
      this.#go(date);
    }
  }

  /** @param {number | null} date */
  #show(date) {
    this.#shown = date;
    const length = Math.max(1, this.#now - this.#oldest);
    const share = date === null ? 1 : Math.min(1, Math.max(0, (date - this.#oldest) / length));
    if (!this.#dragging) this.#slider.value = String(share);
    this.element.style.setProperty("--played", String(share));
    this.element.toggleAttribute("data-live", date === null);
    const behind = date === null ? "" : `-${duration(this.#now - date)}`;
    this.#clock.textContent = behind;
    this.#live.disabled = date === null;
    this.#slider.setAttribute("aria-valuetext", date === null ? t("rewind.live")
      : t("rewind.at", { behind: duration(this.#now - date), clock: clockTime(date) }));
  }

  /**
   * Shows what is at a place of the bar.
   * @param {number | null} date
   * @param {number} share
   */
  #tell(date, share) {
    const { offsetWidth: width } = this.#track;
    this.#tip.hidden = false;
    this.#tipBehind.textContent = date === null ? t("rewind.live") : `-${duration(this.#now - date)}`;
    this.#tipClock.textContent = clockTime(date ?? this.#now);
    clearTimeout(this.#resting);
    this.#resting = setTimeout(() => {
      const seconds = Math.floor((date ?? this.#now - LIVE_SECONDS * 1000) / 1000 / PICTURE_EVERY) * PICTURE_EVERY;
      const url = neighbour(`rewind/${Math.max(seconds, Math.ceil(this.#oldest / 1000))}.jpg`);
      if (this.#picture.getAttribute("src") !== url) this.#picture.src = url;
    }, PICTURE_DELAY);
    const half = this.#tip.offsetWidth / 2;
    this.#tip.style.left = `${Math.min(width - half, Math.max(half, share * width))}px`;
  }

  #hide() {
    clearTimeout(this.#resting);
    this.#tip.hidden = true;
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const from = this.#shown ?? this.#now;
    /** @type {Record<string, number>} */
    const steps = { ArrowLeft: -STEP, ArrowDown: -STEP, ArrowRight: STEP, ArrowUp: STEP, PageDown: -LONG_STEP, PageUp: LONG_STEP };
    const step = steps[event.key];
    if (event.key === "Home") this.#choose(this.#oldest);
    else if (event.key === "End") this.#choose(null);
    else if (step !== undefined) {
      const date = Math.max(this.#oldest, from + step * 1000);
      if (this.#shown !== null || step < 0) this.#choose(this.#now - date < LIVE_SECONDS * 1000 ? null : date);
    } else return;
    this.#show(this.#shown);
    event.preventDefault();
    event.stopPropagation();
  }
}

/** @param {number} ms @returns {string} "1:02:03" or "2:03" */
function duration(ms) {
  const whole = Math.max(0, Math.round(ms / 1000));
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const two = (/** @type {number} */ n) => String(n).padStart(2, "0");
  return hours ? `${hours}:${two(minutes)}:${two(rest)}` : `${minutes}:${two(rest)}`;
}

/** @param {number} date  ms since 1970 @returns {string} the time of day in the viewer's zone */
function clockTime(date) { return new Date(date).toLocaleTimeString(languageTag(), { hour: "2-digit", minute: "2-digit", second: "2-digit" }); }
