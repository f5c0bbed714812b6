/** The view of one channel: its addresses, its current state, and the switches of its outputs. */

import { useState } from "preact/hooks";

import { abortAll, api } from "../../players/api.js";
import { expiry, expiryTone, nameOf, stateOf, TONES, viewersOf } from "../channel.js";
import { moment, relative } from "../format.js";
import { ask } from "../dialog.js";
import { t } from "../i18n.js";
import { refresh, usePoll } from "../poll.js";
import { Preview } from "../preview.js";
import { channelHref, go } from "../router.js";
import { administers, observes, unreachable } from "../session.js";
import { toast } from "../toast.js";
import { Badge, Button, Card, Empty, html, LinkButton, Notice, PageHead, Radios, Skeleton } from "../ui.js";
import { Play, Push } from "./channel/addresses.js";
import { Captions } from "./channel/captions.js";
import { Clips } from "./channel/clips.js";
import { Cues } from "./channel/cues.js";
import { Health } from "./channel/health.js";
import { Experience } from "./channel/experience.js";
import { ChannelHistory } from "./channel/history.js";
import { Inputs, useInputs } from "./channel/inputs.js";
import { Link } from "./channel/link.js";
import { About, Now } from "./channel/now.js";
import { Switches } from "./channel/outputs.js";
import { Face } from "./channel/face.js";
import { NextShow } from "./channel/next_show.js";
import { OnAir } from "./channel/on_air.js";
import { RecentEvents } from "./channel/recent.js";
import { Refusals } from "./channel/refusals.js";
import { Shows } from "./channel/shows.js";
import { Simulcast } from "./channel/simulcast.js";
import { Traffic } from "./channel/traffic.js";
import { WebRtcViewers } from "./channel/webrtc.js";
import { refreshChannels } from "./parts/channels.js";
import { toastDeleted } from "./parts/undo.js";

export { default as words } from "../words/channel.js";

/** @typedef {import("../channel.js").Channel} Channel */
/** @typedef {import("../channel.js").Session} Session */

/**
 * Asks what to do with the media of a deleted channel: "keep" or "delete".
 * @param {{onChange: (media: string) => void}} props
 */
function MediaChoice({ onChange }) {
  const [media, setMedia] = useState("keep");
  return html`<${Radios} label=${t("delete.media")} value=${media}
    options=${[{ value: "keep", label: t("delete.media.keep") }, { value: "delete", label: t("delete.media.delete") }]}
    onChange=${(/** @type {string} */ to) => { setMedia(to); onChange(to); }} />`;
}

/** @param {Error | null} error @returns {boolean} whether the gateway answered that there is no such channel */
const isMissing = (error) => error !== null && "status" in error && error.status === 404;

/** @param {{parts: string[]}} props  its id */
export default function ChannelPage({ parts: [id = ""] }) {
  const path = `/videostream/${encodeURIComponent(id)}`;
  const [gone, setGone] = useState(false); // true while it is deleted; nothing is requested any more
  const stored = usePoll(gone ? null : path, 4_000);
  const current = usePoll(gone ? null : `${path}/session`, 2_000);
  const [preview, setPreview] = useState(false);
  const [kicked, setKicked] = useState(/** @type {string | null} */ (null)); // start of the push that was ended here
  // A page that was opened before the push keeps the addresses at the top: somebody may be copying the key.
  const [pushFirst, setPushFirst] = useState(/** @type {boolean | null} */ (null));
  const [kept, setKept] = useState(/** @type {Channel | null} */ (null));

  const channel = /** @type {Channel | null} */ (stored.value.data) ?? kept;
  const session = /** @type {Session | null} */ (current.value.data);
  const inputs = useInputs(gone ? null : channel);
  const hours = Number(usePoll(administers.value ? "/status" : null, 60_000).value.data?.binHours ?? 0); // in the bin
  const error = [stored.value.error, current.value.error].find(isMissing) ?? stored.value.error;
  if (!channel || (isMissing(error) && !gone)) {
    if (!error) return html`<${Skeleton} lines=${8} />`;
    return html`<${Empty} icon="search" title=${t(isMissing(error) ? "channel.missing" : "channel.unread")} text=${error.message}>
      <${LinkButton} href="#/channels" icon="left">${t("nav.channels")}<//><//>`;
  }
  const name = nameOf(channel);
  const state = stateOf(channel, session);
  const live = session !== null && session.state !== "idle";
  if (pushFirst === null && session !== null) setPushFirst(!live);
  const push = observes.value ? html`<${Card} key="push" title=${t("push.title")}><p class="hint">${t("push.observer")}</p><//>`
    : html`<${Push} key="push" channel=${channel} onChanged=${() => changed()} />`;
  const changed = () => { refresh(path); refresh(`${path}/session`); };

  const kick = async () => {
    const done = await ask({
      title: t("kick.title", { name }), text: t("kick.text"), confirm: t("kick.confirm"), danger: true,
      run: async () => {
        setPreview(false); // its requests would fail, as those of the picture
        setKicked(session?.since ?? null);
        await api.delete(`${path}/session`);
      },
    });
    if (done) toast(t("kick.done", { name }), "ok");
    changed();
  };
  const remove = async () => {
    let media = "keep";
    const done = await ask({
      title: t("delete.title", { name }), text: html`${live && html`${t("delete.live")} `}${hours > 0 ? t("delete.text.bin", { n: hours }) : t("delete.text")}`, confirm: t("delete.confirm"), danger: true,
      more: html`<${MediaChoice} onChange=${(/** @type {string} */ to) => { media = to; }} />`,
      run: async () => {
        // Running requests would be answered "no such channel".
        setKept(channel);
        setPreview(false);
        setGone(true);
        await new Promise((done) => setTimeout(done));
        abortAll();
        try {
          await api.delete(`${path}?media=${media}`);
        } catch (error) {
          setGone(false);
          throw error;
        }
      },
    });
    if (!done) return;
    if (hours > 0) toastDeleted(t("delete.done", { name }), [id], refreshChannels);
    else toast(t("delete.done", { name }), "ok");
    refreshChannels();
    go("/channels");
  };

  const lost = unreachable.value;
  const golive = !observes.value && !channel.expired && !lost && html`<${LinkButton} key="golive" kind=${live ? "plain" : "primary"} icon="camera" external
    href=${`/console/broadcast.html#${encodeURIComponent(id)}`}>${t("channel.golive")}<//>`;
  const tone = expiryTone(channel);
  const several = inputs !== null && inputs.length > 1;
  const shownInputs = inputs && html`<${Inputs} channel=${channel} inputs=${inputs} onChanged=${changed} />`;
  const show = html`<${Button} key="preview" kind=${live && !preview ? "primary" : "plain"} icon=${preview ? "stop" : "play"}
    disabled=${lost && !preview}
    onClick=${() => setPreview(!preview)}>${preview ? t("preview.stop") : t("preview.start")}<//>`;
  // Several inputs have their pictures in a card of their own.
  const picture = !several && !preview && !lost && !gone && session?.state === "live" && session.since !== kicked && inputs
    && html`<${OnAir} path=${`${path}/inputs`} session=${session} inputs=${inputs} onPlay=${() => setPreview(true)} />`;
  return html`
    <${PageHead} title=${name} text=${channel["description"]} back=${{ href: "#/channels", label: t("nav.channels") }}
        badge=${html`<${Badge} kind=${TONES[state]} dot=${state === "live"}>${t(`state.${state}`)}<//>
          ${live && !lost && html`<span class="soft">${t("channel.watched", { n: viewersOf(session) })}</span>`}`}>
      ${live ? [show, golive] : [golive, show]}
      ${administers.value && html`<${LinkButton} href=${channelHref(id, "/edit")} icon="edit">${t("channel.edit")}<//>`}
      ${live && !observes.value && html`<${Button} icon="kick" class="warns" disabled=${lost} title=${t("kick.text")} onClick=${kick}>${t("kick")}<//>`}
      ${administers.value && html`<${Button} icon="delete" class="warns" onClick=${remove}>${t("delete")}<//>`}
    <//>
    ${stored.value.error && !lost && html`<div class="bar">
      <${Notice} kind="warn" role="alert">${t("channel.stale", { reason: stored.value.error.message })}<//></div>`}
    ${tone && html`<div class="bar"><${Notice} kind=${tone} title=${tone === "bad" ? t("channel.expired")
        : t("channel.expires", { when: relative(expiry(channel)) })}
      actions=${administers.value && html`<${LinkButton} small href=${channelHref(id, "/edit?section=basics")}>${t("channel.renew")}<//>`}>
        ${t(tone === "bad" ? "channel.expired.text" : "channel.expires.text", { date: moment(expiry(channel)) })}<//></div>`}
    <${Refusals} channel=${channel} session=${session} />
    <div class="two">
      <div class="stack left">
        ${preview && html`<${Card} title=${t("preview.title")} class="is-preview"><${Preview} channel=${channel} live=${live} /><//>`}
        ${!pushFirst && picture}
        ${pushFirst && push}
        ${pushFirst && picture}
        ${session && live && html`<${Now} session=${session} several=${several} at=${current.value.at} />`}
        ${session && (session.state === "live" || !!session.health?.length) && html`<${Health} session=${session} />`}
        ${session?.state === "live" && !gone && html`<${Captions} channel=${channel} />`}
        ${session?.state === "live" && html`<${Link} session=${session} at=${current.value.at} />`}
        ${session && live && html`<${WebRtcViewers} session=${session} />`}
        ${several && shownInputs}
        ${!pushFirst && push}
        ${!several && shownInputs}
        <${Play} channel=${channel} />
        ${session && live && !gone && html`<${Cues} id=${id} />`}
        <${Clips} channel=${channel} />
        ${!gone && html`<${ChannelHistory} id=${id} live=${live} /><${Experience} id=${id} /><${Shows} id=${id} /><${Traffic} id=${id} />`}
      </div>
      <div class="stack right">
        ${administers.value && html`<${Switches} channel=${channel} session=${session} onChanged=${changed} />`}
        <${Simulcast} channel=${channel} session=${session} onChanged=${changed} />
        <${NextShow} channel=${channel} onChanged=${changed} />
        <${About} channel=${channel} />
        ${!gone && html`${!observes.value && html`<${Face} channel=${channel} onChanged=${changed} />`}<${RecentEvents} id=${id} />`}
      </div>
    </div>`;
}
