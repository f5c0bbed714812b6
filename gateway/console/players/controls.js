/** The bar of buttons over the picture, which hides when it is not used. */

import { h, icon } from "./dom.js";
import { speak } from "./language.js";
import { AUTO, nameOf, SOURCE } from "./quality.js";
import { t } from "./words.js";

/** @typedef {import("./dom.js").Shape} Shape */
/** @typedef {import("./quality.js").Choice} Choice */

const NARROW = matchMedia("(max-width: 640px)");
const RESTS = 3000; // ms without a move until the bar hides

/** iPhones support only this method. @typedef {HTMLVideoElement & {webkitEnterFullscreen?: () => void}} OldVideo */

export class Controls {
  element = h("div", { class: "controls" });

  #stage; #video; #does;
  #play = button("play");
  #mute = button("mute");
  #volume = h("input", { type: "range", class: "volume", min: "0", max: "1", step: "0.05" });
  #gap = h("span", { class: "gap" });
  #goLive = h("button", { id: "golive", class: "hint", type: "button", hidden: true });
  #quality = h("select", { id: "quality" });
  #qualityWords = h("span", { class: "visually-hidden" }); // the bar has no room for it
  #qualityBox = h("label", { class: "quality", hidden: true }, this.#qualityWords, this.#quality);
  #sound = h("select", { id: "sound" });
  #soundWords = h("span", { class: "visually-hidden" });
  #soundBox = h("label", { class: "quality", hidden: true }, this.#soundWords, this.#sound);
  #share = button("share");
  #pip = button("pip");
  #full = button("full");
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #rest;
  #offered = "";
  #heard = "";

  /**
   * @param {HTMLElement} stage
   * @param {HTMLVideoElement} video
   * @param {{toggle: () => void, mute: () => void, share: () => void}} does
   */
  constructor(stage, video, does) {
    this.#stage = stage;
    this.#video = video;
    this.#does = does;
    this.element.append(this.#play, this.#mute, this.#volume, this.#goLive, this.#gap,
      this.#soundBox, this.#qualityBox, this.#share, this.#pip, this.#full);
    this.#pip.hidden = !document.pictureInPictureEnabled;
    this.#full.hidden = !document.fullscreenEnabled && !/** @type {OldVideo} */ (video).webkitEnterFullscreen;
    this.#listen();
    speak(() => {
      this.#volume.setAttribute("aria-label", t("sound.volume"));
      this.#goLive.textContent = t("do.live");
      this.#qualityWords.textContent = t("quality.label");
      this.#soundWords.textContent = t("sound.track");
      this.#offered = "";
      name(this.#share, t("do.share"));
      name(this.#pip, t("do.pip"));
      this.refresh();
    });
  }

  /** @param {() => void} run */
  onGoLive(run) { this.#goLive.addEventListener("click", run); }

  /** @param {(id: string) => void} run */
  onQuality(run) { this.#quality.addEventListener("change", () => run(this.#quality.value)); }

  /** @param {(name: string) => void} run */
  onSound(run) { this.#sound.addEventListener("change", () => run(this.#sound.value)); }

  /**
   * Shows the audio tracks, if there are several.
   * @param {string[]} names
   * @param {string} chosen  one that does not exist: the first one
   */
  sounds(names, chosen) {
    const value = names.includes(chosen) ? chosen : names[0] ?? "";
    const offered = JSON.stringify([names, value]);
    if (offered === this.#heard) return; // does not change an open menu
    this.#heard = offered;
    this.#sound.replaceChildren(...names.map((name) => h("option", { value: name }, name)));
    this.#sound.value = value;
    this.#soundBox.hidden = names.length < 2;
  }

  /**
   * Adds a button of the page, left of "Share".
   * @param {HTMLElement} button
   */
  add(button) { this.#share.before(button); }

  /** @param {HTMLElement} menu  of the page, where the choices of quality and audio track are from now on */
  moveChoices(menu) {
    for (const words of [this.#qualityWords, this.#soundWords]) words.classList.remove("visually-hidden");
    menu.append(this.#qualityBox, this.#soundBox);
  }

  /**
   * Adds a time bar above the buttons.
   * @param {HTMLElement} bar
   */
  addBar(bar) { this.element.prepend(bar); }

  /** @param {HTMLElement} clock  the position and the length of a recording, right of the volume */
  addClock(clock) { this.#gap.before(clock); }

  /** @param {boolean} behind  whether the picture is noticeably late */
  offerGoLive(behind) { this.#goLive.hidden = !behind; }

  /** Moves the focus to the bar. */
  focus() { this.#mute.focus(); }

  /**
   * @param {Choice[]} choices
   * @param {string} chosen
   * @param {string | null} shown  the current quality, if it is chosen automatically
   * @param {boolean} rewound  whether an earlier time is shown, of which only the original is stored
   */
  qualities(choices, chosen, shown, rewound) {
    const single = rewound && !this.#qualityBox.hidden;
    if (single) choices = [{ id: SOURCE, height: 0, bitrate: 0 }];
    const narrow = NARROW.matches && this.element.contains(this.#quality); // a phone's bar has no room for the current one
    const labels = choices.map((choice) => choice.id === AUTO && chosen === AUTO && shown && !narrow
      ? t("quality.auto.now", { name: short(choices.find((c) => c.id === shown) ?? { id: shown, height: 0, bitrate: 0 }) })
        : label(choice));
    const offered = JSON.stringify([choices.map((c) => c.id), labels, chosen, single]);
    if (offered === this.#offered) return; // does not change an open menu
    this.#offered = offered;
    this.#quality.replaceChildren(...choices.map(({ id }, i) => h("option", { value: id }, labels[i] ?? id)));
    this.#quality.value = chosen;
    this.#quality.disabled = single;
    this.#quality.title = single ? t("quality.rewound") : "";
    this.#qualityBox.hidden = !single && choices.length < 2;
  }

  /** Shows the current state of the element. */
  refresh() {
    const { paused, muted, volume } = this.#video;
    const silent = muted || volume === 0;
    face(this.#play, paused ? "play" : "pause", t(paused ? "do.play" : "do.pause"));
    face(this.#mute, silent ? "mute" : "sound", t(silent ? "do.unmute" : "do.mute"));
    this.#volume.value = String(silent ? 0 : volume);
    const full = document.fullscreenElement !== null;
    face(this.#full, full ? "small" : "full", t(full ? "do.small" : "do.full"));
    this.#stir();
  }

  async toggleFull() {
    const video = /** @type {OldVideo} */ (this.#video);
    try {
      if (document.fullscreenElement) await document.exitFullscreen();
      else if (document.fullscreenEnabled) await this.#stage.requestFullscreen({ navigationUI: "hide" });
      else video.webkitEnterFullscreen?.();
    } catch { /* the browser refuses; the picture stays as it is */ }
  }

  async togglePip() {
    if (this.#pip.hidden) return;
    try {
      if (document.pictureInPictureElement) await document.exitPictureInPicture();
      else await this.#video.requestPictureInPicture();
    } catch { /* there is no picture yet, or the browser refuses */ }
  }

  /** @param {number} by  -1 to 1 */
  louder(by) {
    const video = this.#video;
    const from = video.muted ? 0 : video.volume;
    video.volume = Math.min(1, Math.max(0, Math.round((from + by) * 20) / 20));
    video.muted = video.volume === 0;
    this.#stir();
  }

  #listen() {
    const video = this.#video;
    this.#play.addEventListener("click", this.#does.toggle);
    this.#mute.addEventListener("click", this.#does.mute);
    this.#share.addEventListener("click", this.#does.share);
    this.#full.addEventListener("click", () => void this.toggleFull());
    this.#pip.addEventListener("click", () => void this.togglePip());
    this.#volume.addEventListener("input", () => {
      video.volume = Number(this.#volume.value);
      video.muted = video.volume === 0;
    });
    for (const event of ["play", "pause", "volumechange"]) video.addEventListener(event, () => this.refresh());
    document.addEventListener("fullscreenchange", () => this.refresh());
    // A touch shows the bar when it ends: a button that it showed before would take the click.
    // With a mouse the bar is visible already, so a click acts on the picture.
    let [asleep, by] = [false, ""]; // a click of Safari before 18.4 does not tell that it was a touch
    const stir = (/** @type {Event & {pointerType?: string}} */ { type, pointerType = "" }) => {
      if (type === "pointerdown") [asleep, by] = [this.#stage.dataset.asleep !== undefined, pointerType];
      if (pointerType !== "touch" || !asleep) this.#stir();
    };
    for (const event of ["pointermove", "pointerdown", "focusin"]) this.#stage.addEventListener(event, stir);
    document.addEventListener("keydown", () => this.#stir());
    this.#stage.addEventListener("pointerleave", ({ pointerType }) => { if (pointerType === "mouse") this.#leave(); });
    video.addEventListener("click", () => {
      if (by !== "touch") this.#does.toggle();
      else if (asleep) this.#stir();
      else this.#leave();
    });
    video.addEventListener("dblclick", () => void this.toggleFull());
  }

  #stir() {
    delete this.#stage.dataset.asleep;
    clearTimeout(this.#rest);
    this.#rest = setTimeout(() => this.#leave(), RESTS);
  }

  /** Hides the bar only while the picture plays, so that the play button stays visible. */
  #leave() {
    clearTimeout(this.#rest);
    if (this.#stage.dataset.state === "live" && !this.#video.paused) this.#stage.dataset.asleep = "";
  }
}

/** @param {Shape} shape @returns {HTMLButtonElement} */
export function button(shape) { return h("button", { type: "button", class: "control" }, icon(shape)); }

/** @param {HTMLButtonElement} it @param {string} words */
export function name(it, words) {
  it.setAttribute("aria-label", words);
  it.title = words;
}

/** @param {HTMLButtonElement} it @param {Shape} shape @param {string} words */
function face(it, shape, words) {
  if (it.dataset.shape !== shape) it.replaceChildren(icon(shape));
  it.dataset.shape = shape;
  name(it, words);
}

/** @param {Choice} choice @returns {string} */
function short(choice) {
  const { id, height } = choice;
  if (id !== SOURCE) return nameOf(choice);
  return height ? `${t("quality.source")} ${height}p` : t("quality.source");
}

/** @param {Choice} choice @returns {string} */
function label(choice) {
  if (choice.id === AUTO) return t("quality.auto");
  const { bitrate } = choice;
  return bitrate ? `${short(choice)} · ${bitrate < 995_000 ? `${Math.round(bitrate / 1000)} kb/s` : `${(bitrate / 1e6).toFixed(1)} Mb/s`}`
    : short(choice);
}
