/** The choice of a recording's speed. A live stream has none: its pages keep close to now. */

import { h } from "./dom.js";
import { speak } from "./language.js";
import { t } from "./words.js";

const SPEEDS = [0.5, 0.75, 1, 1.25, 1.5, 2];

export class Speed {
  #video;
  #chosen = h("select", { id: "speed" }, ...SPEEDS.map((speed) => h("option", { value: String(speed) }, `${speed}×`)));

  element = h("span", { class: "quality speed" }, this.#chosen);

  /** @param {HTMLVideoElement} video */
  constructor(video) {
    this.#video = video;
    this.#chosen.value = "1";
    this.#chosen.addEventListener("change", () => this.#set(Number(this.#chosen.value)));
    speak(() => { this.#chosen.setAttribute("aria-label", t("speed.label")); });
  }

  /** Plays as fast as it was recorded. */
  reset() {
    this.#chosen.value = "1";
    this.#set(1);
  }

  /** @param {number} speed  also of the next source */
  #set(speed) { this.#video.playbackRate = this.#video.defaultPlaybackRate = speed; }
}
