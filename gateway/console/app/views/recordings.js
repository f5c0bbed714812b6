/** The recordings of one channel or all: browse, play, download, delete. */

import { useSignal } from "@preact/signals";
import { useEffect, useMemo } from "preact/hooks";

import { api } from "../../players/api.js";
import { ask } from "../dialog.js";
import { t } from "../i18n.js";
import { refresh, usePoll } from "../poll.js";
import { go, route } from "../router.js";
import { administers, readsAll } from "../session.js";
import { toast } from "../toast.js";
import { Button, Empty, Field, html, LinkButton, Notice, PageHead, Select, Skeleton, Tabs } from "../ui.js";
import { choices, nameOf, useChannels } from "./parts/channels.js";
import { attempt, Trouble } from "./parts/trouble.js";
import { toastDeleted } from "./parts/undo.js";
import { Bin } from "./recordings/bin.js";
import { RecordingCard } from "./recordings/card.js";
import { deleteRecording, Feed } from "./recordings/feed.js";
import { shows } from "./recordings/shows.js";
import { Viewer } from "./recordings/viewer.js";

export { default as words } from "../words/recordings.js";

/** @typedef {import("./recordings/feed.js").Kind} Kind */
/** @typedef {import("./recordings/feed.js").Recording} Recording */

const PAGE = 24;
const EVERY = 5000; // ms
const KEPT = "/media/channels";
/** A broadcaster does not see media of deleted channels. @type {never[]} */
const NOTHING = [];

/** The kinds of recordings in each tab. @type {Readonly<Record<string, readonly Kind[]>>} */
const TABS = {
  all: ["video", "ondemand", "clip", "motion"],
  video: ["video"],
  ondemand: ["ondemand"],
  clip: ["clip"],
  motion: ["motion"],
  image: ["image"],
};

/** @param {string} channel @param {string} tab @param {string} [day]  the newest day to show; "": today */
const address = (channel, tab, day = "") => {
  const query = new URLSearchParams();
  if (channel) query.set("channel", channel);
  if (tab !== "all") query.set("kind", tab);
  if (day) query.set("day", day);
  return `/recordings${query.size ? `?${query}` : ""}`;
};

export default function Recordings() {
  const polled = useChannels();
  /** @type {import("../poll.js").PolledSignal<import("./live/model.js").Session[]>} */
  const online = usePoll("/videostreams/online", EVERY);
  const channel = route.value.query.get("channel") ?? "";
  const asked = route.value.query.get("kind") ?? "all";
  const tab = asked in TABS ? asked : "all";
  const day = route.value.query.get("day") ?? "";
  /** Deleted channels whose media are kept. @type {import("../poll.js").PolledSignal<{id: string, videoname: string}[]>} */
  const deleted = usePoll(readsAll.value ? KEPT : null, EVERY);
  const { data: channels, error } = polled.value;
  const kept = readsAll.value ? deleted.value.data : NOTHING;
  // The ids are compared as text, so that a poll without changes reloads nothing.
  const ids = channels && kept ? [...channels, ...kept].map((one) => one.id).sort().join(" ") : null;
  const keptIds = kept?.map((one) => one.id).sort().join(" ") ?? "";
  const names = useMemo(() => new Map([
    ...(kept ?? []).map((one) => /** @type {[string, string]} */ ([one.id, t("recordings.deletedChannel", { name: nameOf(one) })])),
    ...(channels ?? []).map((one) => /** @type {[string, string]} */ ([one.id, nameOf(one)])),
  ]), [channels, kept]);
  const growing = new Set((online.value.data ?? []).flatMap((one) => one.outputs.map((output) => output.playlist ?? "")));

  const list = useList(ids, keptIds, channel, TABS[tab] ?? [], endOf(day));
  const opened = useSignal(/** @type {Recording | null} */ (null));
  /** The keys of the selected recordings; null: the page is not for selecting. */
  const picked = useSignal(/** @type {ReadonlySet<string> | null} */ (null));
  /** The keys of the shows whose files are all shown. */
  const unfolded = useSignal(/** @type {ReadonlySet<string>} */ (new Set()));
  useEffect(() => { opened.value = null; picked.value = null; }, [channel, tab, day]);
  if (route.value.parts[0] === "bin" && readsAll.value) return html`<${Bin} names=${names} />`;

  const options = [
    { value: "", label: t("recordings.all") }, ...choices(channels ?? []),
    ...choices(kept ?? []).map(({ value, label }) => ({ value, label: t("recordings.deletedChannel", { name: label }) })),
  ];
  const chosen = kept?.find((one) => one.id === channel);
  const removeAll = async () => {
    if (!chosen) return;
    const name = nameOf(chosen);
    const done = await ask({
      title: t("recordings.deleteAllTitle", { name }), text: t("recordings.deleteAllText"), confirm: t("views.delete"), danger: true,
      run: () => api.delete(`/media?${new URLSearchParams({ channel: chosen.id })}`),
    });
    if (!done) return;
    toast(t("recordings.deletedAll", { name }), "ok");
    refresh(KEPT);
    go(address("", tab));
  };
  const { items, loading, more, failure } = list;
  const pick = (/** @type {readonly Recording[]} */ some, /** @type {boolean} */ on) => {
    const keys = new Set(picked.value);
    for (const one of some) if (on && !growing.has(one.key)) keys.add(one.key); else keys.delete(one.key);
    picked.value = keys;
  };
  const gone = (/** @type {readonly Recording[]} */ some) => {
    for (const one of some) list.drop(one);
    if (some.length === 0) return;
    const text = some.length === 1 ? t("recordings.deleted") : t("recordings.deletedMany", { n: some.length });
    toastDeleted(text, some.map((one) => one.key), list.reload);
  };
  const removePicked = async () => {
    const chosenItems = items.filter((one) => picked.value?.has(one.key));
    const n = chosenItems.length;
    if (!await ask({
      title: t("recordings.deleteManyTitle", { n }), text: t("recordings.deleteManyText"), confirm: t("views.delete"), danger: true,
    })) return;
    /** @type {Recording[]} */
    const deletedNow = [];
    await attempt(async () => { for (const one of chosenItems) { await deleteRecording(one); deletedNow.push(one); } });
    picked.value = null;
    gone(deletedNow);
  };
  const fold = (/** @type {string} */ key, /** @type {boolean} */ open) => {
    const keys = new Set(unfolded.value);
    if (open) keys.add(key); else keys.delete(key);
    unfolded.value = keys;
  };
  const card = (/** @type {import("./recordings/shows.js").Show<Recording>} */ show, /** @type {Recording} */ item, /** @type {boolean} */ folded) => html`
    <li key=${item.key}><${RecordingCard} item=${item} name=${names.get(item.channel) ?? item.channel} growing=${growing.has(item.key)}
      of=${folded ? show.items.length : 1} onOpen=${() => { opened.value = item; }}
      picked=${picked.value === null || growing.has(item.key) ? undefined
        : folded ? show.items.every((one) => picked.value?.has(one.key) || growing.has(one.key)) : picked.value.has(item.key)}
      onPick=${(/** @type {boolean} */ on) => pick(folded ? show.items : [item], on)}>
      ${item === show.items[0] && show.items.length > 1 && html`<${Button} small aria-expanded=${folded ? "false" : "true"}
        onClick=${() => fold(show.key, folded)}>${folded ? t("recordings.showAll", { n: show.items.length }) : t("recordings.fewer")}<//>`}
    <//></li>`;
  return html`
    <${PageHead} title=${t("recordings.title")} text=${t("recordings.text")}>
      ${readsAll.value && picked.value === null && html`<${LinkButton} icon="delete" href="#/recordings/bin">${t("bin.link")}<//>`}
      ${administers.value && (picked.value === null
        ? html`<${Button} icon="check" disabled=${items.length === 0} onClick=${() => { picked.value = new Set(); }}>${t("recordings.pick")}<//>`
        : html`<span class="soft" role="status">${t("recordings.picked", { n: picked.value.size })}</span>
          <${Button} class="warns" icon="delete" disabled=${picked.value.size === 0} onClick=${removePicked}>${t("views.delete")}<//>
          <${Button} onClick=${() => { picked.value = null; }}>${t("recordings.pickDone")}<//>`)}
      <${Button} icon="refresh" busy=${loading && items.length > 0} onClick=${list.reload}>${t("recordings.refresh")}<//>
    <//>
    <${Trouble} error=${error ?? deleted.value.error} />
    ${chosen && html`<div class="bar"><${Notice} kind="warn" title=${t("recordings.keptTitle")}
      actions=${administers.value && html`<${Button} small class="warns" icon="delete"
        onClick=${removeAll}>${t("recordings.deleteAll")}<//>`}>${t("recordings.keptText")}<//></div>`}
    <div class="bar">
      <${Tabs} label=${t("recordings.kinds")} value=${tab} panel="recordings"
        onChange=${(/** @type {string} */ to) => go(address(channel, to, day))}
        tabs=${Object.keys(TABS).map((value) => ({ value, label: t(`recordings.tab.${value}`) }))} />
      <${Select} label=${t("recordings.channel")} class="inline push" value=${channel} options=${options}
        onChange=${(/** @type {string} */ to) => go(address(to, tab, day))} />
      <${Field} label=${t("recordings.day")} class="inline" type="date" value=${day}
        onInput=${(/** @type {string} */ to) => go(address(channel, tab, to))} />
    </div>
    <div id="recordings" role="tabpanel" aria-label=${t(`recordings.tab.${tab}`)} aria-busy=${loading ? "true" : "false"}>
      <${Trouble} error=${failure} />
      ${items.length > 0 && html`<ul class="shelf">${shows(items).map((show) => {
        const folded = show.items.length > 1 && !unfolded.value.has(show.key);
        return show.items.slice(0, folded ? 1 : undefined).map((item) => card(show, item, folded));
      })}</ul>`}
      ${loading && items.length === 0 && html`<${Skeleton} lines=${4} height="6rem" />`}
      ${!loading && !failure && items.length === 0 && ids !== null && html`
        <${Empty} icon=${tab === "image" ? "image" : "recordings"} title=${t(`recordings.empty.${tab}`)} text=${t("recordings.emptyText")}>
          <${LinkButton} kind="primary" href="#/channels">${t("recordings.toChannels")}<//>
        <//>`}
      ${items.length > 0 && html`<div class="shelf-more">
        ${more ? html`<${Button} busy=${loading} onClick=${list.load}>${t("recordings.more")}<//>` : ""}
        <span class="soft" aria-live="polite">${t(more ? "recordings.shown" : "recordings.shownAll", { n: items.length })}</span>
      </div>`}
    </div>
    ${opened.value && html`<${Viewer} item=${opened.value} name=${names.get(opened.value.channel) ?? opened.value.channel}
      growing=${growing.has(opened.value.key)} items=${items} onShow=${(/** @type {Recording} */ to) => { opened.value = to; }}
      onClose=${() => { opened.value = null; }}
      onChanged=${(/** @type {Recording} */ one) => { opened.value = one; list.replace(one); }}
      onDeleted=${(/** @type {Recording} */ one) => { opened.value = null; gone([one]); }} />`}`;
}

/** Returns the end of a day in the zone of the browser. @param {string} day  such as 2030-01-31; others: "" @returns {string} */
function endOf(day) {
  const end = new Date(`${day}T00:00`);
  if (Number.isNaN(end.getTime())) return "";
  end.setDate(end.getDate() + 1);
  return end.toISOString();
}

/**
 * The loaded pages of recordings for the current choice.
 * @param {string | null} ids  of all channels, separated by spaces; null while they are unknown
 * @param {string} deleted     those of them that were deleted
 * @param {string} channel     "": all
 * @param {readonly Kind[]} kinds
 * @param {string} before    a time: only older recordings; "": all
 */
function useList(ids, deleted, channel, kinds, before) {
  const items = useSignal(/** @type {Recording[]} */ ([]));
  const state = useSignal(/** @type {{loading: boolean, failure: unknown, more: boolean}} */ ({ loading: true, failure: null,
    more: false }));
  const again = useSignal(0);
  const feed = useMemo(() => {
    if (ids === null) return null;
    const known = ids.split(" ").filter(Boolean);
    return new Feed(channel ? known.filter((id) => id === channel) : known, kinds, PAGE, new Set(deleted.split(" ")),
      before);
  }, [ids, deleted, channel, kinds, before, again.value]);

  const load = async (/** @type {boolean} */ first) => {
    if (feed === null) return;
    state.value = { ...state.peek(), loading: true, failure: null };
    try {
      const page = await feed.next();
      if (current.feed !== feed) return; // the choice changed meanwhile
      items.value = first ? page : [...items.peek(), ...page];
      state.value = { loading: false, failure: null, more: feed.more };
    } catch (error) {
      if (current.feed === feed) state.value = { loading: false, failure: error, more: false };
    }
  };
  const current = useMemo(() => ({ feed }), []);
  useEffect(() => {
    current.feed = feed;
    void load(true);
    return () => { current.feed = null; };
  }, [feed]);

  return {
    items: items.value, ...state.value,
    load: () => void load(false),
    reload: () => { again.value += 1; },
    replace: (/** @type {Recording} */ changed) => {
      items.value = items.peek().map((one) => one.key === changed.key ? changed : one);
    },
    drop: (/** @type {Recording} */ gone) => { items.value = items.peek().filter((one) => one.key !== gone.key); },
  };
}
