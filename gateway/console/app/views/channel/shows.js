/** The shows of a channel with links to their reports, newest first. */

import { duration, instant, moment, number } from "../../format.js";
import { t } from "../../i18n.js";
import { channelHref } from "../../router.js";
import { unreachable } from "../../session.js";
import { Badge, Button, Card, html, Table } from "../../ui.js";
import { usePages } from "../parts/pages.js";

/** @typedef {{id: string, start: string, end: string | null, title: string, peak: number, mean: number, watched: number}} Show */

const [PAGE, EVERY] = [5, 15_000]; // rows, ms

/** @param {{id: string}} props */
export function Shows({ id }) {
  const list = usePages(`/videostream/${encodeURIComponent(id)}/shows?limit=${PAGE}`,
    { size: PAGE, every: EVERY, keyOf: (/** @type {Show} */ show) => show.id });
  if (!list.rows?.length) return null;
  const seconds = (/** @type {Show} */ { start, end }) => (Number(instant(end) ?? Date.now()) - Number(instant(start))) / 1000;
  return html`<${Card} title=${t("shows.title")} class="is-shows">
    <${Table} label=${t("shows.title")} rows=${list.rows} paged=${false} keyOf=${(/** @type {Show} */ show) => show.id} columns=${[
      { key: "start", label: t("shows.start"), cell: (/** @type {Show} */ show) => html`<a class="title"
          href=${channelHref(id, `/shows/${show.id}`)}>${moment(show.start)}</a>
        <span class="sub">${show.title}</span>` },
      { key: "duration", label: t("shows.duration"), number: true, cell: (/** @type {Show} */ show) => (show.end === null
        ? !unreachable.value && html`<${Badge} kind="live" dot>${t("state.live")}<//>` : duration(seconds(show))) },
      { key: "peak", label: t("shows.peak"), number: true, cell: (/** @type {Show} */ show) => number(show.peak) },
      { key: "mean", label: t("shows.mean"), number: true, cell: (/** @type {Show} */ show) => number(show.mean, 1) },
      { key: "watched", label: t("shows.watched"), number: true, cell: (/** @type {Show} */ show) => duration(show.watched) },
    ]} />
    ${list.more && html`<${Button} small busy=${list.busy} onClick=${list.load}>${t("shows.more")}<//>`}
  <//>`;
}
