/** The preview of the sent picture, and the text over it. */

import { button, element, html, say } from "./elements.js";
import { t } from "./words.js";

/** @typedef {import("./words.js").Word} Word */
/** @typedef {"off" | "opening" | "none" | "hidden" | "picture"} Scene */

/** @type {Record<Exclude<Scene, "picture">, [Word, Word]>} */
const WORDS = {
  off: ["stage.off", "stage.off.detail"],
  opening: ["stage.opening", "stage.opening.detail"],
  none: ["stage.none", "stage.none.detail"],
  hidden: ["stage.hidden", "stage.hidden.detail"],
};

export class StageView {
  #video = element("preview", HTMLVideoElement);
  /** @type {MediaStreamTrack | null} */
  #track = null;

  constructor() {
    this.#video.addEventListener("resize", () => {
      const { width, height } = this.size;
      if (width && height) html("stage").style.setProperty("--shape", `${width / height}`);
    });
  }

  /** The real size of the picture; {} while there is none. */
  get size() { return this.#video.videoWidth ? { width: this.#video.videoWidth, height: this.#video.videoHeight } : {}; }

  /** Settles when the picture's size is known, or if no picture comes. */
  async ready() {
    if (this.#track === null || this.#video.videoWidth) return;
    await new Promise((done) => {
      this.#video.addEventListener("loadedmetadata", done, { once: true });
      setTimeout(done, 2000); // for a screen that gives no first picture
    });
  }

  /**
   * @param {Scene} scene
   * @param {MediaStreamTrack | null} track
   * @param {boolean} mirrored
   * @param {boolean} heard  whether viewers hear the microphone
   */
  show(scene, track, mirrored, heard) {
    const stage = html("stage");
    stage.dataset["scene"] = scene;
    stage.dataset["mirrored"] = String(mirrored);
    if (scene !== "picture") {
      say("headline", t(WORDS[scene][0]));
      say("detail", t(scene === "hidden" && !heard ? "stage.hidden.silent" : WORDS[scene][1]));
    }
    button("open").hidden = scene !== "off";
    if (track === this.#track) return;
    this.#track = track;
    this.#video.srcObject = track && new MediaStream([track]);
    // AbortError: the next picture has replaced this one.
    if (track) this.#video.play().catch((error) => { if (error.name !== "AbortError") throw error; });
  }
}
