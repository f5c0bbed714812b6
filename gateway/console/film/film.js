/** The page of a film or a recording: the player, the description, and chapters of small pictures. */

import { titleBar } from "../players/bar.js";
import { ChapterList } from "../players/chapters.js";
import { Controls } from "../players/controls.js";
import { h, icon } from "../players/dom.js";
import { keyOf } from "../players/keyboard.js";
import { languageTag, speak, speaks } from "../players/language.js";
import { showShape } from "../players/media.js";
import { answerMessages } from "../players/messages.js";
import { loadPreviews, picture } from "../players/previews.js";
import { recordedOn } from "../players/recorded-on.js";
import { open } from "../players/recorded-source.js";
import { Share } from "../players/share.js";
import { Speed } from "../players/speed.js";
import { EMBEDDED, neighbour } from "../players/status.js";
import { time, TimeBar } from "../players/time-bar.js";
import { Captions } from "../players/track-captions.js";
import { Volume } from "../players/volume.js";
import { chapters } from "../players/webvtt.js";
import { keepPosition, recallPosition } from "./position.js";
import { t } from "./words.js";

/**
 * The video, as the server describes it in the page. Addresses are relative to the page.
 * @typedef {object} Video
 * @property {string} title
 * @property {string} description
 * @property {string | null} created   time in ISO 8601
 * @property {string} [hls]            the playlist
 * @property {string} [file]           or the file
 * @property {string | null} [poster]
 * @property {string | null} [preview]  the WebVTT list of small pictures
 * @property {string} [channel]         the page of the channel that it is a recording of
 * @property {string} [download]        the recording as one MP4
 */

/** @typedef {import("../players/recorded-source.js").Trouble | "missing"} Problem */

const MAX_CHAPTERS = 10;
const [STEP, LONG_STEP] = [5, 10]; // seconds of the arrow keys, and of J and L
const KEEP_EVERY = 5_000; // ms between two writes of the position

class Page {
  #shown;
  #video = h("video", { id: "video", playsinline: true, tabindex: "-1", preload: "metadata" });
  #stage = h("section", { id: "stage", class: "stage film", "data-state": "paused" });
  #headline = h("p", { class: "headline", id: "headline" });
  #detail = h("p", { class: "detail", id: "detail" });
  #retry = h("button", { id: "retry", type: "button", onclick: () => this.#open() });
  #start = h("button", { id: "start", class: "film-start", type: "button", onclick: () => void this.#play() }, icon("play"));
  #announcer = h("p", { class: "visually-hidden", role: "status", "aria-live": "polite" });
  #chapters = h("ol", { class: "chapters" });
  #breaks = new ChapterList((at) => this.#playFrom(at));
  #bar = new TimeBar(this.#video);
  #volume = new Volume(this.#video, false);
  #captions = new Captions(this.#video);
  #controls;
  /** @type {Problem | null} */
  #problem = null;
  #close = () => {};
  #kept = 0;

  /** @param {Video | null} shown  null: there is no such video */
  constructor(shown) {
    this.#shown = shown;
    const share = new Share(shown?.hls ?? shown?.file ?? "", () => t("share.title"));
    this.#controls = new Controls(this.#stage, this.#video, {
      toggle: () => this.#toggle(), mute: () => this.#volume.toggle(), share: () => share.open(),
    });
    this.#build(share);
    this.#listen();
    answerMessages({
      video: this.#video, play: () => this.#play(),
      state: () => ({ state: this.#stage.dataset.state ?? "", quality: "source", qualities: [] }),
    });
    if (!shown) this.#fail("missing");
    else this.#open();
    if (shown?.preview) void loadPreviews(neighbour(shown.preview)).then((previews) => this.#showPreviews(previews));
  }

  #open() {
    const { hls, file = "", poster } = this.#shown ?? {};
    this.#close();
    this.#problem = null;
    if (poster) this.#video.poster = neighbour(poster);
    const at = this.#video.currentTime || recallPosition(location.pathname);
    this.#close = open(this.#video, neighbour(hls ?? file), hls !== undefined, at, (trouble) => this.#fail(trouble), (found) => {
      this.#breaks.show(found);
      this.#bar.mark(found);
    });
    this.#refresh();
  }

  /** @param {Problem} problem */
  #fail(problem) {
    this.#problem = problem;
    this.#refresh();
    this.#announcer.textContent = t(`state.${problem}`);
  }

  async #play() {
    if (this.#problem) return;
    this.#stage.dataset.begun = "";
    await this.#volume.play();
  }

  #toggle() {
    if (this.#video.paused) void this.#play();
    else this.#video.pause();
  }

  /** @param {number} to  seconds */
  #seek(to) {
    const { length } = this.#bar;
    this.#video.currentTime = Math.min(Math.max(0, to), Math.max(0, length - 0.1));
    this.#bar.refresh();
  }

  /** @param {number} at  seconds */
  #playFrom(at) {
    this.#seek(at);
    void this.#play();
    this.#stage.scrollIntoView({ block: "nearest" });
  }

  #refresh() {
    const { paused, ended } = this.#video;
    const problem = this.#problem;
    this.#stage.dataset.state = problem ? (problem === "codec" || problem === "denied" ? problem : "lost") : paused || ended ? "paused" : "live";
    this.#headline.textContent = problem ? t(`state.${problem}`) : "";
    this.#detail.textContent = problem ? t(`detail.${problem}`) : "";
    this.#retry.hidden = problem === null || problem === "missing";
    this.#start.hidden = problem !== null || !paused;
    this.#controls.refresh();
  }

  #listen() {
    const video = this.#video;
    for (const event of ["play", "pause", "ended"]) video.addEventListener(event, () => this.#refresh());
    for (const event of ["waiting", "seeking"]) video.addEventListener(event, () => { this.#stage.dataset.busy = ""; });
    for (const event of ["playing", "seeked", "canplay", "pause"]) {
      video.addEventListener(event, () => { delete this.#stage.dataset.busy; });
    }
    video.addEventListener("timeupdate", () => {
      if (!video.paused && performance.now() - this.#kept > KEEP_EVERY) this.#keep();
    });
    for (const event of ["pause", "ended"]) video.addEventListener(event, () => this.#keep());
    addEventListener("pagehide", () => this.#keep());
    document.addEventListener("keydown", (event) => this.#key(event));
  }

  #keep() {
    if (this.#problem || !this.#video.currentTime) return;
    this.#kept = performance.now();
    keepPosition(location.pathname, this.#video.currentTime, this.#bar.length);
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented && !event.key.startsWith("Arrow")) return;
    const target = event.target;
    if (target instanceof Element && target.closest("dialog, input[type=text]")) return;
    // A focused control handles some keys itself.
    const busy = target instanceof Element && target.closest("button, a, input, select") !== null;
    const onSound = target instanceof Element && target.closest(".volume") !== null;
    const at = this.#video.currentTime;
    const key = keyOf(event);
    if (/^[0-9]$/.test(key)) this.#seek((this.#bar.length * Number(key)) / 10);
    else if (key === "k" || (key === " " && !busy)) this.#toggle();
    else if (key === "m") this.#volume.toggle();
    else if (key === "c") this.#captions.toggle();
    else if (key === "f") void this.#controls.toggleFull();
    else if (key === "p") void this.#controls.togglePip();
    else if (key === "arrowleft" && !onSound) this.#seek(at - STEP);
    else if (key === "arrowright" && !onSound) this.#seek(at + STEP);
    else if (key === "j") this.#seek(at - LONG_STEP);
    else if (key === "l") this.#seek(at + LONG_STEP);
    else if ((key === "arrowup" || key === "arrowdown") && target === this.#video) this.#controls.louder(key === "arrowup" ? 0.05 : -0.05);
    else return;
    event.preventDefault();
  }

  /** @param {import("../players/webvtt.js").Preview[]} previews */
  #showPreviews(previews) {
    this.#bar.show(previews);
    const shown = chapters(previews, MAX_CHAPTERS);
    if (shown.length < 2) return;
    this.#chapters.replaceChildren(...shown.map((preview) => {
      const { element, show } = picture();
      show(preview);
      const button = h("button", { type: "button", class: "chapter", onclick: () => this.#playFrom(preview.start) }, element, h("span", { class: "chapter-time" }, time(preview.start)));
      speak(() => button.setAttribute("aria-label", t("chapter.play", { at: time(preview.start) })));
      return h("li", {}, button);
    }));
  }

  /** @param {Share} share */
  #build(share) {
    const { title = "", description = "", created = null, channel, download } = this.#shown ?? {};
    this.#controls.addBar(this.#bar.element);
    this.#controls.addClock(this.#bar.clock);
    this.#controls.add(this.#captions.element);
    this.#controls.add(new Speed(this.#video).element);
    showShape(this.#video);
    this.#stage.append(this.#video, h("div", { class: "veil" }, this.#headline, this.#detail, this.#retry), this.#start,
      this.#controls.element);
    const heading = h("h1", { id: "title", dir: "auto" }, title);
    const when = h("time", created ? { datetime: created } : {});
    const words = h("p", { class: "about-text", dir: "auto" }, description);
    const label = h("h2", { class: "visually-hidden" });
    const keys = h("p");
    const live = h("a", channel ? { href: neighbour(channel) } : { hidden: true });
    const save = h("a", download ? { href: neighbour(download), download: "" } : { hidden: true });
    document.documentElement.toggleAttribute("data-embed", EMBEDDED);
    document.querySelector(".note")?.remove(); // the text for browsers without scripts
    document.body.append(
      titleBar(heading),
      h("main", {}, this.#stage, this.#announcer,
        h("section", { class: "about", hidden: this.#shown === null }, when, live, save, words, label, this.#breaks.element, this.#chapters)),
      h("footer", {}, keys), share.element);
    speak(() => {
      document.documentElement.lang = languageTag();
      if (!this.#shown) heading.textContent = t("page.video");
      const date = Date.parse(created ?? "");
      if (created) when.textContent = channel ? recordedOn(date) : new Date(date).toLocaleString(speaks(), { dateStyle: "long", timeStyle: "short" });
      this.#stage.setAttribute("aria-label", t("page.player"));
      this.#video.setAttribute("aria-label", title || t("page.video"));
      this.#retry.textContent = t("do.retry");
      this.#start.setAttribute("aria-label", t("do.play"));
      label.textContent = t("page.chapters");
      live.textContent = t("page.channel");
      save.textContent = t("page.download");
      keys.replaceChildren(h("kbd", {}, t("key.space")), ` ${t("key.play")} · `, h("kbd", {}, "←"), " ", h("kbd", {}, "→"),
        ` ${t("key.seek")} · `, h("kbd", {}, "M"), ` ${t("key.sound")} · `, h("kbd", {}, "F"), ` ${t("key.full")}`);
      this.#refresh();
    });
  }
}

/** @returns {Video | null} what the server wrote into the page */
function described() {
  const meta = document.querySelector('meta[name="video"]');
  return meta instanceof HTMLMetaElement ? JSON.parse(meta.content) : null;
}

new Page(described());
