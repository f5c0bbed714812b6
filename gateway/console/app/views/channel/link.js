/** The connection of a push over SRT: its figures, and the links that carry it, with their bit rates of the last minutes. */

import { useEffect, useRef, useState } from "preact/hooks";

import { bitrate, number, NOTHING } from "../../format.js";
import { t } from "../../i18n.js";
import { Badge, Card, Facts, html } from "../../ui.js";
import { History } from "../parts/history.js";

/** @typedef {import("../../channel.js").Session} Session */

const SECONDS = 300; // that the charts show
const SOURCES = ["slate", "playlist"]; // inputs that have no link
const GAP = 15;      // seconds without an answer that are shown as a gap

/** @param {number | null} ms @returns {string} */
const milliseconds = (ms) => ms === null ? NOTHING : `${number(ms)}\u00a0ms`;

/** @param {number} share  in percent @param {number} digits @returns {string} */
const percents = (share, digits) => `${number(share, digits)}\u00a0%`;

/** @param {{session: Session, at: number}} props  at: when the gateway sent the session, ms since 1970 */
export function Link({ session, at }) {
  const [chart, setChart] = useState(/** @type {typeof import("../../chart.js") | null} */ (null));
  const { current: history } = useRef(new History(SECONDS, GAP));
  const { link, bitrate: all } = session;
  useEffect(() => {
    let gone = false;
    if (link) import("../../chart.js").then((module) => { if (!gone) setChart(module); }, () => undefined); // the page works without
    return () => { gone = true; };
  }, [!link]);
  if (!link) return null;
  const isOnAir = !SOURCES.includes(session.inputKind ?? ""); // otherwise the bit rate is that of the slate
  history.add(at / 1000, Object.fromEntries(link.links.map((path, n) =>
    [name(path, n), isOnAir ? (all * path.sharePercent) / 100 : null])));
  return html`<${Card} title=${t("link.title")} class="is-link">
    <${Facts} facts=${[
      { label: t("link.rtt"), value: milliseconds(link.rttMs) },
      { label: t("link.loss"), value: percents(link.lossPercent, 1), title: t("link.loss.hint") },
      { label: t("link.buffer"), value: `${milliseconds(link.bufferMs)} / ${milliseconds(link.latencyMs)}`, title: t("link.buffer.hint") },
      { label: t("link.retransmitted"), value: number(link.retransmitted) },
      { label: t("link.dropped"), value: number(link.dropped), title: t("link.dropped.hint") },
    ]} />
    <ul class="links" aria-label=${t("link.links")}>${link.links.map((path, n) => html`<li key=${name(path, n)}>
      <span><code>${path.peer}</code> <${Badge} kind=${path.state === "up" ? "ok" : "bad"}>${t(`link.${path.state}`)}<//></span>
      <span class="sub">${percents(path.sharePercent, 0)}${path.rttMs !== null && ` · ${milliseconds(path.rttMs)}`}</span>
      ${chart && html`<${chart.Spark} label=${t("link.chart", { peer: path.peer })} times=${history.times} seconds=${SECONDS}
        format=${bitrate} lines=${[{ label: path.peer, values: history.values(name(path, n)), ink: (n % 6) + 1 }]} />`}
    </li>`)}</ul>
  <//>`;
}

/** The name of a link in the history. Several links may have one address. @param {{peer: string}} path @param {number} n */
const name = ({ peer }, n) => `${n} ${peer}`;
