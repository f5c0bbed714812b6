/**
 * The element `<millrace-player channel="…">` for pages of others: a live channel with the properties, events and methods of
 * a media element. `/player.js` loads it. It needs no style sheet, frame or inline code.
 */

import { codecWords } from "../players/codec-words.js";
import { h } from "../players/dom.js";
import { languageTag } from "../players/language.js";
import { AUTO } from "../players/quality.js";
import { StreamPlayer } from "./stream-player.js";
import { t } from "../players/words.js";

/** @typedef {import("../players/quality.js").Choice} Choice */
/** @typedef {import("../players/view.js").State} State */
/** @typedef {import("../players/words.js").Word} Word */

/** The events of the video element that the player fires too. They do not bubble, as those of a media element. */
const EVENTS = [
  "canplay", "canplaythrough", "durationchange", "emptied", "ended", "error", "loadeddata", "loadedmetadata", "loadstart",
  "pause", "play", "playing", "progress", "ratechange", "resize", "seeked", "seeking", "stalled", "suspend", "timeupdate",
  "volumechange", "waiting",
];

/** The second line of a state. @type {Partial<Record<State, Word>>} */
const DETAILS = {
  waiting: "detail.waiting", starting: "detail.starting", ended: "detail.ended", denied: "detail.denied", lost: "detail.lost",
  broken: "detail.broken", stopped: "detail.ended", unknown: "detail.unknown", off: "detail.off.all",
};

/** States whose second line says that playback starts by itself. @type {State[]} */
const AGAIN = ["waiting", "ended", "stopped"];

/** States in which the last picture stays without words. @type {State[]} */
const SILENT = ["live", "paused"];

const STYLE = `
:host { display: block; position: relative; aspect-ratio: 16 / 9; background: #0b0f14; color: #fff; overflow: hidden;
  font: 16px/1.4 system-ui, sans-serif; }
:host([hidden]) { display: none; }
video, img { position: absolute; inset: 0; width: 100%; height: 100%; object-fit: contain; }
.words { position: absolute; inset: 0; display: grid; place-content: center; justify-items: center; gap: .4rem; padding: 1rem;
  text-align: center; background: rgb(11 15 20 / .62); pointer-events: none; }
.words[hidden], img[hidden], button[hidden], p:empty { display: none; }
p { margin: 0; }
.headline { font-weight: 650; }
button { pointer-events: auto; min-width: 3rem; min-height: 2.75rem; padding: .5rem 1.25rem; border: 0; border-radius: 999px;
  background: #fff; color: #0b0f14; font: inherit; font-weight: 650; cursor: pointer; }
button:focus-visible { outline: 3px solid #7cd4cc; outline-offset: 2px; }
`;

export class MillracePlayer extends HTMLElement {
  static observedAttributes = ["channel", "server", "sign", "muted", "autoplay", "controls", "quality"];

  #video = h("video", { playsinline: true, part: "video" });
  #poster = h("img", { alt: "", hidden: true, part: "poster" });
  #headline = h("p", { class: "headline", part: "headline" });
  #detail = h("p", { part: "detail" });
  #start = h("button", { type: "button", hidden: true, part: "start", onclick: () => void this.play().catch(() => undefined) });
  #words = h("div", { class: "words", part: "words", role: "status" }, this.#headline, this.#detail, this.#start);
  /** @type {StreamPlayer | null} */
  #player = null;
  #due = false; // whether the channel is opened after this task
  /** @type {[State, string]} */
  #said = ["connecting", ""];

  constructor() {
    super();
    const root = this.attachShadow({ mode: "open" });
    if ("adoptedStyleSheets" in document) {
      const sheet = new CSSStyleSheet(); // not a style element: the page's policy may forbid them
      sheet.replaceSync(STYLE);
      root.adoptedStyleSheets = [sheet];
    } else root.append(h("style", {}, STYLE)); // Safari before 16.4
    root.append(this.#poster, this.#video, this.#words);
    for (const name of EVENTS) this.#video.addEventListener(name, () => this.dispatchEvent(new Event(name)));
    this.#poster.addEventListener("load", () => this.#draw());
    this.#words.lang = languageTag();
    this.#start.textContent = t("do.play");
    this.#video.setAttribute("aria-label", t("page.video"));
    this.#draw();
  }

  connectedCallback() { this.#open(); }

  disconnectedCallback() {
    this.#player?.close();
    this.#player = null;
  }

  /** @param {string} name @param {string | null} before @param {string | null} value */
  attributeChangedCallback(name, before, value) {
    if (before === value) return;
    switch (name) {
      case "muted": this.#video.muted = value !== null; break; // as `defaultMuted`, but also later: pages expect that
      case "controls": this.#video.controls = value !== null; break;
      case "quality": if (this.#player) this.#player.quality = value || AUTO; break;
      case "autoplay": if (value !== null) this.#player?.begin(true); break;
      default: this.#open();
    }
  }

  // ---- as a media element ----

  /** Plays; the promise is settled when it plays, or when the browser or `pause` prevents it. @returns {Promise<void>} */
  play() {
    if (!this.#player) return Promise.reject(new DOMException("The player has no channel.", "NotSupportedError"));
    return this.#player.play();
  }

  pause() { this.#player?.pause(); }

  /** Opens the channel again. */
  load() { this.#open(); }

  get muted() { return this.#video.muted; }
  set muted(is) { this.#video.muted = is; }
  get volume() { return this.#video.volume; }
  set volume(to) { this.#video.volume = to; }
  get currentTime() { return this.#video.currentTime; }
  set currentTime(to) { this.#video.currentTime = to; }
  get paused() { return this.#video.paused; }
  get ended() { return this.#said[0] === "ended"; }
  get readyState() { return this.#video.readyState; }
  get duration() { return this.#video.duration; }
  get buffered() { return this.#video.buffered; }
  get seekable() { return this.#video.seekable; }
  get videoWidth() { return this.#video.videoWidth; }
  get videoHeight() { return this.#video.videoHeight; }
  get error() { return this.#video.error; }

  // ---- of the channel ----

  get channel() { return this.getAttribute("channel") ?? ""; }
  set channel(to) { this.setAttribute("channel", to); }
  get server() { return this.getAttribute("server") ?? new URL("/", import.meta.url).href; }
  set server(to) { this.setAttribute("server", to); }
  get sign() { return this.getAttribute("sign") ?? ""; }
  set sign(to) { this.setAttribute("sign", to); }
  get autoplay() { return this.hasAttribute("autoplay"); }
  set autoplay(is) { this.toggleAttribute("autoplay", is); }
  get controls() { return this.hasAttribute("controls"); }
  set controls(is) { this.toggleAttribute("controls", is); }
  get quality() { return this.#player?.quality ?? (this.getAttribute("quality") || AUTO); }
  set quality(to) { this.setAttribute("quality", to); }

  /** The qualities to choose from, the best first; empty if there is no choice. @returns {readonly string[]} */
  get qualities() { return (this.#player?.qualities ?? []).map(({ id }) => id); }

  /** @returns {State} */
  get state() { return this.#said[0]; }

  /** Seconds between the publisher and the picture; NaN while unknown. @returns {number} */
  get delay() { return this.#player?.delay ?? NaN; }

  /** Opens the channel after this task, in which other attributes may be set. */
  #open() {
    if (this.#due) return;
    this.#due = true;
    queueMicrotask(() => {
      this.#due = false;
      this.disconnectedCallback();
      const folder = this.isConnected ? folderOf(this.server, this.channel) : null;
      if (folder === null) return this.#say("unknown", "");
      this.#say("connecting", "");
      const player = this.#player = new StreamPlayer(this.#video, folder, this.sign, {
        state: (state, detail) => this.#say(state, detail),
        about: ({ live, poster }) => this.#picture(player, live || !poster ? "poster.jpg" : poster),
        qualities: () => this.dispatchEvent(new Event("qualitychange")),
      });
      player.quality = this.getAttribute("quality") || AUTO;
      if (this.autoplay) player.begin(true);
    });
  }

  /** @param {StreamPlayer} player @param {string} file */
  #picture(player, file) {
    const url = player.address(file);
    if (this.#poster.src !== url) this.#poster.src = url;
  }

  /** @param {State} state @param {string} detail */
  #say(state, detail) {
    const before = this.#said[0];
    this.#said = [state, detail];
    this.#draw();
    if (state !== before) this.dispatchEvent(new Event("statechange"));
  }

  #draw() {
    const [state, detail] = this.#said;
    const word = this.#player?.wanted || !AGAIN.includes(state) ? DETAILS[state] : undefined;
    this.#headline.textContent = state === "off" ? t("state.off.all") : t(`state.${state}`);
    this.#detail.textContent = state === "codec" ? codecWords(detail) : word ? t(word) : "";
    this.#start.hidden = state !== "blocked";
    this.#words.hidden = SILENT.includes(state);
    this.#poster.hidden = SILENT.includes(state) || this.#video.videoWidth > 0 || !this.#poster.naturalWidth;
  }
}

/**
 * @param {string} server
 * @param {string} channel  its id or slug
 * @returns {string | null}  the address of the channel; null if they make none
 */
function folderOf(server, channel) {
  if (!channel || channel === "." || channel === "..") return null;
  try {
    const url = new URL(`${encodeURIComponent(channel)}/`, server.endsWith("/") ? server : `${server}/`);
    return url.protocol === "https:" || url.protocol === "http:" ? url.href : null;
  } catch {
    return null;
  }
}

if (!customElements.get("millrace-player")) customElements.define("millrace-player", MillracePlayer);
