/** The list of films: search, and pages of the newest ones. */

import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";

import { t } from "../../i18n.js";
import { refresh } from "../../poll.js";
import { Button, Card, Empty, Field, html } from "../../ui.js";
import { usePages } from "../parts/pages.js";
import { Trouble } from "../parts/trouble.js";
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
  const { rows: films, error, more, busy, load, change } = usePages(address(search.value),
    { size: PAGE, every: EVERY, keyOf: (/** @type {Film} */ film) => film.key });
  useEffect(() => {
    const timer = setTimeout(() => { search.value = typed.value.trim(); }, TYPING);
    return () => clearTimeout(timer);
  }, [typed.value]);

  const searches = Boolean(typed.value || search.value);
  if (films === null && !error && !searches) return null;
  return html`<${Card} title=${t("films.library")}>
    <div class="stack">
      <${Trouble} error=${error} />
      ${(films?.length || searches) && html`<${Field} label=${t("films.search")} hideLabel type="search"
        value=${typed.value} maxlength="200" autocomplete="off" placeholder=${t("films.search")}
        onInput=${(/** @type {string} */ text) => { typed.value = text; }} />`}
      ${films?.length ? html`<${Gallery} films=${films} onChanged=${change} onRestored=${() => refresh(LIBRARY)} />`
        : films === null ? null
        : search.value ? html`<p class="soft" role="status">${t("films.nothing", { text: search.value })}</p>`
        : html`<${Empty} icon="films" title=${t("films.empty")} text=${t("films.emptyText")} />`}
      ${more && html`<p class="shelf-more">
        <${Button} busy=${busy} onClick=${load}>${t("films.olderFilms")}<//></p>`}
    </div>
  <//>`;
}
