/** The recordings of one channel or all: browse, play, download, delete. */

import { useSignal } from "@preact/signals";
import { useEffect, useMemo } from "preact/hooks";

import { api } from "../../players/api.js";
import { ask } from "../dialog.js";
import { t } from "../i18n.js";
import { refresh, usePoll } from "../poll.js";
import { go, route } from "../router.js";
import { administers } from "../session.js";
import { toast } from "../toast.js";
import { Button, Empty, html, LinkButton, Notice, PageHead, Select, Skeleton, Tabs } from "../ui.js";
import { choices, nameOf, useChannels } from "./parts/channels.js";
import { Trouble } from "./parts/trouble.js";
import { Feed } from "./recordings/feed.js";
import { RecordingCard } from "./recordings/card.js";
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

/** @param {string} channel @param {string} tab */
const address = (channel, tab) => {
  const query = new URLSearchParams();
  if (channel) query.set("channel", channel);
  if (tab !== "all") query.set("kind", tab);
  return `/recordings${query.size ? `?${query}` : ""}`;
};

export default function Recordings() {
  const polled = useChannels();
  /** @type {import("../poll.js").PolledSignal<import("./live/model.js").Session[]>} */
  const online = usePoll("/videostreams/online", EVERY);
  const channel = route.value.query.get("channel") ?? "";
  const asked = route.value.query.get("kind") ?? "all";
  const tab = asked in TABS ? asked : "all";
  /** Deleted channels whose media are kept. @type {import("../poll.js").PolledSignal<{id: string, videoname: string}[]>} */
  const deleted = usePoll(administers.value ? KEPT : null, EVERY);
  const { data: channels, error } = polled.value;
  const kept = administers.value ? deleted.value.data : NOTHING;
  // The ids are compared as text, so that a poll without changes reloads nothing.
  const ids = channels && kept ? [...channels, ...kept].map((one) => one.id).sort().join(" ") : null;
  const keptIds = kept?.map((one) => one.id).sort().join(" ") ?? "";
  const names = useMemo(() => new Map([
    ...(kept ?? []).map((one) => /** @type {[string, string]} */ ([one.id, t("recordings.deletedChannel", { name: nameOf(one) })])),
    ...(channels ?? []).map((one) => /** @type {[string, string]} */ ([one.id, nameOf(one)])),
  ]), [channels, kept]);
  const growing = new Set((online.value.data ?? []).flatMap((one) => one.outputs.map((output) => output.playlist ?? "")));

  const list = useList(ids, keptIds, channel, TABS[tab] ?? []);
  const opened = useSignal(/** @type {Recording | null} */ (null));
  useEffect(() => { opened.value = null; }, [channel, tab]);

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
  return html`
    <${PageHead} title=${t("recordings.title")} text=${t("recordings.text")}>
      <${Button} icon="refresh" busy=${loading && items.length > 0} onClick=${list.reload}>${t("recordings.refresh")}<//>
    <//>
    <${Trouble} error=${error ?? deleted.value.error} />
    ${chosen && html`<div class="bar"><${Notice} kind="warn" title=${t("recordings.keptTitle")}
      actions=${html`<${Button} small class="warns" icon="delete"
        onClick=${removeAll}>${t("recordings.deleteAll")}<//>`}>${t("recordings.keptText")}<//></div>`}
    <div class="bar">
      <${Tabs} label=${t("recordings.kinds")} value=${tab} panel="recordings"
        onChange=${(/** @type {string} */ to) => go(address(channel, to))}
        tabs=${Object.keys(TABS).map((value) => ({ value, label: t(`recordings.tab.${value}`) }))} />
      <${Select} label=${t("recordings.channel")} class="inline push" value=${channel} options=${options}
        onChange=${(/** @type {string} */ to) => go(address(to, tab))} />
    </div>
    <div id="recordings" role="tabpanel" aria-label=${t(`recordings.tab.${tab}`)} aria-busy=${loading ? "true" : "false"}>
      <${Trouble} error=${failure} />
      ${items.length > 0 && html`<ul class="shelf">${items.map((item) => html`<li key=${item.key}>
        <${RecordingCard} item=${item} name=${names.get(item.channel) ?? item.channel} growing=${growing.has(item.key)}
          onOpen=${() => { opened.value = item; }} />
      </li>`)}</ul>`}
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
      onDeleted=${(/** @type {Recording} */ gone) => { opened.value = null; list.drop(gone); }} />`}`;
}

/**
 * The loaded pages of recordings for the current choice.
 * @param {string | null} ids  of all channels, separated by spaces; null while they are unknown
 * @param {string} deleted     those of them that were deleted
 * @param {string} channel     "": all
 * @param {readonly Kind[]} kinds
 */
function useList(ids, deleted, channel, kinds) {
  const items = useSignal(/** @type {Recording[]} */ ([]));
  const state = useSignal(/** @type {{loading: boolean, failure: unknown, more: boolean}} */ ({ loading: true, failure: null,
    more: false }));
  const again = useSignal(0);
  const feed = useMemo(() => {
    if (ids === null) return null;
    const known = ids.split(" ").filter(Boolean);
    return new Feed(channel ? known.filter((id) => id === channel) : known, kinds, PAGE, new Set(deleted.split(" ")));
  }, [ids, deleted, channel, kinds, again.value]);

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
    drop: (/** @type {Recording} */ gone) => { items.value = items.peek().filter((one) => one.key !== gone.key); },
  };
}
