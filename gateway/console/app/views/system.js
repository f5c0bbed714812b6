/** The state of the node: its health, its resources and its log level. */

import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";

import { api, isAbort } from "../../players/api.js";
import { Chart } from "../chart.js";
import { bitrate, brief, bytes, instant, moment, number, percent, span } from "../format.js";
import { t } from "../i18n.js";
import { usePoll } from "../poll.js";
import { administers } from "../session.js";
import { toast } from "../toast.js";
import { Badge, Card, classes, Facts, html, LinkButton, Notice, PageHead, Select, Skeleton } from "../ui.js";
import { protocolName } from "./parts/names.js";
import { SpanChoice, useHistory } from "./parts/server-history.js";
import { reason, Trouble } from "./parts/trouble.js";
import { Nodes, useNodes } from "./system/nodes.js";

export { default as words } from "../words/system.js";

/**
 * The answer of `GET /status`.
 * @typedef {object} Status
 * @property {string} version
 * @property {number} uptime   seconds
 * @property {{role: string, address: string}} node
 * @property {{cores: number, percent: number | null}} cpu
 * @property {{rss: number, total: number}} memory
 * @property {number} loopLag  seconds
 * @property {{path: string, free: number, total: number} | null} disk
 * @property {number} streams
 * @property {number} publishers
 * @property {Record<string, number>} viewers
 * @property {number} bytesIn
 * @property {number} bytesOut
 * @property {Record<string, number>} dropped
 * @property {{running: number, most: number | null}} workers
 * @property {boolean} ready
 * @property {string[]} missing
 * @property {{names: string[], expires: string | null, acme: boolean, error: string | null} | null} certificate
 * @property {Record<string, number | null>} ports
 * @property {string} logLevel
 * @property {Record<string, string>} stores
 * @property {{name: string | null, missing: string[]}} signIn  through a provider
 * @property {number} binHours
 */

const EVERY = 3000;   // ms
const LEVELS = ["debug", "info", "warning", "error"];

export default function System() {
  /** @type {import("../poll.js").PolledSignal<Status>} */
  const polled = usePoll("/status", EVERY);
  const { data, error } = polled.value;
  return html`
    <${PageHead} title=${t("system.title")} text=${t("system.text")}
      badge=${data && html`<${Badge} kind=${data.ready ? "ok" : "bad"} dot>${t(data.ready ? "system.ready" : "system.notReady")}<//>`}>
      <${LinkButton} icon="docs" href="/docs" external>${t("system.docs")}<//>
      <${LinkButton} icon="system" href="/metrics" external>${t("system.metrics")}<//>
    <//>
    <div class="stack">
      <${Trouble} error=${error} />
      ${data === null ? !error && html`<${Skeleton} lines=${8} />` : html`
        ${data.missing.length > 0 && html`<${Notice} kind=${data.ready ? "warn" : "bad"} role="alert"
            title=${t(data.ready ? "system.missingWhileReady" : "system.missing")}>
          <ul class="plain-list">${data.missing.map((one) => html`<li key=${one}>${one}</li>`)}</ul><//>`}
        ${data.certificate?.error && html`<${Notice} kind="bad" role="alert" title=${t("system.certificateFailed")}>
          <p>${data.certificate.error}</p><//>`}
        <${Charts} />
        <${Nodes} />
        <div class="columns">
          <${Node} status=${data} />
          <div class="stack"><${Room} status=${data} /><${Log} level=${data.logLevel} /></div>
          <div class="stack"><${Ports} ports=${data.ports} />
            ${data.certificate && html`<${Certificate} certificate=${data.certificate} />`}<${Drops} dropped=${data.dropped} /></div>
        </div>`}
    </div>`;
}

/** The values of this host over time. */
function Charts() {
  const past = useHistory({});
  const line = (/** @type {string} */ name, /** @type {number} */ ink) =>
    ({ label: t(`system.chart.${name}`), values: past?.values(name) ?? [], ink });
  const share = (/** @type {number} */ n) => percent(n / 100);
  const shared = { times: past?.times ?? [], seconds: past?.seconds };
  return html`<div class="bar"><${SpanChoice} /></div><div class="chart-grid">
    <${Chart} ...${shared} label=${t("system.chart.cpu")} lines=${[line("cpu", 1)]} format=${share} least=${100} />
    <${Chart} ...${shared} label=${t("system.chart.memory")} lines=${[line("memory", 3)]} format=${bytes} least=${1e8} />
    <${Chart} ...${shared} label=${t("system.chart.lag")} lines=${[line("lag", 6)]} format=${brief} least=${0.01} />
    <${Chart} ...${shared} label=${t("system.chart.traffic")} lines=${[line("in", 4), line("out", 5)]} format=${bitrate} least=${1e6} />
  </div>`;
}

/** @param {{status: Status}} props */
function Node({ status }) {
  const { node, workers, stores } = status;
  const alone = !useNodes().value.data?.some((one) => one.node);
  return html`<${Card} title=${t("system.node")}><${Facts} facts=${[
    { label: t("system.version"), value: status.version },
    { label: t("system.uptime"), value: span(status.uptime) },
    ...(alone ? [] : [{ label: t("system.role"), value: t(`role.${node.role}`) }]),
    { label: t("system.address"), value: node.address },
    { label: t("system.cores"), value: number(status.cpu.cores) },
    { label: t("system.workers"), value: workers.most ? `${number(workers.running)} / ${number(workers.most)}` : number(workers.running) },
    ...[...new Set(Object.values(stores))].map((kind) => ({ label: t("system.stores", { kind }),
      value: Object.keys(stores).filter((name) => stores[name] === kind).map((name) => t(`system.store.${name}`)).join(", ") })),
  ]} /><//>`;
}

/** @param {{status: Status}} props */
function Room({ status }) {
  const { memory, disk } = status;
  return html`<${Card} title=${t("system.room")}><div class="stack">
    <${Meter} label=${t("system.memory")} used=${memory.rss} total=${memory.total}
      words=${t("system.memoryWords", { used: bytes(memory.rss), total: bytes(memory.total) })} />
    ${disk && html`<${Meter} label=${t("system.disk")} used=${disk.total - disk.free} total=${disk.total}
      words=${t("system.diskWords", { free: bytes(disk.free), total: bytes(disk.total) })} note=${disk.path} />`}
  </div><//>`;
}

/**
 * A bar for the used share of a resource: a warning above 85 %, an error above 95 %.
 * @param {{label: string, used: number, total: number, words: string, note?: string}} props
 */
function Meter({ label, used, total, words, note }) {
  const share = total > 0 ? used / total : 0;
  return html`<div class="meter">
    <span class="meter-head"><b>${label}</b><span>${words}</span></span>
    <div class=${classes("meter-bar", share > 0.95 ? "full" : share > 0.85 && "scarce")} role="meter" aria-label=${label} aria-valuemin="0"
      aria-valuemax="100"
      aria-valuenow=${Math.round(share * 100)} aria-valuetext=${words}><i style=${{ width: `${share * 100}%` }}></i></div>
    ${note && html`<code class="soft">${note}</code>`}
  </div>`;
}

/** @param {{level: string}} props */
function Log({ level }) {
  const chosen = useSignal(/** @type {string | null} */ (null));
  useEffect(() => { chosen.value = null; }, [level]);
  const change = async (/** @type {string} */ to) => {
    chosen.value = to;
    try {
      const { level: now } = await api.put("/log", { level: to });
      chosen.value = now;
      toast(t("system.logChanged", { level: t(`system.log.${now}`) }), "ok");
    } catch (error) {
      chosen.value = null;
      if (!isAbort(error)) toast(reason(error), "bad");
    }
  };
  const now = (chosen.value ?? level).toLowerCase();
  return html`<${Card} title=${t("system.log")}>
    <${Select} label=${t("system.logLevel")} value=${now} hint=${t(administers.value ? "system.logHint" : "observer.only")} onChange=${change} disabled=${!administers.value}
      options=${LEVELS.map((value) => ({ value, label: t(`system.log.${value}`) }))} />
  <//>`;
}

/** @param {{ports: Status["ports"]}} props */
function Ports({ ports }) {
  return html`<${Card} title=${t("system.ports")}><${Facts} facts=${Object.entries(ports).map(([name, port]) => ({
    label: protocolName(name), value: port === null ? html`<span class="soft">${t("system.closed")}</span>` : String(port),
  }))} /><//>`;
}

/** @param {{certificate: NonNullable<Status["certificate"]>}} props */
function Certificate({ certificate }) {
  const { names, expires, acme } = certificate;
  return html`<${Card} title=${t("system.certificate")}><${Facts} facts=${[
    { label: t("system.certificateNames"), value: names.join(", ") },
    { label: t("system.certificateExpires"), value: expires === null ? t("system.certificateNone") : moment(instant(expires)) },
    { label: t("system.certificateRenewal"), value: t(acme ? "system.certificateAcme" : "system.certificateFiles") },
  ]} /><//>`;
}

/** @param {{dropped: Status["dropped"]}} props */
function Drops({ dropped }) {
  const found = Object.entries(dropped).filter(([, n]) => n > 0).sort(([, a], [, b]) => b - a);
  return html`<${Card} title=${t("system.drops")}>${found.length
    ? html`<dl class="counts">${found.map(([why, n]) => html`<div key=${why}><dt>${t(`system.dropped.${why}`)}</dt>
      <dd>${number(n)}</dd></div>`)}</dl>`
    : html`<p class="soft">${t("system.noDrops")}</p>`}<//>`;
}
