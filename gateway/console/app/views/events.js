/** What happened: pushes, refusals, outputs, recordings, jobs, changes. Newest first, by channel and kind. */

import { useEffect, useState } from "preact/hooks";

import { api, isAbort } from "../../players/api.js";
import { t } from "../i18n.js";
import { usePoll } from "../poll.js";
import { go, route } from "../router.js";
import { Button, Empty, html, PageHead, Select, Skeleton } from "../ui.js";
import { choices, nameOf, useChannels } from "./parts/channels.js";
import { EventList, typeName, TYPES } from "./parts/events.js";
import { Trouble } from "./parts/trouble.js";

export { default as words } from "../words/events.js";

/** @typedef {import("./parts/events.js").LoggedEvent} LoggedEvent */

const PAGE = 50;
const EVERY = 5000; // ms
const MOST = 2000; // events in the page

/** @param {string} channel @param {string} type @returns {string} */
const address = (channel, type) => `/events${query({ channel, type })}`;

/** @param {Record<string, string>} values @returns {string} */
function query(values) {
  const used = new URLSearchParams(Object.entries(values).filter(([, value]) => value));
  return used.size ? `?${used}` : "";
}

export default function Events() {
  const polled = useChannels();
  const channel = route.value.query.get("channel") ?? "";
  const asked = route.value.query.get("type") ?? "";
  const type = asked in TYPES ? asked : "";
  const list = useEvents(channel, type);
  const channels = polled.value.data ?? [];
  const names = new Map(channels.map((one) => [one.id, nameOf(one)]));
  const options = choices(channels);
  // The events of a deleted channel can be listed too.
  if (channel && !names.has(channel)) options.push({ value: channel, label: channel });
  return html`
    <${PageHead} title=${t("nav.events")} text=${t("events.text")} />
    <${Trouble} error=${list.error} />
    <div class="bar">
      <${Select} class="inline" label=${t("events.channel")} value=${channel} options=${[{ value: "", label: t("events.all") }, ...options]}
        onChange=${(/** @type {string} */ value) => go(address(value, type))} />
      <${Select} class="inline" label=${t("events.type")} value=${type}
        options=${[{ value: "", label: t("events.all") }, ...Object.keys(TYPES).map((value) => ({ value, label: typeName(value) }))]}
        onChange=${(/** @type {string} */ value) => go(address(channel, value))} />
    </div>
    ${list.events === null ? !list.error && html`<${Skeleton} lines=${8} />`
      : list.events.length === 0 ? html`<${Empty} icon="events" title=${t("events.none")} text=${t("events.noneText")} />`
        : html`<div class="card"><${EventList} label=${t("nav.events")} events=${list.events}
            nameOf=${(/** @type {string} */ id) => names.get(id) ?? null} /></div>`}
    ${list.more && html`<div class="bar"><${Button} busy=${list.busy} onClick=${list.load}>${t("events.more")}<//></div>`}`;
}

/**
 * The first page, which is polled, with the older pages that were loaded.
 * @param {string} channel @param {string} type
 */
function useEvents(channel, type) {
  const path = `/events${query({ channel, type, limit: String(PAGE) })}`;
  /** @type {import("../poll.js").PolledSignal<LoggedEvent[]>} */
  const polled = usePoll(path, EVERY);
  const first = polled.value.data;
  const [kept, setKept] = useState({ path, events: /** @type {LoggedEvent[]} */ ([]), end: false });
  const [busy, setBusy] = useState(false);
  const [failure, setFailure] = useState(/** @type {unknown} */ (null));
  const own = kept.path === path ? kept : { path, events: [], end: false };
  useEffect(() => {
    if (first === null) return;
    const known = new Set(own.events.map((event) => event.id));
    // If more than a page is new, the older events would have a gap: they are loaded again.
    const joins = first.some((event) => known.has(event.id));
    setKept({ path, events: joins ? merge(first, own.events) : first, end: joins ? own.end : first.length < PAGE });
  }, [first, path]);

  const load = async () => {
    setBusy(true);
    setFailure(null);
    try {
      const before = own.events.at(-1)?.id ?? "";
      const page = /** @type {LoggedEvent[]} */ (await api.get(`/events${query({ channel, type, limit: String(PAGE), before })}`));
      setKept((now) => (now.path === path ? { path, events: merge(now.events, page), end: page.length < PAGE } : now));
    } catch (error) {
      if (!isAbort(error)) setFailure(error);
    } finally {
      setBusy(false);
    }
  };
  const events = first === null ? null : own.events.length ? own.events : first;
  return { events, busy, load, error: polled.value.error ?? failure,
    more: !own.end && (events?.length ?? 0) >= PAGE && (events?.length ?? 0) < MOST };
}

/** @param {readonly LoggedEvent[]} some @param {readonly LoggedEvent[]} others @returns {LoggedEvent[]} each once, newest first */
function merge(some, others) {
  const byId = new Map([...some, ...others].map((event) => [event.id, event]));
  return [...byId.values()].sort((a, b) => (a.id < b.id ? 1 : -1)).slice(0, MOST);
}
