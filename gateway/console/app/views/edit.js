/**
 * The form of a channel: first what a first show needs, then all settings, which can be searched. Only changed fields are
 * sent.
 */

import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";

import { api, ApiError, isAbort } from "../../players/api.js";
import { keep, recall } from "../../players/memory.js";
import { nameOf } from "../channel.js";
import { ask } from "../dialog.js";
import { changedFields, changesOf, draftOf, loadFields, same } from "../editor/fields.js";
import { loadLadders } from "../editor/ladders.js";
import { wordsOf } from "../editor/parts.js";
import { firstSections, sections } from "../editor/sections.js";
import { t } from "../i18n.js";
import { loadInstalled } from "../installed_outputs.js";
import { Radios } from "../kit/radios.js";
import { refresh, usePoll } from "../poll.js";
import { channelHref, guardLeaving, route } from "../router.js";
import { toast } from "../toast.js";
import { Button, Card, Empty, Field, html, Icon, LinkButton, Notice, PageHead, Skeleton } from "../ui.js";
import { refreshChannels } from "./parts/channels.js";

export { default as words } from "../words/edit.js";

/** @typedef {import("../channel.js").Channel} Channel */
/** @typedef {import("../channel.js").Session} Session */
/** @typedef {import("../editor/fields.js").Draft} Draft */
/** @typedef {import("../editor/fields.js").Wrong} Wrong */

const SHORT = "short", ALL = "all"; // how much is shown

/** @param {{parts: string[]}} props  its id */
export default function Edit({ parts: [id = ""] }) {
  const path = `/videostream/${encodeURIComponent(id)}`;
  const [channel, setChannel] = useState(/** @type {Channel | null} */ (null));
  const [failed, setFailed] = useState(/** @type {Error | null} */ (null));
  const current = usePoll(channel ? `${path}/session` : null, 4_000);
  useEffect(() => {
    Promise.all([api.get(path), loadFields(), loadInstalled(), loadLadders()])
      .then(([found]) => setChannel(found), (error) => { if (!isAbort(error)) setFailed(error); });
  }, [path]);
  if (failed) return html`<${Empty} icon="search"
    title=${failed instanceof ApiError && failed.status === 404 ? t("channel.missing") : t("channel.unread")} text=${failed.message}>
    <${LinkButton} href="#/channels" icon="left">${t("nav.channels")}<//><//>`;
  if (!channel) return html`<${Skeleton} lines=${8} />`;
  return html`<${Editor} channel=${channel} session=${current.value.data} path=${path} onSaved=${setChannel} />`;
}

/** @param {Wrong} wrong @returns {string} */
function said(wrong) {
  if (wrong.why === "moment") return t("new.expiry.missing");
  if (wrong.why === "missing") return t("new.name.missing");
  const { minimum, maximum, whole } = wrong.field;
  return t(whole ? "wrong.whole" : "wrong.number", { least: minimum ?? "", most: maximum ?? "" });
}

/** @param {{channel: Channel, session: Session | null, path: string, onSaved: (channel: Channel) => void}} props */
function Editor({ channel, session, path, onSaved }) {
  const before = useMemo(() => draftOf(channel), [channel]);
  const [draft, setDraft] = useState(before);
  const [errors, setErrors] = useState(/** @type {Record<string, string>} */ ({}));
  const [busy, setBusy] = useState(false);
  const [extent, setExtent] = useState(() => (route.peek().query.get("section") ? ALL : recall("editor") ?? SHORT));
  const [search, setSearch] = useState("");
  const form = useRef(/** @type {HTMLFormElement | null} */ (null));
  const changed = changedFields(before, draft);
  const dirty = changed.length > 0;
  const name = nameOf(channel);

  // Not after the next paint, which a link may come before.
  useLayoutEffect(() => {
    guardLeaving(dirty ? () => ask({ title: t("edit.leave"), text: t("edit.leave.text", { n: changed.length }),
      confirm: t("edit.leave.confirm"), cancel: t("edit.stay"), danger: true }) : null);
  }, [dirty, changed.length]);
  useLayoutEffect(() => () => guardLeaving(null), []);
  // A link may name a section.
  useEffect(() => {
    const section = route.peek().query.get("section");
    if (section) requestAnimationFrame(() => show(section));
  }, []);

  const asked = search.trim().toLowerCase().split(/\s+/).filter(Boolean);
  const match = (/** @type {string} */ name) => asked.every((word) => wordsOf(name).includes(word));
  const list = asked.length || extent === ALL ? sections(channel, match) : firstSections;
  const choose = (/** @type {string} */ to) => {
    setSearch("");
    setExtent(to);
    keep("editor", to);
  };
  /** Takes the stored channel. What differs from `base`, because the user has typed it, stays. */
  const adopt = (/** @type {Channel} */ now, /** @type {Draft} */ base) => {
    onSaved(now);
    setDraft((typed) => ({ ...draftOf(now), ...Object.fromEntries(Object.entries(typed).filter(([field, value]) => !same(value, base[field]))) }));
  };
  const reload = () => { api.get(path).then((now) => adopt(now, before), (error) => { if (!isAbort(error)) toast(error.message, "bad"); }); };

  const set = (/** @type {Draft} */ changes) => {
    setDraft((now) => ({ ...now, ...changes }));
    setErrors((now) => Object.fromEntries(Object.entries(now).filter(([field]) => !(field in changes))));
  };
  const refuse = (/** @type {Record<string, string>} */ next) => {
    setErrors(next);
    const [field] = Object.keys(next);
    if (field && !list.some((section) => section.fields.includes(field))) choose(ALL);
    if (field) requestAnimationFrame(() => {
      const control = form.current?.querySelector(`[name="${CSS.escape(field)}"]`);
      control?.scrollIntoView({ block: "center" });
      if (control instanceof HTMLElement) control.focus({ preventScroll: true });
    });
  };
  const save = async () => {
    if (busy || !dirty) return;
    const { body, wrong } = changesOf(before, draft);
    if (Object.keys(wrong).length) return refuse(Object.fromEntries(Object.entries(wrong).map(([field, why]) => [field, said(why)])));
    setBusy(true);
    try {
      const now = await api.put(path, body);
      setErrors({});
      adopt(now, draft);
      refresh(path);
      refreshChannels();
      toast(t(before["outdate"] === draft["outdate"] ? "edit.saved" : "edit.saved.key"),
        before["outdate"] === draft["outdate"] ? "ok" : "warn");
    } catch (error) {
      if (isAbort(error)) return;
      if (!(error instanceof ApiError)) throw error;
      if (error.field && error.field in draft) refuse({ [error.field]: error.message });
      else toast(error.field ? `${error.field}: ${error.message}` : error.message, "bad");
    } finally {
      setBusy(false);
    }
  };
  const shared = { draft, errors, set, reload, defaults: { playAuth: channel["playAuthDefault"] } };
  return html`
    <${PageHead} title=${t("edit.title", { name })} back=${{ href: channelHref(channel.id), label: name }} />
    ${session && session.state !== "idle" && html`<div class="bar"><${Notice} kind="info">${t("edit.live")}<//></div>`}
    <form class="editor" ref=${form} novalidate onSubmit=${(/** @type {Event} */ event) => { event.preventDefault(); void save(); }}>
      <div class="editor-head"><div class="spans"><${Radios} label=${t("edit.extent")} value=${asked.length ? ALL : extent} onChange=${choose}
          options=${[SHORT, ALL].map((value) => ({ value, label: t(`edit.extent.${value}`) }))} /></div>
        <${Field} type="search" class="grow" label=${t("edit.search")} hideLabel placeholder=${t("edit.search")} value=${search}
          autocomplete="off" onInput=${setSearch} /></div>
      <nav class="index" aria-label=${t("edit.sections")}><ul>${list.map((section) => html`<li key=${section.id}>
        <button type="button" class=${mine(section.fields, changed, errors)} onClick=${() => show(section.id)}>
          <${Icon} name=${section.icon} />${t(`section.${section.id}`)}</button></li>`)}</ul></nav>
      <div class="stack">
        ${!list.length && html`<${Empty} icon="search" title=${t("edit.search.none")} />`}
        ${list.map((section) => html`<${Card} key=${section.id} id=${`section-${section.id}`} title=${t(`section.${section.id}`)}
          class="section">
          <div class="stack"><${section.view} form=${shared} channel=${channel} session=${session} match=${asked.length ? match : undefined} /></div><//>`)}
        <div class="save-bar" data-dirty=${dirty ? "true" : "false"}>
          <span class="soft grow" role="status">${dirty ? t("edit.changes", { n: changed.length }) : t("edit.unchanged")}</span>
          <${Button} disabled=${!dirty || busy} onClick=${() => { setDraft(before); setErrors({}); }}>${t("edit.discard")}<//>
          <${Button} kind="primary" type="submit" icon="check" busy=${busy} disabled=${!dirty}>${t("edit.save")}<//>
        </div>
      </div>
    </form>`;
}

/** @param {string} section */
function show(section) {
  const card = document.getElementById(`section-${section}`);
  card?.scrollIntoView({ block: "start", behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
  const control = card?.querySelector("input, select, textarea");
  if (control instanceof HTMLElement) control.focus({ preventScroll: true });
}

/** The mark of a section in the list. @param {string[]} fields @param {string[]} changed @param {Record<string, string>} errors */
function mine(fields, changed, errors) {
  return fields.some((field) => field in errors) ? "wrong" : fields.some((field) => changed.includes(field)) ? "changed" : "";
}
