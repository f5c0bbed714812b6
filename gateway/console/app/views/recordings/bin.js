/** The bin: deleted channels, recordings and videos, which can be restored. */

import { api } from "../../../players/api.js";
import { ask } from "../../dialog.js";
import { bytes, moment, NOTHING, relative } from "../../format.js";
import { t } from "../../i18n.js";
import { refresh, usePoll } from "../../poll.js";
import { administers } from "../../session.js";
import { Button, Empty, html, PageHead, Table } from "../../ui.js";
import { refreshChannels } from "../parts/channels.js";
import { attempt, Trouble } from "../parts/trouble.js";
import { BIN, restore } from "../parts/undo.js";

/** @typedef {import("../parts/undo.js").BinItem} BinItem */

const EVERY = 5000; // ms

/** @param {{names: ReadonlyMap<string, string>}} props  names: of channels, by id */
export function Bin({ names }) {
  /** @type {import("../../poll.js").PolledSignal<BinItem[]>} */
  const polled = usePoll(BIN, EVERY);
  const { data: items, error } = polled.value;
  const nameOf = (/** @type {BinItem} */ item) => item.title ?? names.get(item.channel ?? "") ?? item.key;
  const empty = async () => {
    const done = await ask({
      title: t("bin.emptyTitle"), text: t("bin.emptyText"), confirm: t("bin.empty"), danger: true, run: () => api.delete(BIN),
    });
    if (done) refresh(BIN);
  };
  const act = async (/** @type {() => Promise<unknown>} */ run, /** @type {string} */ text) => {
    if (!await attempt(run, text)) return;
    refresh(BIN);
    refreshChannels();
  };
  /** @type {import("../../kit/table.js").Column<BinItem>[]} */
  const columns = [
    {
      key: "name", label: t("recordings.what"), sort: nameOf,
      cell: (item) => html`<span class="job-source"><b dir="auto">${nameOf(item)}</b>
        <span class="soft">${t(`recordings.kind.${item.kind}`)}${item.start ? ` · ${moment(item.start, { seconds: true })}` : ""}</span></span>`,
    },
    { key: "size", label: t("recordings.size"), number: true, sort: (item) => item.size,
      cell: (item) => (item.kind === "channel" ? NOTHING : bytes(item.size)) },
    { key: "deleted", label: t("bin.deleted"), sort: (item) => item.deleted, cell: (item) => moment(item.deleted) },
    { key: "until", label: t("bin.until"), sort: (item) => item.until, cell: (item) => relative(item.until) },
    ...(!administers.value ? [] : [{
      key: "acts", label: t("views.actions"), actions: true,
      cell: (/** @type {BinItem} */ item) => html`
        <${Button} small icon="refresh" aria-label=${t("bin.restoreOf", { name: nameOf(item) })}
          onClick=${() => act(() => restore(item), t("bin.restored"))}>${t("bin.restore")}<//>
        <${Button} small kind="quiet" class="warns" icon="delete" aria-label=${t("bin.deleteOf", { name: nameOf(item) })}
          onClick=${() => act(() => api.delete(`${BIN}/${encodeURIComponent(item.id)}`), t("bin.gone"))}>${t("bin.delete")}<//>`,
    }]),
  ];
  return html`
    <${PageHead} title=${t("bin.title")} text=${t("bin.text")} back=${{ href: "#/recordings", label: t("recordings.title") }}>
      ${administers.value && html`<${Button} class="warns" icon="delete" disabled=${!items?.length} onClick=${empty}>${t("bin.empty")}<//>`}
    <//>
    <${Trouble} error=${error} />
    <${Table} label=${t("bin.title")} name="bin" sort="-deleted" rows=${items ?? (error ? [] : null)}
      keyOf=${(/** @type {BinItem} */ item) => item.id} columns=${columns}
      empty=${html`<${Empty} icon="delete" title=${t("bin.nothing")} text=${t("bin.text")} />`} />`;
}
