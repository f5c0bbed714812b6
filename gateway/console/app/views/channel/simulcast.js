/** The relay's targets: presets for services, and each target with its state and a switch of its own. */

import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";

import { api, ApiError } from "../../../players/api.js";
import { isOn } from "../../channel.js";
import { ask, Dialog } from "../../dialog.js";
import { addTables, t } from "../../i18n.js";
import { observes } from "../../session.js";
import { Badge, Button, Card, Field, html, IconButton, Select, Switch } from "../../ui.js";
import words from "../../words/simulcast.js";
import { errorText } from "../parts/errors.js";
import { reason } from "../parts/trouble.js";

addTables(words);

/** @typedef {import("../../channel.js").Channel} Channel */
/** @typedef {import("../../channel.js").Session} Session */
/** @typedef {{url: string, state: string, error?: string | null, warnings?: string[]}} Target */

/**
 * The servers of services. Sources: obsproject/obs-studio, plugins/rtmp-services/data/services.json (YouTube, Facebook);
 * help.twitch.tv, "Twitch ingest recommendation"; for Kick, the address that its creator dashboard shows.
 * @type {Record<string, string>}
 */
const PRESETS = {
  youtube: "rtmps://a.rtmps.youtube.com/live2",
  twitch: "rtmps://ingest.global-contribute.live-video.net:443/app",
  facebook: "rtmps://live-api-s.facebook.com:443/rtmp",
  kick: "rtmps://fa723fc1b171.global-contribute.live-video.net/app",
  custom: "",
};
/** @type {Record<string, import("../../kit/status.js").Tone>} */
const TONES = { live: "ok", connecting: "info", retrying: "warn", failed: "bad" };

/** @param {string} url @returns {string} the name of its service, or its host */
function serviceOf(url) {
  const preset = Object.keys(PRESETS).find((name) => PRESETS[name] && url.startsWith(`${PRESETS[name]}/`));
  return preset ? t(`simulcast.${preset}`) : /^[a-z]+:\/\/(?:[^@/]*@)?([^/?#]+)/.exec(url)?.[1] ?? url;
}

/** @param {unknown} stored  `relayURL` @returns {string[]} */
const listed = (stored) => (Array.isArray(stored) ? stored : typeof stored === "string" ? stored.split(",") : [])
  .map((one) => String(one).trim()).filter(Boolean);

/** @param {Channel} channel */
const pathOf = ({ id }) => `/videostream/${encodeURIComponent(id)}/relay`;

/** @param {Channel} channel @returns {number[]} the numbers of the targets that are off */
const offOf = ({ relayOff }) => (Array.isArray(relayOff) ? relayOff : []);

/** @typedef {{channel: Channel, session: Session | null, onChanged: () => void}} Props  onChanged: the stored channel has changed */

/** @param {Props} props */
export const Simulcast = (props) => html`<${Card} title=${t("simulcast.title")} class="is-simulcast"><${Targets} ...${props} /><//>`;

/** @param {Props} props */
export function Targets({ channel, session, onChanged }) {
  const adding = useSignal(false);
  // What the user wants, until the stored channel says it.
  const wanted = useSignal(/** @type {Record<number, {to: boolean, busy: boolean}>} */ ({}));
  const latest = useRef(channel); // as the last change left it
  const changes = useRef({ last: Promise.resolve(), waiting: 0 }); // they run one after the other
  const failure = useSignal("");
  const urls = listed(channel["relayURL"]);
  const off = offOf(channel);
  const path = pathOf(channel);
  const on = isOn(channel["isRelay"]);
  useEffect(() => {
    if (changes.current.waiting) return;
    latest.current = channel;
    wanted.value = {};
  }, [channel]);
  const output = session && session.state !== "idle" ? session.outputs.find((one) => one.name === "relay") : undefined;
  // The session has the targets that are on, in the same order.
  const reports = /** @type {Target[]} */ (output?.enabled ? output["targets"] ?? [] : []);
  let next = 0;
  const rows = urls.map((url, n) => {
    const report = !off.includes(n) && reports[next]?.url === url ? reports[next] : undefined;
    if (report) next += 1;
    return { url, n, report };
  });
  const turn = (/** @type {number} */ n, /** @type {boolean} */ to) => {
    const all = changes.current;
    wanted.value = { ...wanted.value, [n]: { to, busy: true } };
    failure.value = "";
    all.waiting += 1;
    all.last = all.last.then(async () => {
      const now = latest.current;
      try {
        // The first target that starts switches the relay on. Then only this target may start.
        latest.current = await api.put(path, isOn(now["isRelay"])
          ? { relayOff: to ? offOf(now).filter((one) => one !== n) : [...offOf(now), n] }
          : { isRelay: true, relayOff: urls.map((_, i) => i).filter((i) => i !== n) });
        wanted.value = { ...wanted.value, [n]: { to, busy: false } };
      } catch (error) {
        failure.value = reason(error);
        wanted.value = Object.fromEntries(Object.entries(wanted.value).filter(([one]) => Number(one) !== n));
      }
      all.waiting -= 1;
      if (!all.waiting) onChanged();
    });
  };
  const remove = async (/** @type {number} */ n) => {
    const done = await ask({ title: t("simulcast.removeTitle", { name: serviceOf(urls[n] ?? "") }), text: t("simulcast.removeText"),
      confirm: t("simulcast.removeDo"), danger: true,
      run: () => api.put(path, { relayURL: urls.map((_, i) => i).filter((i) => i !== n) }) });
    if (done) onChanged();
  };
  return html`<p class="hint gap">${t("simulcast.text")}</p>
    <div class="stack">
      ${rows.map(({ url, n, report }) => html`<div key=${`${n} ${url}`} class="simulcast-target">
        <${Switch} label=${serviceOf(url)} disabled=${observes.value} busy=${wanted.value[n]?.busy}
          checked=${wanted.value[n]?.to ?? (on && !off.includes(n))}
          onChange=${(/** @type {boolean} */ to) => turn(n, to)} error=${report?.error && errorText(report.error)}
          hint=${[html`<code key="url">${url}</code>`, ...(report?.warnings ?? []).map((words) => html` <span key=${words}>${words}</span>`)]}
          note=${report ? html`<${Badge} kind=${TONES[report.state] ?? "idle"}>${t(`output.state.${report.state}`)}<//>`
            : html`<${Badge}>${t(!on || off.includes(n) ? "simulcast.state.off" : "simulcast.state.ready")}<//>`} />
        ${!observes.value && html`<${IconButton} icon="delete" label=${t("simulcast.removeOf", { name: serviceOf(url) })}
          onClick=${() => remove(n)} />`}
      </div>`)}
      ${failure.value && html`<p class="error" role="alert">${failure.value}</p>`}
      ${observes.value ? html`<p class="hint">${t("observer.only")}</p>`
        : html`<div><${Button} small icon="plus" onClick=${() => { adding.value = true; }}>${t("simulcast.add")}<//></div>`}
    </div>
    ${adding.value && html`<${AddTarget} channel=${channel} onChanged=${onChanged} onClose=${() => { adding.value = false; }} />`}`;
}

/**
 * The dialog for a new target, which starts at once if the channel is live.
 * @param {{channel: Channel, onChanged: () => void, onClose: () => void}} props
 */
export function AddTarget({ channel, onChanged, onClose }) {
  const preset = useSignal("youtube");
  const server = useSignal("");
  const key = useSignal("");
  const wrong = useSignal("");
  const busy = useSignal(false);
  const custom = preset.value === "custom";
  const submit = async () => {
    const base = (custom ? server.value.trim() : PRESETS[preset.value] ?? "").replace(/\/+$/, "");
    const secret = key.value.trim();
    if (!base || (!secret && !custom) || /\s/.test(base + secret)) {
      wrong.value = t("simulcast.missing");
      return;
    }
    busy.value = true;
    try {
      const url = secret ? `${base}/${secret}` : base;
      const others = listed(channel["relayURL"]).map((_, i) => i);
      // The others stay off if they are off now.
      await api.put(pathOf(channel), { relayURL: [...others, url], isRelay: true, ...(!isOn(channel["isRelay"]) && { relayOff: others }) });
      onChanged();
      onClose();
    } catch (error) {
      const isSrt = /^srt:\/\//i.test(base); // then the gateway's reason names the parameter
      wrong.value = error instanceof ApiError && error.field === "relayURL" && !isSrt ? t("simulcast.wrong") : reason(error);
      busy.value = false;
    }
  };
  const typed = (/** @type {import("@preact/signals").Signal<string>} */ to) => (/** @type {string} */ text) => {
    to.value = text;
    wrong.value = "";
  };
  return html`<${Dialog} title=${t("simulcast.add")} onClose=${onClose} onSubmit=${submit}
      footer=${html`<${Button} onClick=${onClose}>${t("cancel")}<//>
        <${Button} type="submit" kind="primary" busy=${busy.value}>${t("simulcast.addDo")}<//>`}>
    <${Select} label=${t("simulcast.service")} value=${preset.value} onChange=${typed(preset)}
      hint=${custom ? undefined : PRESETS[preset.value]}
      options=${Object.keys(PRESETS).map((value) => ({ value, label: t(`simulcast.${value}`) }))} />
    ${custom && html`<${Field} label=${t("simulcast.server")} value=${server.value} onInput=${typed(server)} required
      placeholder="rtmps://host/app" autocomplete="off" autocapitalize="off" spellcheck=${false} />`}
    <${Field} label=${t("simulcast.key")} type="password" value=${key.value} onInput=${typed(key)} required=${!custom} error=${wrong.value}
      hint=${t(`simulcast.key.${preset.value}`)} autocomplete="off" />
  <//>`;
}
