/** The page of a captioner: plays the stream with a short delay, and sends the lines that somebody writes. */

import { keepKey, streamKey } from "./caption-key.js";
import { titleBar } from "./bar.js";
import { h } from "./dom.js";
import { speak } from "./language.js";
import { startBest } from "./page.js";
import { streamName } from "./status.js";
import { View } from "./view.js";
import { Ways, WAYS } from "./ways.js";
import { t } from "./words.js";

/** @typedef {import("./types.js").CaptionTrack} CaptionTrack */
/** @typedef {import("./types.js").Status} Status */
/** @typedef {import("./view.js").Layout} Layout */
/** @typedef {import("./words.js").Word} Word */

const MOST = 500; // characters of a caption
const MOST_LINES = 30; // that are shown

/** What the answer of the gateway means. @type {Record<number, Word>} */
const ERRORS = { 0: "caption.error.lost", 403: "caption.error.key", 409: "caption.error.idle", 429: "caption.error.fast" };

/** @implements {Layout} */
class Captioner {
  #name = "";
  #heading = h("h1", { id: "title" });
  #channel = h("p", { class: "name" });
  #text = h("textarea", { id: "caption", rows: "3", maxlength: String(MOST), dir: "auto", autocomplete: "off" });
  #language = h("select", { id: "caption-language" });
  #languageBox = h("span", { hidden: true }, this.#language);
  #count = h("span", { class: "count" });
  #send = h("button", { type: "submit" });
  #error = h("p", { class: "error", role: "alert", hidden: true });
  #key = h("input", { id: "key", type: "password", autocomplete: "off", spellcheck: "false" });
  #useKey = h("button", { type: "submit" });
  #keyForm = h("form", { onsubmit: (/** @type {Event} */ event) => this.#enterKey(event) });
  #lines = h("ol", { class: "lines" });
  #offered = "";
  /** Lines are sent in their order. @type {Promise<void>} */
  #turn = Promise.resolve();

  /** @type {Layout["build"]} */
  build({ stage, controls }) {
    const [label, keyLabel, keyHint, hint, sent] = [
      h("label", { for: "caption" }), h("label", { for: "key" }), h("p", { class: "hint-text" }), h("p", { class: "hint-text" }), h("h2"),
    ];
    controls.element.dataset.page = "captioner";
    this.#keyForm.append(keyLabel, this.#key, keyHint, h("div", { class: "row" }, this.#useKey));
    const form = h("form", { onsubmit: (/** @type {Event} */ event) => this.#submit(event) }, label, this.#text,
      h("div", { class: "row" }, this.#send, this.#languageBox, this.#count), hint);
    this.#text.addEventListener("input", () => this.#refresh());
    this.#text.addEventListener("keydown", (event) => {
      // While a word is composed, Enter only accepts it.
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      form.requestSubmit();
    });
    speak(() => {
      this.#heading.textContent = t("caption.title");
      label.textContent = t("caption.field");
      hint.textContent = t("caption.hint");
      sent.textContent = t("caption.sent");
      keyLabel.textContent = t("caption.key");
      keyHint.textContent = t("caption.key.why");
      this.#useKey.textContent = t("caption.key.use");
      this.#send.textContent = t("caption.send");
      this.#language.setAttribute("aria-label", t("caption.language"));
      this.#refresh();
    });
    queueMicrotask(() => this.#askKey(streamKey() === "")); // the page gets its content first
    const writer = h("section", { class: "writer" }, this.#channel, this.#error, this.#keyForm, form, sent, this.#lines);
    return [titleBar(this.#heading), h("main", { class: "captioner" }, stage, writer)];
  }

  /** @param {Status} status */
  about({ name, captions = [] }) {
    this.#name = name ?? "";
    this.#channel.textContent = this.#name || streamName();
    const texts = captions.filter(({ id }) => /^text(-|$)/.test(id));
    const offered = JSON.stringify(texts);
    if (offered === this.#offered) return;
    this.#offered = offered;
    const before = this.#language.value;
    this.#language.replaceChildren(...texts.map(({ label, language }) => h("option", { value: language }, label)));
    if (texts.some(({ language }) => language === before)) this.#language.value = before;
    this.#languageBox.hidden = texts.length < 2;
  }

  uses() { /* the way does not matter here */ }

  title() { return `${t("caption.title")} · ${this.#name || streamName()}`; }

  #refresh() {
    this.#count.textContent = t("caption.count", { count: this.#text.value.length, most: MOST });
    this.#send.disabled = !this.#text.value.trim();
  }

  /** @param {boolean} is */
  #askKey(is) {
    this.#keyForm.hidden = !is;
    (is ? this.#key : this.#text).focus();
  }

  /** @param {Event} event */
  #enterKey(event) {
    event.preventDefault();
    const value = this.#key.value.trim();
    // People copy what their encoder has, "<id>?sign=<key>".
    const sign = /[?&]sign=([^&\s]+)/.exec(value)?.[1] ?? value;
    if (!sign) return;
    keepKey(sign);
    this.#key.value = "";
    this.#error.hidden = true;
    this.#askKey(false);
  }

  /** @param {Event} event */
  #submit(event) {
    event.preventDefault();
    const text = this.#text.value.trim();
    if (!text) return;
    this.#text.value = "";
    this.#refresh();
    const state = h("span");
    const line = h("li", { "data-state": "sending" }, h("p", { dir: "auto" }, text), state);
    state.textContent = t("caption.sending");
    this.#lines.prepend(line);
    while (this.#lines.childElementCount > MOST_LINES) this.#lines.lastElementChild?.remove();
    const language = this.#language.value;
    this.#turn = this.#turn.then(async () => {
      const { status, reason } = await post(text, language);
      const failed = status !== 202;
      line.dataset.state = failed ? "failed" : "sent";
      state.textContent = t(failed ? "caption.failed" : "caption.done");
      this.#error.hidden = !failed;
      if (!failed) return;
      this.#error.textContent = t(ERRORS[status] ?? "caption.error.other", { reason });
      if (!this.#text.value) this.#text.value = text; // to send it again
      this.#refresh();
      if (status === 403) this.#askKey(true);
    });
  }
}

/**
 * @param {string} text
 * @param {string} language
 * @returns {Promise<{status: number, reason: string}>}  status 0: no answer
 */
async function post(text, language) {
  try {
    const reply = await fetch(`captions?sign=${encodeURIComponent(streamKey())}`, {
      method: "POST", cache: "no-store", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ text, language }),
    });
    return { status: reply.status, reason: (await reply.text()).trim().slice(0, 300) };
  } catch {
    return { status: 0, reason: "" };
  }
}

startBest(new Ways(WAYS, "instant"), new View(streamName(), { label: "", media: "live.m3u8" }, new Captioner()));
