/** Plays the last recorded session of a channel on its watch page, while nobody pushes. */

import { ChapterList } from "./chapters.js";
import { keyOf } from "./keyboard.js";
import { open } from "./recorded-source.js";
import { Speed } from "./speed.js";
import { neighbour } from "./status.js";
import { TimeBar } from "./time-bar.js";
import { Captions } from "./track-captions.js";

/** @typedef {import("./recorded-source.js").Trouble} Trouble */
/** @typedef {import("./types.js").Recorded} Recorded */

const STEPS = new Map([["arrowleft", -5], ["arrowright", 5], ["j", -10]]); // seconds, by key; L goes live

export class Replay {
  #view; #bar; #captions; #speed; #chapters;
  /** @type {AbortController | null}  null: nothing is open */
  #listening = null;
  /** @type {Recorded | null} */
  #recorded = null;
  #close = () => {};
  /** @type {(trouble: Trouble) => void} */
  #fail = () => {};

  /** @param {import("./view.js").View} view */
  constructor(view) {
    this.#view = view;
    this.#bar = new TimeBar(view.video);
    this.#captions = new Captions(view.video);
    this.#speed = new Speed(view.video);
    this.#chapters = new ChapterList((at) => {
      view.video.currentTime = at;
      void view.play();
      view.video.scrollIntoView({ block: "nearest" });
    });
  }

  /**
   * Plays a session from its start. Call `close` afterwards.
   * @param {Recorded} recorded
   * @param {(trouble: Trouble) => void} fail  called if it cannot be played
   */
  open(recorded, fail) {
    const { video, controls } = this.#view;
    const { signal } = this.#listening = new AbortController();
    this.#recorded = recorded;
    this.#view.replays(recorded);
    this.#view.captions.clear();
    this.#view.poster(neighbour(recorded.poster));
    this.#view.show("connecting");
    controls.addBar(this.#bar.element);
    controls.addClock(this.#bar.clock);
    controls.add(this.#captions.element);
    controls.add(this.#speed.element);
    video.closest(".stage")?.after(this.#chapters.element);
    video.addEventListener("canplay", () => void this.#view.play(), { signal, once: true });
    video.addEventListener("timeupdate", () => {
      if (!video.paused && this.#view.state !== "live") this.#view.show("live");
    }, { signal });
    for (const event of ["pause", "ended"]) {
      video.addEventListener(event, () => { if (this.#view.state === "live" && !video.error) this.#view.show("paused"); }, { signal });
    }
    document.addEventListener("keydown", (event) => this.#key(event), { signal, capture: true }); // before the live page
    this.#fail = fail;
    this.#load(0);
  }

  /**
   * Loads the session again if it has changed: its end is stored some seconds after the push.
   * @param {Recorded} recorded
   */
  renew(recorded) {
    if (!this.#listening || recorded.changed === this.#recorded?.changed) return;
    this.#recorded = recorded;
    const { video } = this.#view;
    const [at, paused] = [video.currentTime, video.paused];
    this.#load(at);
    if (!paused) video.addEventListener("canplay", () => void this.#view.play(), { signal: this.#listening.signal, once: true });
  }

  close() {
    this.#listening?.abort();
    this.#listening = null;
    this.#close();
    this.#chapters.show([]);
    this.#bar.mark([]);
    for (const { element } of [this.#bar, this.#captions, this.#speed, this.#chapters]) element.remove();
    this.#speed.reset();
    this.#bar.clock.remove();
    this.#view.replays(null);
  }

  /** @param {number} at  seconds */
  #load(at) {
    this.#close();
    const { hls } = /** @type {Recorded} */ (this.#recorded);
    this.#close = open(this.#view.video, neighbour(hls), true, at, (trouble) => this.#fail(trouble), (found) => {
      this.#chapters.show(found);
      this.#bar.mark(found);
    });
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    if (event.target instanceof Element && event.target.closest("dialog, select, .volume")) return;
    const key = keyOf(event);
    const step = STEPS.get(key);
    if (step !== undefined) this.#view.video.currentTime = Math.max(0, this.#view.video.currentTime + step);
    else if (key === "c") this.#captions.toggle();
    else return;
    event.preventDefault();
  }
}
