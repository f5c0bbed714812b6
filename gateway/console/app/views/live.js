/** All live channels: totals as charts, and a card for each channel. */

import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";

import { api } from "../../players/api.js";
import { Chart } from "../chart.js";
import { csv, save } from "../csv.js";
import { ask } from "../dialog.js";
import { bitrate, number } from "../format.js";
import { t } from "../i18n.js";
import { refresh, usePoll } from "../poll.js";
import { unreachable } from "../session.js";
import { toast } from "../toast.js";
import { Badge, Button, Empty, html, Icon, LinkButton, PageHead, Select, Skeleton } from "../ui.js";
import { LiveCard } from "./live/card.js";
import { EVERY, keepBitrates, lost, ONLINE, sum } from "./live/model.js";
import { nameOf } from "./parts/channels.js";
import { protocolName } from "./parts/names.js";
import { SpanChoice, useHistory } from "./parts/server-history.js";
import { Trouble } from "./parts/trouble.js";

export { default as words } from "../words/live.js";

/** @typedef {import("./live/model.js").Session} Session */

/** @type {Readonly<Record<string, (a: Session, b: Session) => number>>} */
const ORDERS = {
  since: (a, b) => (b.since ?? "").localeCompare(a.since ?? ""),
  name: (a, b) => nameOf(a).localeCompare(nameOf(b)),
  bitrate: (a, b) => b.bitrate - a.bitrate,
  viewers: (a, b) => sum(b.viewers) - sum(a.viewers),
};

export default function Live() {
  /** @type {import("../poll.js").PolledSignal<Session[]>} */
  const online = usePoll(ONLINE, EVERY);
  const now = useNow();
  const search = useSignal("");
  const order = useSignal("since");

  const { data, error, at } = online.value;
  if (data !== null) keepBitrates(data, at);
  const wanted = search.value.trim().toLowerCase();
  const shown = (data ?? []).filter((one) => `${nameOf(one)} ${one.id}`.toLowerCase().includes(wanted)).sort(ORDERS[order.value]);

  return html`
    <${PageHead} title=${t("live.title")} text=${t("live.text")}
      badge=${data !== null && data.length > 0 && !unreachable.value && html`<${Badge} kind="live" dot>${t("live.count", { n: data.length })}<//>`}>
      <${LinkButton} icon="channels" href="#/wall">${t("wall.title")}<//>
      <${Button} icon="download" disabled=${!shown.length} onClick=${() => exportCsv(shown)}>${t("live.export")}<//>
    <//>
    <${Trouble} error=${error} />
    <${Totals} />
    ${data === null ? !error && html`<${Skeleton} lines=${5} />` : data.length === 0
      ? html`<${Empty} icon="live" title=${t("live.empty")} text=${t("live.emptyText")}>
          <${LinkButton} kind="primary" href="#/channels">${t("live.toChannels")}<//>
        <//>`
      : html`
        ${data.length > 1 && html`<div class="bar">
          <div class="field search grow">
            <label class="visually-hidden" for="live-search">${t("live.search")}</label>
            <div class="box"><${Icon} name="search" />
              <input id="live-search" type="search" value=${search.value} placeholder=${t("live.search")} spellcheck=${false}
              onInput=${(/** @type {Event} */ event) => { search.value = /** @type {HTMLInputElement} */ (event.target).value; }} /></div>
          </div>
          <${Select} class="inline push" label=${t("live.order")} value=${order.value}
            onChange=${(/** @type {string} */ v) => { order.value = v; }}
            options=${Object.keys(ORDERS).map((name) => ({ value: name, label: t(`live.order.${name}`) }))} />
        </div>`}
        ${shown.length === 0 && html`<p class="view-note">${t("live.noMatch")}</p>`}
        <div class="live-grid">${shown.map((session) => html`<${LiveCard} key=${session.id} session=${session} now=${unreachable.value ? at : now}
          onKick=${kick} />`)}</div>`}`;
}

/** The totals of all gateways over time. */
function Totals() {
  const past = useHistory({ all: true });
  const values = (/** @type {string} */ name) => past?.values(name) ?? [];
  const line = (/** @type {string} */ name, /** @type {number} */ ink) =>
    ({ label: t(`live.total.${name}`), values: values(name), ink });
  const watched = (past?.names ?? []).filter((name) => name.startsWith("viewers.") && values(name).some((n) => n));
  const viewers = watched.length
    ? watched.map((name, i) => ({ label: protocolName(name.slice("viewers.".length)), values: values(name), ink: i % 6 + 1 }))
    : [line("viewers", 3)];
  const count = (/** @type {number} */ n) => number(n, 1);
  const shared = { times: past?.times ?? [], seconds: past?.seconds };
  return html`<div class="bar"><${SpanChoice} /></div><div class="chart-grid">
    <${Chart} ...${shared} label=${t("live.total.now")} lines=${[line("streams", 1), line("publishers", 2)]} format=${count} whole
      least=${4} />
    <${Chart} ...${shared} label=${t("live.total.viewers")} lines=${viewers} format=${count} whole least=${4} />
    <${Chart} ...${shared} label=${t("live.total.in")} lines=${[line("in", 4)]} format=${bitrate} least=${1e6} />
    <${Chart} ...${shared} label=${t("live.total.out")} lines=${[line("out", 5)]} format=${bitrate} least=${1e6} />
  </div>`;
}

/** A clock for durations, which updates while it is shown. @returns {number} ms since 1970 */
function useNow() {
  const now = useSignal(Date.now());
  useEffect(() => {
    const timer = setInterval(() => { now.value = Date.now(); }, 1000);
    return () => clearInterval(timer);
  }, []);
  return now.value;
}

/** @param {Session} session */
async function kick(session) {
  const name = nameOf(session);
  const done = await ask({
    title: t("live.kickTitle", { name }), text: t("live.kickText"), confirm: t("live.kick"), danger: true,
    run: () => api.delete(`/videostream/${encodeURIComponent(session.id)}/session`),
  });
  if (done) toast(t("live.kicked", { name }), "ok");
  refresh(ONLINE);
}

/** @param {readonly Session[]} sessions */
function exportCsv(sessions) {
  /** @type {import("../csv.js").Column<Session>[]} */
  const columns = [
    { title: "id", value: (s) => s.id },
    { title: "name", value: (s) => s.videoname },
    { title: "state", value: (s) => s.state },
    { title: "since", value: (s) => s.since },
    { title: "bitrate", value: (s) => s.bitrate },
    { title: "protocol", value: (s) => s.publisher?.protocol },
    { title: "address", value: (s) => s.publisher?.address },
    { title: "viewers", value: (s) => sum(s.viewers) },
    { title: "dropped", value: lost },
    { title: "node", value: (s) => s.node },
  ];
  save("live.csv", csv(columns, sessions));
}
