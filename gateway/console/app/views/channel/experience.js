/** What the viewers of a channel experience: start-up time, delay, stalls and quality, by protocol. */

import { bitrate, brief, number, NOTHING, span } from "../../format.js";
import { t } from "../../i18n.js";
import { usePoll } from "../../poll.js";
import { Card, html, Table } from "../../ui.js";
import { protocolName } from "../parts/names.js";

/** @typedef {{p50: number | null, p95: number | null}} Quantiles */

/**
 * @typedef {object} Totals
 * @property {number} viewers
 * @property {number} stalls
 * @property {number} stallSeconds
 * @property {Quantiles} startup   seconds
 * @property {Quantiles} latency   seconds
 * @property {Quantiles} bitrate   bits per second
 * @property {Quantiles} height    pixels
 */

/** @typedef {{name: string, totals: Totals}} Row */

const EVERY = 10_000; // ms

/** @param {{id: string}} props */
export function Experience({ id }) {
  /** @type {import("../../poll.js").PolledSignal<{seconds: number, all: Totals, protocols: Record<string, Totals>}>} */
  const polled = usePoll(`/videostream/${encodeURIComponent(id)}/experience`, EVERY);
  const { data } = polled.value;
  if (!data) return null;
  const rows = Object.entries(data.protocols).map(([name, totals]) => ({ name: protocolName(name), totals }));
  if (!rows.length) return null;
  if (rows.length > 1) rows.push({ name: t("experience.all"), totals: data.all });
  return html`<${Card} title=${t("experience.title")} class="is-experience">
    <p class="soft">${t("experience.text", { span: span(data.seconds) })}</p>
    <${Table} label=${t("experience.title")} rows=${rows} paged=${false} keyOf=${(/** @type {Row} */ row) => row.name} columns=${[
      { key: "name", label: t("experience.protocol"), cell: (/** @type {Row} */ row) => html`<b>${row.name}</b>` },
      { key: "viewers", label: t("experience.viewers"), number: true, cell: (/** @type {Row} */ row) => number(row.totals.viewers) },
      { key: "startup", label: t("experience.startup"), number: true, cell: (/** @type {Row} */ row) => both(row.totals.startup, brief) },
      { key: "latency", label: t("experience.latency"), number: true, cell: (/** @type {Row} */ row) => both(row.totals.latency, brief) },
      { key: "stalls", label: t("experience.stalls"), number: true, cell: (/** @type {Row} */ { totals }) =>
        totals.stalls ? `${number(totals.stalls)} · ${brief(totals.stallSeconds)}` : number(0) },
      { key: "quality", label: t("experience.quality"), number: true, cell: (/** @type {Row} */ { totals }) => quality(totals) },
    ]} />
  <//>`;
}

/** @param {Quantiles} quantiles @param {(n: number) => string} format @returns {string}  p50 and p95 */
function both({ p50, p95 }, format) {
  return p50 === null || p95 === null ? NOTHING : `${format(p50)} · ${format(p95)}`;
}

/** @param {Totals} totals @returns {string}  of half of the viewers */
function quality({ height, bitrate: rate }) {
  return [height.p50 === null ? "" : `${height.p50}p`, rate.p50 === null ? "" : bitrate(rate.p50)].filter(Boolean).join(" · ")
    || NOTHING;
}
