/** The dialog with the addresses to share. */

import { h, icon } from "./dom.js";
import { embedCode } from "./embed.js";
import { speak } from "./language.js";
import { neighbour, query } from "./status.js";
import { t } from "./words.js";

/** @typedef {import("./words.js").Word} Word */

export class Share {
  element = h("dialog", { class: "share", "aria-labelledby": "share-title" });

  #media = h("input");
  #said = h("p", { class: "said", role: "status" });

  /**
   * @param {string} media  file name of the played media
   * @param {() => string} [heading]  the title of the dialog
   */
  constructor(media, heading = () => t("share.title")) {
    const page = neighbour(location.pathname);
    const title = h("h2", { id: "share-title" });
    const close = h("button", { type: "button", class: "control", onclick: () => this.element.close() }, icon("close"));
    const note = h("p", { class: "note", hidden: query === "" });
    const send = h("button", { type: "button", hidden: !navigator.canShare?.({ url: page }) });
    send.addEventListener("click", () => {
      // The viewer may cancel, which is not an error.
      navigator.share({ title: document.title, url: page }).catch(() => undefined);
    });
    this.#media = input("media", neighbour(media));
    this.element.append(h("div", { class: "head" }, title, close), this.#field("share.page", input("page", page)),
      this.#field("share.embed", input("embed", embedCode(page))), this.#field("share.media", this.#media), note,
      h("div", { class: "foot" }, this.#said, send));
    // A press outside closes it, like Escape.
    this.element.addEventListener("click", (event) => { if (event.target === this.element) this.element.close(); });
    speak(() => {
      title.textContent = heading();
      close.setAttribute("aria-label", t("do.close"));
      note.textContent = t("share.signed");
      send.textContent = t("do.send");
    });
  }

  /** @param {string} file  of the played media */
  plays(file) { this.#media.value = neighbour(file); }

  open() {
    this.#said.textContent = "";
    this.element.showModal();
  }

  /** @param {Word} word @param {HTMLInputElement} input */
  #field(word, input) {
    const label = h("label", { for: input.id });
    const copy = h("button", { type: "button", class: "plain" }, icon("copy"));
    const words = h("span");
    copy.append(words);
    input.addEventListener("focus", () => input.select());
    copy.addEventListener("click", () => void this.#copy(input));
    speak(() => {
      label.textContent = t(word);
      words.textContent = t("do.copy");
      copy.setAttribute("aria-label", `${t("do.copy")}: ${t(word)}`);
    });
    return h("div", { class: "field" }, label, h("div", { class: "line" }, input, copy));
  }

  /** @param {HTMLInputElement} input */
  async #copy(input) {
    const back = document.activeElement;
    let copied = await navigator.clipboard?.writeText(input.value).then(() => true, () => false);
    if (!copied) {
      // Pages without TLS have only this way to copy.
      input.select();
      copied = document.execCommand("copy");
      if (copied && back instanceof HTMLElement) back.focus();
    }
    this.#said.textContent = t(copied ? "share.copied" : "share.failed");
  }
}

/** @param {string} id @param {string} value @returns {HTMLInputElement} */
function input(id, value) {
  return h("input", { id: `share-${id}`, type: "text", readonly: true, value, spellcheck: "false" });
}
