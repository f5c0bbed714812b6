/** The nodes of the cluster, with the load of each. */

import { NOTHING, number, percent, span } from "../../format.js";
import { t } from "../../i18n.js";
import { usePoll } from "../../poll.js";
import { Badge, Card, html, Table } from "../../ui.js";
import { sum } from "../live/model.js";
import { Trouble } from "../parts/trouble.js";

/**
 * An entry of `GET /nodes`. null: unknown, because the node does not answer.
 * @typedef {object} ClusterNode
 * @property {string} node      its id; "" if there is only this node
 * @property {"gateway" | "edge" | "worker"} role
 * @property {string} address
 * @property {string} site     the name of its place; "" if it has none
 * @property {boolean} here     the node that this page is connected to
 * @property {boolean} answers
 * @property {{cpuPercent: number, mbps: number | null, percent: number} | null} free
 * @property {string | null} version
 * @property {number | null} uptime  seconds
 * @property {{cores: number, percent: number, load: number} | null} cpu
 * @property {number | null} streams
 * @property {number | null} publishers
 * @property {Record<string, number> | null} viewers
 */

const EVERY = 5000; // ms

/** @type {Readonly<Record<ClusterNode["role"], import("../../kit/status.js").Tone>>} */
const TONES = { gateway: "ok", edge: "info", worker: "idle" };

/** @returns {import("../../poll.js").PolledSignal<ClusterNode[]>}  one node without a name if there is only this node */
export const useNodes = () => usePoll("/nodes", EVERY);

/** The list of nodes; empty for a single node. */
export function Nodes() {
  const { data, error } = useNodes().value;
  if (!data?.some((one) => one.node)) return null;
  return html`<${Card} title=${t("system.nodes")}>
    <p class="soft card-text">${t("system.nodesText")}</p>
    <${Trouble} error=${error} />
    <${Table} label=${t("system.nodes")} columns=${columns()} rows=${data} keyOf=${(/** @type {ClusterNode} */ one) => one.node} />
  <//>`;
}

/** @returns {import("../../kit/table.js").Column<ClusterNode>[]} */
function columns() {
  return [
    {
      key: "node", label: t("system.node"), class: "main", sort: (one) => one.node,
      cell: (one) => html`<span class="node-name">
        <code>${one.node}</code>${one.here && html` <${Badge} kind="info">${t("system.here")}<//>`}
        ${!one.answers && html` <${Badge} kind="warn">${t("system.silent")}<//>`}</span>`,
    },
    { key: "role", label: t("system.role"), sort: (one) => one.role,
      cell: (one) => html`<${Badge} kind=${TONES[one.role]}>${t(`system.nodeRole.${one.role}`)}<//>` },
    { key: "address", label: t("system.address"), sort: (one) => one.address, cell: (one) => html`<code>${one.address || NOTHING}</code>` },
    { key: "site", label: t("system.site"), sort: (one) => one.site, cell: (one) => one.site || NOTHING },
    { key: "free", label: t("system.free"), number: true, sort: (one) => one.free?.percent,
      cell: (one) => (one.free ? percent(one.free.percent / 100) : NOTHING) },
    { key: "streams", label: t("system.streams"), number: true, sort: (one) => one.streams, cell: (one) => number(one.streams) },
    { key: "publishers", label: t("system.publishers"), number: true, sort: (one) => one.publishers,
      cell: (one) => number(one.publishers) },
    { key: "viewers", label: t("system.viewers"), number: true, sort: watching, cell: (one) => number(watching(one)) },
    {
      key: "load", label: t("system.load"), number: true, sort: (one) => one.cpu?.load,
      cell: (one) => (one.cpu ? t("system.loadWords", { load: number(one.cpu.load, 2), cores: number(one.cpu.cores) }) : NOTHING),
    },
    { key: "uptime", label: t("system.uptime"), number: true, sort: (one) => one.uptime,
      cell: (one) => html`<span class="nowrap">${span(one.uptime)}</span>` },
  ];
}

/** @param {ClusterNode} one @returns {number | null} */
function watching({ viewers }) { return viewers && sum(viewers); }
