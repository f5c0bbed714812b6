/** The next show of a channel: its title, its time here, and how long it takes until then. */

import { h } from "./dom.js";
import { languageTag, speak } from "./language.js";
import { t } from "./words.js";

/** @typedef {{title: string, at: number, text: string}} Upcoming  at: ms since 1970 */

const DAY = 86_400_000; // ms

/**
 * @param {number} ms
 * @returns {string}  "3 days 4 hours", "2:05:09"
 */
export function countdown(ms) {
  const seconds = Math.ceil(ms / 1000);
  const [days, hours, minutes] = [Math.floor(seconds / 86_400), Math.floor(seconds / 3600) % 24, Math.floor(seconds / 60) % 60];
  const unit = (/** @type {number} */ n, /** @type {"day" | "hour"} */ name) =>
    n.toLocaleString(languageTag(), { style: "unit", unit: name, unitDisplay: "long" });
  if (ms >= DAY) return hours ? `${unit(days, "day")} ${unit(hours, "hour")}` : unit(days, "day");
  const two = (/** @type {number} */ n) => String(n).padStart(2, "0");
  return `${hours ? `${hours}:${two(minutes)}` : minutes}:${two(seconds % 60)}`;
}

/** @param {number} at @returns {string}  day and time in the viewer's zone */
const moment = (at) => new Date(at).toLocaleString(languageTag(), { weekday: "short",
  day: "numeric", month: "short", hour: "numeric", minute: "2-digit", timeZoneName: "short" });

/** Its element is empty and hidden while no show is known. A show whose time has come is not shown any more. */
export class NextShow {
  #title = h("p", { class: "next-title" });
  #when = h("time");
  #left = h("span", { class: "countdown", role: "timer" });
  #text = h("p", { class: "description" });
  #label = h("h2");
  #calendar;
  /** @type {Upcoming | null} */
  #show = null;
  #ahead = 0; // of the gateway's clock, ms
  element;

  /** @param {string | null} calendar  the address of its calendar entry; null: a short form without it */
  constructor(calendar) {
    this.#calendar = calendar === null ? null : h("a", { href: calendar, download: "next.ics" });
    const line = h("p", { class: "when" }, this.#when, this.#left);
    this.element = calendar === null ? h("div", { class: "next", hidden: true }, this.#title, line)
      : h("section", { class: "next", hidden: true }, this.#label, this.#title, line, this.#text, this.#calendar);
    setInterval(() => this.#tick(), 1000);
    speak(() => this.#say());
  }

  /**
   * @param {Upcoming | null | undefined} show
   * @param {number} [now]  the gateway's clock, ms since 1970
   */
  show(show, now) {
    if (now !== undefined) this.#ahead = now - Date.now();
    this.#show = show ?? null;
    this.#say();
  }

  #say() {
    const show = this.#show;
    this.#label.textContent = t("next.title");
    if (this.#calendar) this.#calendar.textContent = t("next.calendar");
    if (show) {
      this.#title.textContent = show.title;
      this.#when.textContent = moment(show.at);
      this.#when.dateTime = new Date(show.at).toISOString();
      this.#text.textContent = show.text;
      this.#text.hidden = !show.text;
    }
    this.#tick();
  }

  #tick() {
    const left = this.#show ? this.#show.at - Date.now() - this.#ahead : 0;
    this.element.hidden = left <= 0;
    if (left > 0) this.#left.textContent = t("next.in", { time: countdown(left) });
  }
}
