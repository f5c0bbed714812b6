/** Captions and timed metadata of a page: the menu, the viewer's choice, and the text over the picture. */

import { CaptionOverlay } from "./caption-overlay.js";
import { button, name } from "./controls.js";
import { h } from "./dom.js";
import { speak } from "./language.js";
import { keep, recall } from "./memory.js";
import { popup } from "./popup.js";
import { neighbour } from "./status.js";
import { StreamData } from "./stream-data.js";
import { t } from "./words.js";

/** @typedef {import("./types.js").CaptionTrack} CaptionTrack */
/** @typedef {import("./types.js").Engine} Engine */
/** @typedef {import("./types.js").Status} Status */

/**
 * What is known of the shown picture. date: ms since 1970, NaN if unknown. time: seconds of the media timeline.
 * reopen: opens the stream again.
 * @typedef {{date: () => number, time: () => number, renew: () => Promise<Status | null>, reopen: () => void}} Shown
 */

const LOOK = 100; // ms between two looks for the text of the shown picture
const ASK_AGAIN = 10_000;  // ms between two requests for the names of new tracks, of which a text has come
const ASK_LATER = 20_000;  // ms between two requests for the first track, if nothing else tells of it
const SIZES = /** @type {const} */ (["small", "medium", "large", "huge"]);

export class Captions {
  element;

  #overlay = new CaptionOverlay();
  #button = button("captions");
  #choices = h("fieldset", { class: "ways" });
  #sizes = h("fieldset", { class: "ways" });
  #announce = h("input", { type: "checkbox" });
  #announceWords = h("span");
  #menu = h("div", { class: "menu caption-menu", id: "captions", role: "group" });
  /** @type {CaptionTrack[]} */
  #tracks = [];
  /** @type {Engine | null} */
  #engine = null;
  /** Opens the stream again: its player does not know the tracks. @type {(() => void) | null} */
  #reopen = null;

  /** @param {HTMLElement} stage @param {import("./controls.js").Controls} controls */
  constructor(stage, controls) {
    this.element = this.#overlay.element;
    controls.add(this.#button);
    this.#menu.append(this.#choices, this.#sizes, h("label", {}, this.#announce, this.#announceWords));
    popup(stage, this.#button, this.#menu);
    this.#announce.checked = recall("caption-announce") === "yes";
    this.#announce.addEventListener("change", () => {
      keep("caption-announce", this.#announce.checked ? "yes" : null);
      this.#overlay.announce(this.#announce.checked);
    });
    this.#overlay.announce(this.#announce.checked);
    speak(() => {
      name(this.#button, t("captions.label"));
      this.#menu.setAttribute("aria-label", t("captions.label"));
      this.#overlay.log.setAttribute("aria-label", t("captions.log"));
      this.#announceWords.textContent = t("captions.announce");
      this.#show();
    });
  }

  /** Whether there are captions. */
  get offered() { return this.#tracks.length > 0; }

  /** Switches captions on or off. */
  toggle() { if (this.#tracks.length) this.#choose(this.#chosen ? null : this.#wanted); }

  /**
   * Shows the captions of a player until `signal`, and fires its metadata as `millrace:metadata` on the document. Its
   * detail is {text, time}; time: seconds of the player's media timeline, normally the `currentTime` of the element.
   * @param {Engine} engine
   * @param {Status} status  of the stream
   * @param {Shown} shown
   * @param {AbortSignal} signal
   */
  follow(engine, status, shown, signal) {
    // Of an earlier time there is no text.
    const beside = engine.cues || engine.seek || !status.outputs.includes("flv") ? null : new StreamData(neighbour("live.flv"));
    this.#engine = engine;
    this.#offer(engine.cues || beside ? status.captions ?? [] : []);
    const pause = engine.cues ? ASK_LATER : ASK_AGAIN;
    const isLate = () => engine.cues ? !this.#tracks.length : beside?.tracks.some((id) => !this.#tracks.some((one) => one.id === id));
    let next = performance.now() + pause;
    const timer = setInterval(async () => {
      const date = beside ? shown.date() : NaN;
      const track = this.#chosen;
      const cues = track ? engine.cues?.() ?? beside?.cues(track.id, date) ?? [] : [];
      this.#overlay.show(cues, track?.language ?? "");
      const metadata = engine.metadata?.() ?? beside?.metadata(date).map((text) => ({ text, time: shown.time() })) ?? [];
      for (const detail of metadata) document.dispatchEvent(new CustomEvent("millrace:metadata", { detail }));
      const now = performance.now();
      if (now < next || !isLate()) return;
      next = now + pause;
      const renewed = await shown.renew().catch(() => null);
      if (!renewed?.captions?.length || signal.aborted) return;
      this.#reopen = engine.cues ? shown.reopen : null;
      this.#offer(renewed.captions);
    }, LOOK);
    signal.addEventListener("abort", () => {
      clearInterval(timer);
      beside?.close();
      this.#engine = this.#reopen = null;
      this.#overlay.show([], "");
    });
  }

  /** Offers none any more. */
  clear() { this.#offer([]); }

  /** The track that the viewer has chosen, or would get. @returns {CaptionTrack | null} */
  get #wanted() {
    const [language, label] = [recall("caption-language"), recall("caption-label")];
    const same = this.#tracks.filter((track) => track.language === language);
    return same.find((track) => track.label === label) ?? same[0] ?? this.#tracks.find((track) => track.default) ?? this.#tracks[0] ?? null;
  }

  /** The track that is shown. @returns {CaptionTrack | null} */
  get #chosen() {
    const kept = recall("captions");
    return kept === "on" || (kept === null && this.#tracks.some((track) => track.default)) ? this.#wanted : null;
  }

  /** @param {CaptionTrack | null} track  null: off */
  #choose(track) {
    keep("captions", track ? "on" : "off");
    if (track) {
      keep("caption-language", track.language);
      keep("caption-label", track.label);
    }
    this.#apply();
  }

  /** @param {CaptionTrack[]} tracks */
  #offer(tracks) {
    this.#tracks = tracks;
    this.#apply();
  }

  #apply() {
    this.#show();
    if (this.#chosen && this.#reopen) this.#reopen();
    else this.#engine?.caption?.(this.#chosen);
  }

  #show() {
    const chosen = this.#chosen;
    this.#button.hidden = !this.#tracks.length;
    if (this.#button.hidden) this.#menu.hidden = true;
    this.#button.toggleAttribute("data-on", chosen !== null);
    const size = SIZES.find((one) => one === recall("caption-size")) ?? "medium";
    this.#overlay.size(size);
    radios(this.#choices, "captions", t("captions.label"), chosen?.id ?? "",
      [["", t("captions.off")], ...this.#tracks.map(({ id, label }) => /** @type {[string, string]} */ ([id, label]))],
      (id) => this.#choose(this.#tracks.find((track) => track.id === id) ?? null));
    radios(this.#sizes, "caption-size", t("captions.size"), size, SIZES.map((one) => [one, t(`captions.size.${one}`)]), (to) => {
      keep("caption-size", to);
      this.#show();
    });
  }
}

/**
 * Fills a group of radio buttons, which keeps the focus.
 * @param {HTMLFieldSetElement} group
 * @param {string} name
 * @param {string} legend
 * @param {string} chosen
 * @param {[string, string][]} options  values and words
 * @param {(value: string) => void} run
 */
function radios(group, name, legend, chosen, options, run) {
  const focused = /** @type {HTMLInputElement | null} */ (group.querySelector(":focus"))?.value;
  const inputs = options.map(([value]) => h("input", { type: "radio", name, value, checked: value === chosen, onchange: () => run(value) }));
  group.replaceChildren(h("legend", {}, legend), ...inputs.map((input, i) => h("label", {}, input, h("span", { dir: "auto" }, options[i]?.[1] ?? ""))));
  inputs.find(({ value }) => value === focused)?.focus();
}
