/** What the watch page shows around the picture: the channel's name and description, and the settings behind a gear. */

import { accent } from "./accent.js";
import { bar, mark } from "./bar.js";
import { chat } from "./chat.js";
import { button, name as named } from "./controls.js";
import { h } from "./dom.js";
import { speak, speaks } from "./language.js";
import { popup } from "./popup.js";
import { AUTO } from "./quality.js";
import { recordedOn } from "./recorded-on.js";
import { showLogo, site } from "./site.js";
import { ask, Clock, neighbour } from "./status.js";
import { NextShow } from "./upcoming.js";
import { t } from "./words.js";

/** @typedef {import("./types.js").Status} Status */
/** @typedef {import("./types.js").Way} Way */
/** @typedef {import("./view.js").Layout} Layout */
/** @typedef {import("./ways.js").Ways} Ways */

const RECOUNT = 30_000; // ms between two requests for the number of viewers
const FIRST_COUNT = 4_000; // ms after the start, when this viewer is counted too

/** @implements {Layout} */
export class WatchLayout {
  #ways; #changed;
  #heading = h("h1", { id: "title" });
  #pill = h("span", { class: "pill", id: "offline" });
  #watching = h("span", { class: "watching", id: "viewers" });
  #replay = h("p", { class: "replay", id: "replay", hidden: true });
  #replaySaid = "";
  #description = h("p", { class: "description", id: "description" });
  #next = new NextShow(neighbour("next.ics"));
  #gear = button("gear");
  #choices = h("fieldset", { class: "ways" });
  #more = h("summary");
  #menu = h("div", { class: "menu", id: "settings", role: "group", hidden: true });
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #counting;
  #label = ""; // of the way that plays
  /** @type {Status | null} */
  #status = null;
  /** @type {import("./site.js").Site | null} */
  #site = null;

  /**
   * @param {Ways} ways
   * @param {(wanted: string) => void} changed  called with the viewer's choice
   */
  constructor(ways, changed) {
    this.#ways = ways;
    this.#changed = changed;
  }

  /** @type {Layout["build"]} */
  build({ stage, facts, keys, controls }) {
    const logo = mark();
    const home = h("a", { class: "home", href: "/" }, logo);
    const channels = h("span");
    home.append(channels);
    controls.add(this.#gear);
    controls.moveChoices(this.#menu);
    this.#menu.append(h("details", {}, this.#more, this.#choices, facts));
    popup(stage, this.#gear, this.#menu);
    setInterval(() => void this.#recount(), RECOUNT);
    speak(() => {
      channels.textContent = this.#site?.title || t("home.title");
      named(this.#gear, t("do.settings"));
      this.#menu.setAttribute("aria-label", t("do.settings"));
      this.#more.textContent = t("way.more");
      this.#show();
    });
    void site.then((found) => {
      this.#site = found;
      if (found.title) channels.textContent = found.title;
      showLogo(logo, found);
      this.#show();
    });
    const about = h("section", { class: "about" },
      h("div", { class: "line" }, this.#heading, this.#pill, this.#watching), this.#replay, this.#next.element,
      this.#description);
    return [bar(home), h("main", {}, stage, ...chat(), about), h("footer", {}, keys)];
  }

  /** @param {Status} status */
  about(status) {
    this.#status = status;
    this.#next.show(status.upcoming, status.now);
    this.#show();
  }

  /** @param {string} label */
  uses(label) {
    this.#label = label;
    this.#show();
    clearTimeout(this.#counting);
    this.#counting = setTimeout(() => void this.#recount(), FIRST_COUNT);
  }

  /** @returns {string} */
  title() { return this.#status?.name || t("page.title"); }

  #show() {
    const { name = "", description = "", live = false, viewers = null } = this.#status ?? {};
    accent(this.#status?.color || this.#site?.color || "");
    this.#heading.textContent = name || t("page.title");
    this.#heading.hidden = this.#status === null || name === null;
    this.#description.textContent = description;
    this.#pill.hidden = this.#status === null || name === null || live; // the picture says "Live"
    this.#pill.textContent = t("home.offline");
    this.#showReplay(live ? null : this.#status?.replay ?? null);
    this.#watching.textContent = live && viewers ? t("home.watching", { count: viewers }) : "";
    this.#offer();
  }

  /** @param {import("./types.js").Recorded | null} replay  what is shown while nobody pushes */
  #showReplay(replay) {
    this.#replay.hidden = replay === null;
    const said = JSON.stringify([replay, speaks()]);
    if (!replay || said === this.#replaySaid) return; // keeps the focus on the link
    this.#replaySaid = said;
    const title = h("b", { dir: "auto", hidden: !replay.title }, replay.title);
    this.#replay.replaceChildren(title, h("time", { datetime: new Date(replay.start).toISOString() }, recordedOn(replay.start)),
      h("a", { href: neighbour(replay.page) }, t("replay.page")));
  }

  /** Lists the ways of this channel in the menu. */
  #offer() {
    const possible = this.#status ? this.#ways.possible(this.#status).map(({ id, label }) => ({ id, label })) : [];
    const auto = this.#ways.wanted === AUTO && this.#label ? t("way.auto.now", { name: this.#label }) : t("way.auto");
    const entries = [{ id: AUTO, label: auto }, ...possible];
    const chosen = entries.some(({ id }) => id === this.#ways.wanted) ? this.#ways.wanted : AUTO;
    const focused = /** @type {HTMLInputElement | null} */ (this.#choices.querySelector(":focus"))?.value;
    this.#choices.replaceChildren(h("legend", {}, t("page.formats")), ...entries.map(({ id, label }) => {
      const radio = h("input", { type: "radio", name: "way", value: id, checked: id === chosen, onchange: () => this.#changed(id) });
      return h("label", {}, radio, label);
    }));
    if (focused) /** @type {HTMLElement | null} */ (this.#choices.querySelector(`[value="${focused}"]`))?.focus();
  }

  /** Asks for the number of viewers, if the channel shows it. */
  async #recount() {
    if (document.hidden || !this.#status?.live || (this.#status.viewers ?? null) === null) return;
    const answer = await ask(new Clock());
    if (answer.kind === "status") this.about(answer.status);
  }
}
