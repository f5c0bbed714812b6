/** What operators do with an on-demand session: its title, whether viewers find it, and videos of parts of it. */

import { useState } from "preact/hooks";

import { api, ApiError } from "../../../players/api.js";
import { duration } from "../../format.js";
import { t } from "../../i18n.js";
import { toast } from "../../toast.js";
import { Button, Field, html, Notice, Switch } from "../../ui.js";
import { attempt, reason } from "../parts/trouble.js";

/** @typedef {import("./feed.js").Recording} Recording */

/** @param {Recording} item */
const base = (item) => `/videostream/${encodeURIComponent(item.channel)}`;

/** @param {Recording} item @returns {string} the number of the session: its start, milliseconds since 1970 */
export const numberOf = (item) => item.path.slice(4, 17); // after "vod/"

/** The whole session as one MP4. @param {Recording} item @returns {string} */
export function exported(item) {
  const start = Date.parse(item.start) / 1000;
  return `${base(item)}/export?${new URLSearchParams({ from: String(start), to: String(start + (item.seconds ?? 0)) })}`;
}

/** @param {string} text  such as 1:02:03.5 @returns {number} seconds; NaN for other texts */
export function secondsOf(text) {
  if (!/^(\d+:){0,2}\d+(\.\d+)?$/.test(text.trim())) return NaN;
  return text.trim().split(":").reduce((sum, part) => sum * 60 + Number(part), 0);
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

/**
 * Makes a video of a part. position: returns that of the player, seconds.
 * @param {{item: Recording, name: string, position: () => number}} props
 */
export function SessionTrim({ item, name, position }) {
  const [draft, setDraft] = useState({ from: "0:00", to: duration(item.seconds ?? 0), name: item.title || name });
  const [busy, setBusy] = useState(false);
  const [wrong, setWrong] = useState(/** @type {Record<string, string>} */ ({}));
  const [error, setError] = useState("");
  const [made, setMade] = useState(false);
  const set = (/** @type {Partial<typeof draft>} */ changes) => setDraft({ ...draft, ...changes });
  const make = async () => {
    const [from, to] = [secondsOf(draft.from), secondsOf(draft.to)];
    setWrong({ ...(Number.isNaN(from) && { from: t("session.time") }), ...(Number.isNaN(to) && { to: t("session.time") }) });
    setError("");
    if (Number.isNaN(from) || Number.isNaN(to)) return;
    setBusy(true);
    setMade(false);
    try {
      await api.post(`${base(item)}/recordings/trim`, { session: numberOf(item), from, to, name: draft.name.trim() });
      setMade(true);
      toast(t("session.trimmed"), "ok");
    } catch (problem) {
      if (problem instanceof ApiError && problem.field && problem.field in draft) setWrong({ [problem.field]: problem.message });
      else setError(reason(problem));
    }
    setBusy(false);
  };
  const time = (/** @type {"from" | "to"} */ field) => html`<${Field} label=${t(`session.${field}`)} value=${draft[field]} error=${wrong[field]}
    onInput=${(/** @type {string} */ value) => set({ [field]: value })}
    after=${html`<${Button} small onClick=${() => set({ [field]: exact(position()) })}>${t("session.take")}<//>`} />`;
  return html`<form class="stack" onSubmit=${(/** @type {Event} */ event) => { event.preventDefault(); void make(); }}>
    <p class="hint">${t("session.trimHint")}</p>
    <div class="columns">${time("from")}${time("to")}</div>
    <${Field} label=${t("session.name")} value=${draft.name} error=${wrong["name"]} required maxlength="200"
      onInput=${(/** @type {string} */ value) => set({ name: value })} />
    <div class="row"><${Button} type="submit" icon="films" busy=${busy}>${t("session.make")}<//>
      ${made && html`<a href="#/films">${t("session.toFilms")}</a>`}</div>
    ${error && html`<${Notice} kind="bad" role="alert">${error}<//>`}
  </form>`;
}

/** @param {number} seconds @returns {string} with tenths, which `secondsOf` reads */
function exact(seconds) {
  const whole = Math.floor(seconds * 10) / 10;
  const rest = (whole % 60).toFixed(1).padStart(4, "0");
  const minutes = Math.floor(whole / 60);
  return minutes < 60 ? `${minutes}:${rest}` : `${Math.floor(minutes / 60)}:${String(minutes % 60).padStart(2, "0")}:${rest}`;
}
