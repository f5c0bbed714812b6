/** The list of all channels: search, sort, export, create. The gateway orders and pages it. */

import { useEffect, useMemo, useRef, useState } from "preact/hooks";

import { api } from "../../players/api.js";
import { expiry, expiryText, expiryTone, isNever, isOn, nameOf, outputsOn, sessionState, stateOf, TONES, viewersOf } from "../channel.js";
import { csv, save } from "../csv.js";
import { bitrate, number, relative } from "../format.js";
import { t } from "../i18n.js";
import { installed, loadInstalled } from "../installed_outputs.js";
import { refresh, usePoll } from "../poll.js";
import { channelHref, go } from "../router.js";
import { administers, readsAll, unreachable } from "../session.js";
import { keep, recall } from "../../players/memory.js";
import { Badge, Button, Chip, Empty, html, Icon, LinkButton, Menu, Notice, PageHead, Select, Table } from "../ui.js";
import { NewChannel } from "../editor/new.js";
import { CHANNELS, PAGES, refreshChannels } from "./parts/channels.js";
import { errorText } from "./parts/errors.js";
import { attempt } from "./parts/trouble.js";

/** @typedef {import("../channel.js").Channel} Channel */
/** @typedef {import("../channel.js").Session} Session */
/** @typedef {import("../channel.js").State} State */
/** @typedef {{channel: Channel, name: string, session: Session | undefined, state: State, until: Date | null, outputs: string[]}} Row */
/** @typedef {{channels: Channel[], found: number, states: {live: number, idle: number, expired: number}}} Page */
/** @typedef {import("../kit/table.js").View} View */

const ONLINE = "/videostreams/online";
const TYPING = 200;      // ms without a key until the search begins
const MOST = 500;        // channels in one answer, for an export
const LONGEST = 200;     // characters of a search

/** @param {string} search @param {string} only @param {View} view */
const address = (search, only, view) => `${PAGES}?${new URLSearchParams({ sort: view.sort, limit: String(view.limit),
  offset: String(view.offset), ...search ? { search } : {}, ...only === "all" ? {} : { state: only } })}`;

export default function Channels() {
  const [typed, setTyped] = useState("");
  const [search, setSearch] = useState("");
  const [only, setOnly] = useState(() => recall("channels.only") ?? "all");
  const [view, setView] = useState(/** @type {View | null} */ (null));
  const [making, setMaking] = useState(false);
  const path = view && address(search, only, view);
  const list = usePoll(path, 15_000);
  const online = usePoll(ONLINE, 2_000);
  // The last page is shown until the next one is there.
  const last = useRef(/** @type {Page | null} */ (null));
  const page = last.current = /** @type {Page | null} */ (list.value.data) ?? last.current;

  useEffect(() => { if (administers.value) void loadInstalled(); }, []);
  useEffect(() => {
    const timer = setTimeout(() => setSearch(typed.trim()), TYPING);
    return () => clearTimeout(timer);
  }, [typed]);
  useEffect(() => {
    const find = (/** @type {KeyboardEvent} */ event) => {
      const busy = event.target instanceof Element && event.target.closest("input, textarea, select, dialog, [role=menu]");
      if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey || busy) return;
      event.preventDefault();
      document.getElementById("channel-search")?.focus();
    };
    document.addEventListener("keydown", find);
    return () => document.removeEventListener("keydown", find);
  }, []);

  const sessions = /** @type {(Session[]) | null} */ (online.value.data);
  const rows = useMemo(() => page && toRows(page.channels, sessions ?? []),
    [page, sessions, installed.value, unreachable.value]);
  // A stream that begins or ends changes its place in the list.
  const onAir = sessions && sessions.map((one) => one.id + sessionState(one)).sort().join();
  const before = useRef(onAir);
  useEffect(() => {
    if (before.current !== null && before.current !== onAir) refresh(PAGES);
    before.current = onAir;
  }, [onAir]);

  const filtered = search !== "" || only !== "all";
  const { live = 0, idle = 0, expired = 0 } = page?.states ?? {};
  const all = live + idle + expired;

  return html`
    <${PageHead} title=${t("nav.channels")}>
      <${Menu} label=${t("channels.export")} icon="download" class="compact" items=${[
        { label: t("channels.export.all", { n: all }), disabled: !all, onSelect: () => download("", "all") },
        { label: t("channels.export.found", { n: page?.found ?? 0 }), disabled: !filtered || !page?.found,
          onSelect: () => download(search, only) },
      ]}>${t("channels.export")}<//>
      ${!readsAll.value && html`<${LinkButton} icon="live" href="#/wall">${t("channels.wall")}<//>`}
      <${Button} icon="refresh" class="compact" onClick=${() => { refresh(PAGES); refresh(ONLINE); }}>${t("refresh")}<//>
      ${administers.value && html`<${Button} kind="primary" icon="plus" onClick=${() => setMaking(true)}>${t("channels.new")}<//>`}
    <//>
    ${list.value.error && !unreachable.value && html`<div class="bar">
      <${Notice} kind="warn" role="alert">${t("channels.stale", { reason: list.value.error.message })}<//></div>`}
    <div class="bar">
      <div class="field search grow">
        <label class="visually-hidden" for="channel-search">${t("channels.search")}</label>
        <div class="box"><${Icon} name="search" />
          <input id="channel-search" type="search" aria-keyshortcuts="/" value=${typed} maxlength=${LONGEST} placeholder=${t("channels.search.hint")}
            spellcheck=${false}
          onInput=${(/** @type {Event} */ event) => setTyped(/** @type {HTMLInputElement} */ (event.target).value)} /></div>
      </div>
      <${Select} label=${t("channels.only")} hideLabel value=${only}
        onChange=${(/** @type {string} */ value) => { setOnly(value); keep("channels.only", value); }} options=${[
        { value: "all", label: t("channels.only.all", { n: all }) },
        { value: "live", label: t("channels.only.live", { n: live }) },
        { value: "idle", label: t("channels.only.idle", { n: idle }) },
        { value: "expired", label: t("channels.only.expired", { n: expired }) },
      ]} />
    </div>
    <${Table} key=${`${only} ${search}`} label=${t("nav.channels")} name="channels" columns=${columns()} rows=${rows} found=${page?.found ?? 0} onView=${setView}
      keyOf=${(/** @type {Row} */ row) => row.channel.id} sort="state"
      onOpen=${(/** @type {Row} */ row) => go(channelHref(row.channel.id))}
      empty=${filtered && all
        ? html`<div class="table-box"><${Empty} icon="search" title=${t("channels.none.found")}>
          <${Button} onClick=${() => { setTyped(""); setSearch(""); setOnly("all"); keep("channels.only", "all"); }}>${t("channels.clear")}<//><//></div>`
        : !administers.value ? html`<div class="table-box"><${Empty} icon="channels" title=${t("channels.none")}
          text=${t("channels.none.broadcaster")} /></div>`
        : html`<div class="table-box"><${Empty} icon="channels" title=${t("channels.none")} text=${t("channels.none.text")}>
          <${Button} kind="primary" icon="plus" onClick=${() => setMaking(true)}>${t("channels.first")}<//><//></div>`} />
    ${making && html`<${NewChannel} onClose=${() => setMaking(false)}
      onMade=${(/** @type {Channel} */ made) => { refreshChannels(); go(channelHref(made.id)); }}
      create=${(/** @type {Record<string, unknown>} */ body) => api.post(CHANNELS, body)} />`}`;
}

/** @param {Channel[]} channels @param {Session[]} sessions @returns {Row[]} */
function toRows(channels, sessions) {
  const live = new Map(sessions.map((session) => [session.id, session]));
  return channels.map((channel) => {
    const session = live.get(channel.id);
    return { channel, name: nameOf(channel), session, state: stateOf(channel, session), until: expiry(channel),
      outputs: outputsOn(channel) };
  });
}

/** @returns {import("../kit/table.js").Column<Row>[]} */
function columns() {
  return [
    { key: "name", label: t("channel.name"), sort: (row) => row.name, class: "main", cell: (row) => html`<a class="title"
      href=${channelHref(row.channel.id)}>${row.name}</a>
      ${row.channel["description"] && html`<span class="sub">${String(row.channel["description"])}</span>`}` },
    { key: "state", label: t("channel.state"), sort: (row) => row.state, cell: (row) => html`<span class="state">
      <${Badge} kind=${TONES[row.state]} dot=${row.state === "live"}>${t(`state.${row.state}`)}<//>
      ${row.session?.state === "live" && html`<span class="sub">${bitrate(row.session.bitrate)}</span>`}</span>` },
    { key: "viewers", label: t("channel.viewers"), number: true, sort: (row) => (row.session ? viewersOf(row.session) : null),
      cell: (row) => (row.session ? number(viewersOf(row.session)) : html`<span class="soft">–</span>`) },
    { key: "expiry", label: t("channel.expiry"), sort: (row) => row.until?.getTime(),
      cell: (row) => html`<span class="nowrap">${expiryText(row.until)}</span>
        ${!isNever(row.until) && html`<span class=${`sub is-${expiryTone(row.channel)}`}>${relative(row.until)}</span>`}` },
    { key: "outputs", label: t("channel.outputs"),
      cell: (row) => html`<span class="chips">
        ${row.outputs.map((name) => html`<${Chip} key=${name} kind=${chipTone(row.session, name)}
          title=${chipTitle(row.session, name)}>${t(`output.short.${name}`)}<//>`)}</span>` },
  ];
}

/** @param {Session | undefined} session @param {string} name */
function chipTone(session, name) {
  const output = session?.outputs.find((one) => one.name === name);
  if (!output || !output.enabled) return undefined;
  return output.state === "failed" ? "bad" : output.state === "retrying" || output.state === "degraded" ? "warn" : "ok";
}

/** @param {Session | undefined} session @param {string} name */
function chipTitle(session, name) {
  const output = session?.outputs.find((one) => one.name === name);
  const [failing] = (output?.["targets"] ?? []).filter((/** @type {any} */ target) => target.error);
  return [t(`output.${name}`), output?.error ? errorText(output.error) : failing && `${failing.url}: ${errorText(failing.error)}`].filter(Boolean).join(": ");
}

/** Saves all found channels. @param {string} search @param {string} only */
async function download(search, only) {
  /** @type {Channel[]} */
  const channels = [];
  await attempt(async () => {
    for (let found = 1; channels.length < found;) {
      /** @type {Page} */
      const page = await api.get(address(search, only, { sort: "name", limit: MOST, offset: channels.length }));
      channels.push(...page.channels);
      found = page.channels.length && page.found;
    }
    write(toRows(channels, await api.get(ONLINE)));
  });
}

/** @param {Row[]} rows */
function write(rows) {
  const stamp = new Date().toISOString().slice(0, 10);
  save(`millrace-channels-${stamp}.csv`, csv([
    { title: "id", value: (/** @type {Row} */ row) => row.channel.id },
    { title: "name", value: (row) => row.channel["videoname"] ?? "" },
    { title: "description", value: (row) => row.channel["description"] ?? "" },
    { title: "state", value: (row) => row.state },
    { title: "expiry", value: (row) => row.until?.toISOString() ?? "" },
    { title: "expired", value: (row) => row.channel.expired },
    { title: "bitrate", value: (row) => row.session?.bitrate ?? "" },
    { title: "viewers", value: (row) => (row.session ? viewersOf(row.session) : "") },
    { title: "outputs", value: (row) => row.outputs.join(" ") },
    { title: "playAuth", value: (row) => row.channel["playAuth"] ?? "" },
    { title: "server", value: (row) => row.channel.obsServer },
    { title: "streamKey", value: (row) => row.channel.obsKey },
    ...["flv", "hls", "cmaf", "dash", "ladder", "rtmp"].map(
      (name) => ({ title: name, value: (/** @type {Row} */ row) => row.channel.playUrls[name] ?? "" }),
    ),
    { title: "rtmps", value: (row) => isOn(row.channel["isRtmps"]) },
  ], rows));
}
