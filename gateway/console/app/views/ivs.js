/** Amazon IVS: its channels, relays to them, and a player. */

import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";

import { api, isAbort } from "../../players/api.js";
import { ask } from "../dialog.js";
import { t } from "../i18n.js";
import { go, route } from "../router.js";
import { toast } from "../toast.js";
import { Badge, Button, Card, CopyButton, Empty, Field, html, IconButton, IconLink, PageHead, Skeleton, Table } from "../ui.js";
import { Create, Relay } from "./ivs/dialogs.js";
import { available, playAddress, playProblem } from "./ivs/model.js";
import { Player } from "./parts/player.js";
import { Trouble } from "./parts/trouble.js";

export { default as words } from "../words/ivs.js";

/** @typedef {import("./ivs/model.js").IvsChannel} IvsChannel */

const PATH = "/ivs/channels";

export default function Ivs() {
  const channels = useSignal(/** @type {IvsChannel[] | null} */ (null));
  const failure = useSignal(/** @type {unknown} */ (null));
  const away = useSignal(""); // reason why IVS is not available
  const again = useSignal(0);
  const creating = useSignal(false);
  const relaying = useSignal(/** @type {IvsChannel | null} */ (null));

  useEffect(() => {
    const gone = new AbortController();
    const load = async () => {
      const why = await available(gone.signal);
      away.value = why;
      channels.value = why ? [] : await api.get(PATH, { signal: gone.signal });
      failure.value = null;
    };
    load().catch((error) => { if (!isAbort(error)) failure.value = error; });
    return () => gone.abort();
  }, [again.value]);

  const reload = () => { again.value += 1; };
  const remove = async (/** @type {IvsChannel} */ one) => {
    const done = await ask({
      title: t("ivs.deleteTitle", { name: one.name || one.arn }), text: t("ivs.deleteText"), confirm: t("views.delete"), danger: true,
      run: () => api.delete(`${PATH}/${encodeURIComponent(one.arn)}`),
    });
    if (done) toast(t("ivs.deleted"), "ok");
    reload();
  };
  /** @type {import("../kit/table.js").Column<IvsChannel>[]} */
  const columns = [
    {
      key: "name", label: t("ivs.name"), sort: (one) => one.name,
      cell: (one) => html`<span class="job-source"><b>${one.name || t("ivs.unnamed")}</b><span class="soft arn">${one.arn}</span></span>`,
    },
    { key: "type", label: t("ivs.type"), sort: (one) => one.type, cell: (one) => html`<${Badge}>${one.type}<//>` },
    { key: "latency", label: t("ivs.latency"), sort: (one) => one.latencyMode, cell: (one) => t(`ivs.latency.${one.latencyMode}`) },
    {
      key: "acts", label: t("views.actions"), actions: true,
      cell: (one) => html`
        <${IconButton} icon="play" label=${t("ivs.playOf", { name: one.name })} onClick=${() => go(playAddress(one.playbackUrl))} />
        <${IconLink} icon="external" label=${t("ivs.pageOf", { name: one.name })} href=${one.playerUrl} />
        <${CopyButton} label=${t("ivs.arn")} name=${t("ivs.arnOf", { name: one.name })} value=${one.arn} />
        <${IconButton} icon="relay" label=${t("ivs.relayOf", { name: one.name })} onClick=${() => { relaying.value = one; }} />
        <${IconButton} icon="delete" label=${t("ivs.deleteOf", { name: one.name })} onClick=${() => remove(one)} />`,
    },
  ];
  const { value } = channels;
  return html`
    <${PageHead} title=${t("ivs.title")} text=${t("ivs.text")}>
      <${Button} icon="refresh" onClick=${reload}>${t("ivs.refresh")}<//>
      <${Button} kind="primary" icon="plus" disabled=${value === null || away.value !== ""}
        onClick=${() => { creating.value = true; }}>${t("ivs.create")}<//>
    <//>
    <div class="stack">
      <${Trouble} error=${failure.value} />
      ${away.value ? html`<${Card}><${Empty} icon="ivs" title=${t("ivs.away")} text=${away.value} /><//>`
        : value === null ? !failure.value && html`<${Skeleton} lines=${5} />`
        : html`<${Table} label=${t("ivs.channels")} name="ivs" sort="name" columns=${columns} rows=${value}
          keyOf=${(/** @type {IvsChannel} */ one) => one.arn}
            empty=${html`<${Card}><${Empty} icon="ivs" title=${t("ivs.empty")} text=${t("ivs.emptyText")} /><//>`} />`}
      <${Play} />
    </div>
    ${creating.value && html`<${Create} onClose=${() => { creating.value = false; }} onCreated=${reload} />`}
    ${relaying.value && html`<${Relay} target=${relaying.value} onClose=${() => { relaying.value = null; }} />`}`;
}

/** The player, for a channel of the list or for any playback URL of IVS. */
function Play() {
  const asked = route.value.query.get("play") ?? "";
  const typed = useSignal(asked);
  const wrong = useSignal("");
  useEffect(() => { typed.value = asked; wrong.value = asked ? playProblem(asked) : ""; }, [asked]);
  const start = () => {
    const url = typed.value.trim();
    wrong.value = playProblem(url);
    if (!wrong.value) go(playAddress(url));
  };
  const playing = asked !== "" && !playProblem(asked);
  return html`<${Card} title=${t("ivs.player")}
    actions=${playing && html`<${Button} small icon="close" onClick=${() => go("/ivs")}>${t("ivs.stop")}<//>`}>
    <form class="row play-form" novalidate onSubmit=${(/** @type {Event} */ event) => { event.preventDefault(); start(); }}>
      <${Field} class="grow" label=${t("ivs.url")} type="url" value=${typed.value} error=${wrong.value}
        placeholder="https://….live-video.net/….m3u8" autocomplete="off" spellcheck=${false}
        onInput=${(/** @type {string} */ v) => { typed.value = v; wrong.value = ""; }} />
      <${Button} type="submit" icon="play">${t("ivs.play")}<//>
    </form>
    ${playing && html`<${Player} key=${asked} src=${asked} hls label=${t("ivs.player")} autoplay />`}
  <//>`;
}
