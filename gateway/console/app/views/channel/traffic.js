/** The bytes of a channel on the last days, and their sum. Days are those of UTC. */

import { bytes, dayName } from "../../format.js";
import { t } from "../../i18n.js";
import { usePoll } from "../../poll.js";
import { Card, html, Table } from "../../ui.js";

/** @typedef {{day: string, in: number, out: number}} Day */

const EVERY = 30_000; // ms
const SHOWN = 7; // days

/** @param {{id: string}} props */
export function Traffic({ id }) {
  /** @type {import("../../poll.js").PolledSignal<{days: Day[]}>} */
  const polled = usePoll(`/videostream/${encodeURIComponent(id)}/traffic`, EVERY);
  const days = polled.value.data?.days ?? [];
  if (!days.some((day) => day.in || day.out)) return null;
  const most = Math.max(1, ...days.map((day) => day.out));
  const sum = (/** @type {"in" | "out"} */ way) => days.reduce((total, day) => total + day[way], 0);
  const rows = [...days.slice(0, SHOWN), { day: "", in: sum("in"), out: sum("out") }];
  return html`<${Card} title=${t("traffic.title")} class="is-traffic">
    <p class="soft">${t("traffic.text")}</p>
    <${Table} label=${t("traffic.title")} rows=${rows} paged=${false} keyOf=${(/** @type {Day} */ row) => row.day} columns=${[
      { key: "day", label: t("traffic.day"), cell: (/** @type {Day} */ row) => html`<b>${row.day ? dayName(row.day) : t("traffic.sum")}</b>` },
      { key: "in", label: t("traffic.in"), number: true, cell: (/** @type {Day} */ row) => bytes(row.in) },
      { key: "out", label: t("traffic.out"), number: true, cell: (/** @type {Day} */ row) => html`${bytes(row.out)}
        ${row.day && html`<div class="meter-bar" aria-hidden="true"><i style=${{ width: `${100 * row.out / most}%` }}></i></div>`}` },
    ]} />
  <//>`;
}
