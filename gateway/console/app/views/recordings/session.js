/** What operators do with an on-demand session: its title, and whether viewers find it. */

import { useState } from "preact/hooks";

import { api } from "../../../players/api.js";
import { t } from "../../i18n.js";
import { Button, Field, html, Switch } from "../../ui.js";
import { attempt } from "../parts/trouble.js";

/** @typedef {import("./feed.js").Recording} Recording */

/** @param {Recording} item */
const base = (item) => `/videostream/${encodeURIComponent(item.channel)}`;

/** The whole session as one MP4. @param {Recording} item @returns {string} */
export function exported(item) {
  const start = Date.parse(item.start) / 1000;
  return `${base(item)}/export?${new URLSearchParams({ from: String(start), to: String(start + (item.seconds ?? 0)) })}`;
}

/**
 * @param {{item: Recording, onChanged: (item: Recording) => void}} props
 */
export function SessionEdit({ item, onChanged }) {
  const [title, setTitle] = useState(item.title);
  const [busy, setBusy] = useState(false);
  const save = async (/** @type {Partial<Pick<Recording, "title" | "hidden">>} */ changes) => {
    setBusy(true);
    await attempt(async () => {
      onChanged({ ...item, ...await api.put(`${base(item)}/recordings/${encodeURIComponent(item.path)}`, changes) });
    }, t("session.saved"));
    setBusy(false);
  };
  return html`<form class="stack" onSubmit=${(/** @type {Event} */ event) => { event.preventDefault(); void save({ title: title.trim() }); }}>
    <${Field} label=${t("session.title")} hint=${t("session.titleHint")} value=${title} onInput=${setTitle} maxlength="200"
      after=${html`<${Button} small type="submit" busy=${busy} disabled=${title.trim() === item.title}>${t("session.rename")}<//>`} />
    <${Switch} label=${t("session.hidden")} hint=${t("session.hiddenHint")} checked=${item.hidden} busy=${busy}
      onChange=${(/** @type {boolean} */ hidden) => void save({ hidden })} />
  </form>`;
}
