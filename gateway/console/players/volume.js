/** The volume and the mute state of a page's video, kept in this browser. */

import { keep, recall } from "./memory.js";

export class Volume {
  #video;
  /** Whether the browser has muted the video, not the viewer. */
  #byBrowser = false;

  /**
   * Restores what the viewer chose.
   * @param {HTMLVideoElement} video
   * @param {boolean} muted  whether the first visit begins muted
   */
  constructor(video, muted) {
    this.#video = video;
    const volume = Number(recall("volume") ?? 1);
    video.volume = volume >= 0 && volume <= 1 ? volume : 1;
    video.muted = muted ? recall("muted") !== "no" : recall("muted") === "yes";
    const changed = () => {
      if (!video.muted) this.#byBrowser = false;
      if (!this.#byBrowser) this.#keep();
    };
    video.addEventListener("volumechange", changed);
    addEventListener("pagehide", changed); // a closing page may not get the change event any more
  }

  /**
   * Starts playback; muted if the browser forbids sound.
   * @returns {Promise<boolean>} false: the browser forbids that too, until the viewer clicks
   */
  async play() {
    try {
      await this.#video.play();
    } catch (error) {
      // AbortError: a newer load or pause replaced this call and has its own result.
      if (!(error instanceof DOMException) || error.name !== "NotAllowedError") return true;
      if (this.#video.muted) return false;
      this.#byBrowser = true;
      this.#video.muted = true;
      return this.play();
    }
    return true;
  }

  /** Mutes, or makes the video heard. */
  toggle() {
    const video = this.#video;
    video.muted = !video.muted && video.volume > 0;
    if (!video.muted && video.volume === 0) video.volume = 1;
    this.#byBrowser = false;
  }

  #keep() {
    keep("muted", this.#video.muted ? "yes" : "no");
    keep("volume", String(this.#video.volume));
  }
}
