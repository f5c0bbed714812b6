/** The buttons for captions: on or off, and the language if there are several. The browser draws the text. */

import { button, name } from "./controls.js";
import { h } from "./dom.js";
import { speak } from "./language.js";
import { t } from "./words.js";

export class Captions {
  #tracks;
  #toggle = button("captions");
  #chosen = h("select", { id: "captions-language" });
  #box = h("span", { class: "quality", hidden: true }, this.#chosen);
  #offered = "";

  element = h("span", { class: "film-captions", hidden: true }, this.#toggle, this.#box);

  /** @param {HTMLVideoElement} video */
  constructor(video) {
    this.#tracks = video.textTracks;
    this.#toggle.id = "track-captions"; // the watch page has a menu with the id "captions"
    this.#toggle.addEventListener("click", () => this.toggle());
    this.#chosen.addEventListener("change", () => this.#show(this.#listed()[Number(this.#chosen.value)]));
    for (const event of ["addtrack", "removetrack", "change"]) this.#tracks.addEventListener(event, () => this.#refresh());
    speak(() => {
      this.#chosen.setAttribute("aria-label", t("captions.language"));
      this.#refresh();
    });
  }

  /** Switches captions on in the chosen language, or off. */
  toggle() {
    const listed = this.#listed();
    this.#show(this.#shown(listed) ? undefined : listed[Number(this.#chosen.value)] ?? listed[0]);
  }

  #listed() { return [...this.#tracks].filter(({ kind }) => kind === "subtitles" || kind === "captions"); }

  /** @param {TextTrack[]} listed */
  #shown(listed) { return listed.find(({ mode }) => mode === "showing"); }

  /** @param {TextTrack | undefined} wanted  undefined: none */
  #show(wanted) {
    for (const track of this.#listed()) track.mode = track === wanted ? "showing" : "disabled";
    this.#refresh();
  }

  #refresh() {
    const listed = this.#listed();
    const shown = this.#shown(listed);
    this.element.hidden = listed.length === 0;
    this.#box.hidden = listed.length < 2;
    this.#toggle.setAttribute("aria-pressed", String(shown !== undefined));
    name(this.#toggle, t("captions.label"));
    const labels = listed.map(({ label, language }) => label || language);
    if (JSON.stringify(labels) !== this.#offered) { // does not change an open menu
      this.#offered = JSON.stringify(labels);
      this.#chosen.replaceChildren(...labels.map((label, i) => h("option", { value: String(i) }, label)));
    }
    if (shown) this.#chosen.value = String(listed.indexOf(shown));
  }
}
