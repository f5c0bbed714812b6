/** The list of films: search, and pages of the newest ones. */

import { useComputed, useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";

import { api } from "../../../players/api.js";
import { t } from "../../i18n.js";
import { usePoll } from "../../poll.js";
import { Button, Card, Empty, Field, html } from "../../ui.js";
import { attempt, Trouble } from "../parts/trouble.js";
import { Gallery } from "./gallery.js";

/** @typedef {import("./model.js").Film} Film */

const PAGE = 60;
const EVERY = 6000; // ms between two polls
const TYPING = 300; // ms without a key until the search begins

/** @param {string} search */
const address = (search) => `/films?${new URLSearchParams({ limit: String(PAGE), ...search ? { search } : {} })}`;

export const LIBRARY = address("");

export function Library() {
  const typed = useSignal("");
  const search = useSignal("");
  const older = useSignal(/** @type {Film[]} */ ([]));
  const more = useSignal(/** @type {boolean | null} */ (null)); // null: no older films were loaded yet
  const path = useComputed(() => address(search.value));
  /** @type {import("../../poll.js").PolledSignal<Film[]>} */
  const polled = usePoll(path.value, EVERY);
  const { data, error } = polled.value;
  useEffect(() => {
    const timer = setTimeout(() => {
      if (search.peek() === typed.value.trim()) return;
      search.value = typed.value.trim();
      older.value = [];
      more.value = null;
    }, TYPING);
    return () => clearTimeout(timer);
  }, [typed.value]);

  const newest = data ?? [];
  const seen = new Set(newest.map((film) => film.key));
  const films = [...newest, ...older.value.filter((film) => !seen.has(film.key))];
  const further = () => attempt(async () => {
    /** @type {Film[]} */
    const found = await api.get(`${path.peek()}&before=${encodeURIComponent(films.at(-1)?.key ?? "")}`);
    older.value = [...older.peek(), ...found];
    more.value = found.length === PAGE;
  });
  const changed = (/** @type {string} */ key, /** @type {Film | null} */ film) => {
    const replace = (/** @type {Film[]} */ all) => all.flatMap((one) => one.key !== key ? [one] : film ? [film] : []);
    older.value = replace(older.peek());
    polled.value = { ...polled.peek(), data: replace(polled.peek().data ?? []) };
  };
  const searches = Boolean(typed.value || search.value);
  if (data === null && !error && !searches) return null;
  return html`<${Card} title=${t("films.library")}>
    <div class="stack">
      <${Trouble} error=${error} />
      ${(newest.length > 0 || searches) && html`<${Field} label=${t("films.search")} hideLabel type="search"
        value=${typed.value} maxlength="200" autocomplete="off" placeholder=${t("films.search")}
        onInput=${(/** @type {string} */ text) => { typed.value = text; }} />`}
      ${films.length > 0 ? html`<${Gallery} films=${films} onChanged=${changed} />`
        : data === null ? null
        : search.value ? html`<p class="soft" role="status">${t("films.nothing", { text: search.value })}</p>`
        : html`<${Empty} icon="films" title=${t("films.empty")} text=${t("films.emptyText")} />`}
      ${(more.value ?? newest.length === PAGE) && html`<p class="shelf-more">
        <${Button} onClick=${further}>${t("films.olderFilms")}<//></p>`}
    </div>
  <//>`;
}
