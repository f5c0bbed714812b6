/** The home page: the public channels, live ones first. */

import { accent } from "./accent.js";
import { bar, mark } from "./bar.js";
import { h } from "./dom.js";
import { languageTag, speak } from "./language.js";
import { linked, showLogo, site } from "./site.js";
import { NextShow } from "./upcoming.js";
import { t } from "./words.js";

/** @typedef {{id: string, slug?: string, name: string, description: string, live: boolean, viewers: number,
 *   upcoming?: import("./upcoming.js").Upcoming}} Channel */

const EVERY = 15_000; // ms between two requests while the page is visible

const heading = h("h1");
const logo = mark();
const about = h("p", { class: "description site-text" });
const note = h("p", { class: "note", role: "status" });
const list = h("ul", { class: "channels" });
/** The cards by the channel's name in addresses, so that pictures stay. @type {Map<string, Card>} */
const cards = new Map();
/** @type {Channel[] | null} */
let channels = null;
let title = "";
let failed = false;
let ahead = 0; // of the gateway's clock, ms in whole minutes

class Card {
  #picture = h("img", { alt: "", loading: "lazy", width: "320", height: "180" });
  #pill = h("span", { class: "pill" });
  #watching = h("span", { class: "watching" });
  #name = h("h2");
  #description = h("p");
  #next = new NextShow(null);
  #live = false;
  #src;
  element;

  /** @param {string} name  the slug, else the id */
  constructor(name) {
    const folder = `/${encodeURIComponent(name)}/`;
    this.#src = `${folder}poster.jpg`;
    this.#picture.src = this.#src;
    this.element = h("li", {}, h("a", { class: "card", href: folder },
      h("div", { class: "picture" }, this.#picture, this.#pill), this.#name, this.#watching, this.#next.element, this.#description));
  }

  /** @param {Channel} channel */
  show({ id, name, description, live, viewers, upcoming }) {
    this.#next.show(live ? null : upcoming, Date.now() + ahead);
    if (failed) [live, viewers] = [false, 0]; // not known
    if (live && !this.#live) this.#picture.src = `${this.#src}?at=${Math.round(Date.now() / 1000)}`; // not the stored one
    this.#live = live;
    this.#name.textContent = name || id;
    this.#description.textContent = description;
    this.#pill.textContent = t(live ? "state.live" : "home.offline");
    this.#pill.hidden = failed;
    this.#pill.toggleAttribute("data-live", live);
    this.#watching.textContent = live && viewers ? t("home.watching", { count: viewers }) : "";
  }
}

/** @param {Channel} channel */
const address = (channel) => channel.slug || channel.id;

function show() {
  document.documentElement.lang = languageTag();
  document.title = heading.textContent = title || t("home.title");
  note.textContent = failed ? t(navigator.onLine ? "home.failed" : "state.offline") : channels?.length === 0 ? t("home.empty") : "";
  if (!channels) return;
  for (const name of [...cards.keys()]) if (!channels.some((channel) => address(channel) === name)) cards.delete(name);
  const shown = channels.map((channel) => {
    const name = address(channel);
    const card = cards.get(name) ?? new Card(name);
    cards.set(name, card);
    card.show(channel);
    return card.element;
  });
  // Elements that are in place already stay there, so that the focus stays too.
  if (shown.length !== list.children.length || shown.some((element, i) => list.children[i] !== element)) list.replaceChildren(...shown);
}

async function load() {
  try {
    const reply = await fetch("/channels.json");
    failed = !reply.ok;
    ahead = Math.round((Date.parse(reply.headers.get("Date") ?? "") - Date.now()) / 6e4) * 6e4 || 0;
    if (reply.ok) channels = (await reply.json()).channels;
  } catch {
    failed = true; // the gateway does not answer; the next request may
  }
  show();
}

document.body.append(bar(h("div", { class: "name" }, logo, heading)), h("main", {}, about, note, list));
speak(show);
void load();
void site.then((found) => {
  accent(found.color);
  showLogo(logo, found);
  about.append(...linked(found.text));
  title = found.title;
  show();
});
setInterval(() => { if (!document.hidden) void load(); }, EVERY);
document.addEventListener("visibilitychange", () => { if (!document.hidden) void load(); });
