/** The domain names for push and playback, and the list of nodes. */

import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";

import { api, ApiError, isAbort } from "../../players/api.js";
import { t } from "../i18n.js";
import { usePoll } from "../poll.js";
import { toast } from "../toast.js";
import { Badge, Button, Card, CopyField, Field, html, LinkButton, PageHead, Select, Skeleton, Table } from "../ui.js";
import { choices, refreshChannels, useChannels } from "./parts/channels.js";
import { protocolName } from "./parts/names.js";
import { reason, Trouble } from "./parts/trouble.js";

export { default as words } from "../words/domains.js";

/** @typedef {{pushDNS: string, pullDNS: string}} DomainNames */
/** @typedef {{role: string, address: string, ports: Record<string, number | null>}} Node */

const HOST = /^(?=.{1,260}$)(?:[A-Za-z0-9_][A-Za-z0-9_-]{0,62}(?:\.[A-Za-z0-9_-]{1,63})*\.?|\[[0-9A-Fa-f:.]{2,45}\])(?::(\d{1,5}))?$/;

/**
 * Checks a name in the form, so that the gateway need not refuse it.
 * @param {string} text
 * @param {readonly string[]} schemes
 * @returns {boolean}
 */
function valid(text, schemes) {
  const trimmed = text.trim().replace(/\/+$/, "");
  if (!trimmed) return true;
  const [scheme, rest] = trimmed.includes("://") ? trimmed.split("://", 2) : [schemes[0], trimmed];
  const found = HOST.exec(rest ?? "");
  const port = Number(found?.[1] ?? 1);
  return schemes.includes((scheme ?? "").toLowerCase()) && found !== null && port > 0 && port < 65536;
}

export default function Domains() {
  return html`<${PageHead} title=${t("domains.title")} text=${t("domains.text")} />
    <div class="columns">
      <div class="stack"><${Form} /><${Servers} /></div>
      <${Results} />
    </div>`;
}

function Form() {
  const stored = useSignal(/** @type {DomainNames | null} */ (null));
  const typed = useSignal(/** @type {DomainNames} */ ({ pushDNS: "", pullDNS: "" }));
  const wrong = useSignal(/** @type {Partial<DomainNames>} */ ({}));
  const failure = useSignal(/** @type {unknown} */ (null));
  const busy = useSignal(false);

  useEffect(() => {
    const gone = new AbortController();
    api.get("/domains", { signal: gone.signal }).then((found) => { stored.value = typed.value = found; },
      (error) => { if (!isAbort(error)) failure.value = error; });
    return () => gone.abort();
  }, []);

  const save = async () => {
    const sent = typed.value;
    const { pushDNS, pullDNS } = sent;
    wrong.value = {
      ...(!valid(pushDNS, ["rtmp", "rtmps"]) && { pushDNS: t("domains.wrongPush") }),
      ...(!valid(pullDNS, ["http", "https"]) && { pullDNS: t("domains.wrongPull") }),
    };
    if (Object.keys(wrong.value).length) return;
    busy.value = true;
    try {
      /** @type {DomainNames} */
      const now = await api.put("/domains", { pushDNS: pushDNS.trim(), pullDNS: pullDNS.trim() });
      stored.value = now;
      if (typed.value === sent) typed.value = now; // else the user has typed since
      toast(t("domains.saved"), "ok");
      refreshChannels();
    } catch (error) {
      if (error instanceof ApiError && error.field) wrong.value = { [error.field]: error.message };
      else toast(reason(error), "bad");
    } finally {
      busy.value = false;
    }
  };
  const set = (/** @type {keyof DomainNames} */ name) => (/** @type {string} */ value) => {
    typed.value = { ...typed.value, [name]: value };
    wrong.value = { ...wrong.value, [name]: undefined };
  };
  const { pushDNS, pullDNS } = typed.value;
  const changed = stored.value !== null && (stored.value.pushDNS !== pushDNS || stored.value.pullDNS !== pullDNS);
  return html`<${Card} title=${t("domains.set")}>
    <${Trouble} error=${failure.value} />
    ${stored.value === null ? !failure.value && html`<${Skeleton} lines=${4} />` : html`
      <form class="stack" novalidate onSubmit=${(/** @type {Event} */ event) => { event.preventDefault(); void save(); }}>
        <${Field} label=${t("domains.push")} value=${pushDNS} onInput=${set("pushDNS")} hint=${t("domains.pushHint")}
          error=${wrong.value.pushDNS}
          placeholder="push.example.com" autocomplete="off" autocapitalize="off" spellcheck=${false} />
        <${Field} label=${t("domains.pull")} value=${pullDNS} onInput=${set("pullDNS")} hint=${t("domains.pullHint")}
          error=${wrong.value.pullDNS}
          placeholder="https://live.example.com" autocomplete="off" autocapitalize="off" spellcheck=${false} />
        <div class="row">
          <${Button} type="submit" kind="primary" busy=${busy.value} disabled=${!changed}>${t("domains.save")}<//>
          ${changed && html`<${Button} kind="quiet"
            onClick=${() => { if (stored.value) typed.value = stored.value; wrong.value = {}; }}>${t("views.undo")}<//>`}
        </div>
      </form>`}
  <//>`;
}

/** The resulting addresses, for one channel as an example. */
function Results() {
  const polled = useChannels();
  const chosen = useSignal("");
  const channels = polled.value.data;
  const channel = channels?.find((one) => one.id === chosen.value) ?? channels?.[0];
  return html`<${Card} title=${t("domains.results")}>
    ${channels === null ? polled.value.error ? html`<${Trouble} error=${polled.value.error} />` : html`<${Skeleton} lines=${5} />`
      : !channel ? html`<div class="stack"><p class="soft">${t("domains.noChannels")}</p><div class="row">
        <${LinkButton} href="#/channels">${t("domains.toChannels")}<//></div></div>`
      : html`<div class="stack">
        <${Select} label=${t("domains.example")} value=${channel.id} options=${choices(channels)}
          onChange=${(/** @type {string} */ id) => { chosen.value = id; }} />
        <${CopyField} label=${t("domains.server")} value=${channel.obsServer} />
        ${Object.entries(channel.playUrls).map(([name, url]) => html`<${CopyField} key=${name} label=${protocolName(name)}
          value=${url} />`)}
      </div>`}
  <//>`;
}

function Servers() {
  /** @type {import("../poll.js").PolledSignal<Node[]>} */
  const polled = usePoll("/servers", 10_000);
  const { data, error } = polled.value;
  // A single server needs no address and no role to be told from others.
  /** @type {import("../kit/table.js").Column<Node>[]} */
  const several = [
    { key: "address", label: t("domains.address"), cell: (node) => html`<code>${node.address}</code>`, sort: (node) => node.address },
    { key: "role", label: t("domains.role"),
      cell: (node) => html`<${Badge} kind=${node.role === "primary" ? "ok" : "idle"}>${t(`role.${node.role}`)}<//>`,
      sort: (node) => node.role },
  ];
  /** @type {import("../kit/table.js").Column<Node>[]} */
  const columns = [
    ...(data?.length === 1 ? [] : several),
    {
      key: "ports", label: t("domains.ports"),
      cell: (node) => html`<span class="chips">${Object.entries(node.ports).filter(([, port]) => port !== null)
        .map(([name, port]) => html`<span class="chip" key=${name}>${protocolName(name)} ${String(port)}</span>`)}</span>`,
    },
  ];
  return html`<${Card} title=${t("domains.servers")}>
    <p class="soft card-text">${t("domains.serversText")}</p>
    <${Trouble} error=${error} />
    <${Table} label=${t("domains.servers")} paged=${false} columns=${columns} rows=${data ?? (error ? [] : null)}
      keyOf=${(/** @type {Node} */ node) => `${node.address} ${Object.values(node.ports).join()}`} />
  <//>`;
}
