/** What happened: pushes, refusals, outputs, recordings, jobs, changes. Newest first, by channel and kind. */

import { useEffect } from "preact/hooks";

import { moment } from "../format.js";
import { t } from "../i18n.js";
import { usePoll } from "../poll.js";
import { channelHref, go, route } from "../router.js";
import { Badge, Button, Card, Empty, html, PageHead, Select, Skeleton } from "../ui.js";
import { byShow, MOST as MOST_SHOWS } from "./parts/broadcasts.js";
import { choices, nameOf, useChannels } from "./parts/channels.js";
import { EventList, rowsOf, typeName, TYPES } from "./parts/events.js";
import { usePages } from "./parts/pages.js";
import { Trouble } from "./parts/trouble.js";

export { default as words } from "../words/events.js";

/** @typedef {import("./parts/events.js").LoggedEvent} LoggedEvent */

const PAGE = 50;
const EVERY = 5000; // ms
const SHOWS_EVERY = 15_000; // ms
const MOST = 2000; // events in the page
const [ROWS, LOADED] = [20, 500]; // older events are loaded by themselves until there are so many rows, or events

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
  const list = usePages(`/events${query({ channel, type, limit: String(PAGE) })}`,
    { size: PAGE, every: EVERY, most: MOST, keyOf: (/** @type {LoggedEvent} */ event) => event.id });
  const rows = rowsOf(list.rows ?? []);
  useEffect(() => {
    if (list.rows && list.more && rows.length < ROWS && list.rows.length < LOADED) void list.load();
  }, [list.rows?.length]);
  const channels = polled.value.data ?? [];
  const names = new Map(channels.map((one) => [one.id, nameOf(one)]));
  /** @type {import("./parts/broadcasts.js").Show[]} */
  const shows = usePoll(names.has(channel) ? `/videostream/${encodeURIComponent(channel)}/shows?limit=${MOST_SHOWS}` : null,
    SHOWS_EVERY).value.data ?? [];
  const groups = byShow(rows, shows);
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
    ${list.rows === null ? !list.error && html`<${Skeleton} lines=${8} />`
      : list.rows.length === 0 ? html`<${Empty} icon="events" title=${t("events.none")} text=${t("events.noneText")} />`
        : html`<div class="stack">${groups.map((group) => html`<${Card} key=${group.key}
            title=${group.show ? html`<${ShowTitle} channel=${channel} show=${group.show} />` : groups.length > 1 && t("events.other")}>
            <${EventList} label=${group.show?.title || t("nav.events")} events=${group.rows}
              nameOf=${(/** @type {string} */ id) => names.get(id) ?? null} /><//>`)}</div>`}
    ${list.more && html`<div class="bar"><${Button} busy=${list.busy} onClick=${list.load}>${t("events.more")}<//></div>`}`;
}

/** @param {{channel: string, show: import("./parts/broadcasts.js").Show}} props */
const ShowTitle = ({ channel, show }) => html`<a href=${channelHref(channel, `/shows/${show.id}`)}>${show.title || t("events.show")}</a>${" "}<span
  class="sub inline">${moment(show.start)}${show.end === null ? html` <${Badge} kind="live" dot>${t("state.live")}<//>` : ` – ${moment(show.end)}`}</span>`;
