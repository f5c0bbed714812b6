/** The text of captions over the picture, and a log of it for screen readers. */

import { h } from "./dom.js";

/** @typedef {import("./cues.js").Cue} Cue */

const MOST_LINES = 4; // on the picture; the style cuts lines that are too long for it
const MOST_CHARACTERS = 500; // of one text
const MOST_LOGGED = 20; // texts

export class CaptionOverlay {
  /** Over the picture. It lets all clicks through. */
  element = h("div", { class: "captions" });
  /** For screen readers, which follow it if the viewer wants that. */
  log = h("div", { class: "visually-hidden", id: "captions-log", role: "log", "aria-live": "off" });

  #box = h("div", { class: "caption-box", "aria-hidden": "true" });
  #shown = "[]";
  /** @type {string[]} */
  #logged = [];

  constructor() { this.element.append(h("div", { class: "caption-picture" }, this.#box), this.log); }

  /** @param {boolean} is  whether screen readers read new captions */
  announce(is) { this.log.setAttribute("aria-live", is ? "polite" : "off"); }

  /** @param {string} size  "small", "medium", "large" or "huge" */
  size(size) { this.element.dataset.size = size; }

  /** @param {Cue[]} cues  of the shown picture @param {string} language  BCP 47; "": unknown */
  show(cues, language) {
    const bounded = bound(cues);
    const shown = JSON.stringify([bounded, language]);
    if (shown === this.#shown) return;
    this.#shown = shown;
    const line = bounded.find((cue) => cue.line !== null)?.line ?? null;
    this.#box.style.setProperty("--line", line === null ? "1fr" : `minmax(0, ${Math.min(100, Math.max(0, line))}%)`);
    this.#box.replaceChildren(h("div", { class: "caption-texts" }, ...bounded.map(({ text }) => h("p", { dir: "auto", lang: language || null }, text))));
    for (const { text } of bounded) if (!this.#logged.includes(text)) this.log.append(h("p", { dir: "auto", lang: language || null }, text));
    this.#logged = bounded.map(({ text }) => text);
    while (this.log.childElementCount > MOST_LOGGED) this.log.firstElementChild?.remove();
  }
}

/** @param {Cue[]} cues @returns {Cue[]} the last lines of the last captions, within the bounds */
function bound(cues) {
  let left = MOST_LINES;
  const kept = [];
  for (const { text, line } of cues.slice(-MOST_LINES).reverse()) {
    const lines = text.slice(0, MOST_CHARACTERS).split("\n").filter((one) => one.trim()).slice(-left);
    left -= lines.length;
    if (lines.length) kept.unshift({ text: lines.join("\n"), line });
    if (left === 0) break;
  }
  return kept;
}
