/** The card of one live channel: its input, its viewers and the state of its outputs. */

import { sessionState, TONES } from "../../channel.js";
import { Spark } from "../../chart.js";
import { bitrate, duration, instant, NOTHING, number } from "../../format.js";
import { t } from "../../i18n.js";
import { channelHref } from "../../router.js";
import { observes, unreachable } from "../../session.js";
import { Badge, Button, Chip, classes, html, Icon, LinkButton } from "../../ui.js";
import { nameOf } from "../parts/channels.js";
import { InputPicture } from "../channel/input_picture.js";
import { errorText } from "../parts/errors.js";
import { faultText } from "../parts/health.js";
import { codecName, protocolName } from "../parts/names.js";
import { bitrates, health, lost, sum, targetHealth } from "./model.js";

/** @typedef {import("./model.js").Session} Session */
/** @typedef {import("./model.js").Output} Output */
/** @typedef {import("./model.js").Track} Track */

const SPARK = 120; // seconds
const PICTURE_EVERY = 10_000; // ms; somebody may look at many channels

/** @type {Readonly<Record<"ok" | "wait" | "bad", import("../../kit/icon.js").IconName>>} */
const ICONS = { ok: "check", wait: "clock", bad: "warning" };

/**
 * @param {{session: Session, now: number, onKick: (session: Session) => void}} props  now: ms since 1970
 */
export function LiveCard({ session, now, onKick }) {
  const { id, videoname, since, publisher, tracks, node } = session;
  const name = nameOf({ id, videoname });
  const started = instant(since);
  const state = sessionState(session);
  const dropped = lost(session);
  // The line begins with the stream, and not with the first of all streams.
  const values = bitrates.values(id);
  const from = Math.max(0, values.findIndex((value) => value !== null));
  return html`<article class="card live-card" aria-label=${name}>
    <header class="live-head">
      <h2><a href=${channelHref(id)}>${name}</a></h2>
      <${Badge} kind=${TONES[state]} dot=${state !== "unknown"}>${t(`live.state.${state}`)}<//>
      <span class="live-age" title=${t("live.duration")}>${started === null ? NOTHING : duration((now - started.getTime()) / 1000)}</span>
    </header>
    <${Fault} session=${session} />
    <div class="live-rate">
      ${state === "live" && tracks.some((track) => track.kind === "video") && html`<${InputPicture} every=${PICTURE_EVERY}
        path=${`/videostream/${encodeURIComponent(id)}/inputs`} input=${{ name: session.input ?? "main", kind: "push", state: "on air" }} />`}
      <${Spark} label=${t("live.bitrate")} times=${bitrates.times.slice(from)} lines=${[{ label: name, values: values.slice(from) }]}
        format=${bitrate} seconds=${SPARK} />
      <b>${bitrate(session.bitrate)}</b>
    </div>
    <dl class="live-facts">
      <div><dt>${t("live.picture")}</dt><dd>${picture(tracks)}</dd></div>
      <div><dt>${t("live.sound")}</dt><dd>${sound(tracks)}</dd></div>
      <div><dt>${t("live.publisher")}</dt><dd>${publisher?.address ? `${protocolName(publisher.protocol)} · ${publisher.address}`
        : t(publisher ? "live.nobody" : "live.gone")}</dd></div>
      <div><dt>${t("live.dropped")}</dt><dd class=${classes(dropped > 0 && "is-bad")}>${number(dropped)}</dd></div>
      ${session.fallback && html`<div><dt>${t("live.input")}</dt><dd class="is-warn">${session.input}</dd></div>`}
      ${node && html`<div><dt>${t("live.node")}</dt><dd><code>${node}</code></dd></div>`}
      <div class="wide"><dt>${t("live.viewers")}</dt><dd><${Viewers} counts=${session.viewers} /></dd></div>
    </dl>
    <${Outputs} outputs=${session.outputs} />
    <footer class="live-actions">
      <${LinkButton} small icon="play" href=${channelHref(id)} aria-label=${t("live.openOf", { name })}>${t("live.open")}<//>
      ${!observes.value && html`<${Button} small class="warns" icon="kick" disabled=${unreachable.value} onClick=${() => onKick(session)}
        aria-label=${t("live.kickOf", { name })}>${t("live.kick")}<//>`}
    </footer>
  </article>`;
}

/** The worst fault of the push, and the number of others. @param {{session: Session}} props */
function Fault({ session }) {
  const faults = (session.health ?? []).filter(({ level }) => level !== "notice");
  const [worst] = faults;
  if (!worst) return null;
  return html`<p class="live-fault"><${Icon} name="warning" size=${15} /><span>${faultText(worst)}
    ${faults.length > 1 && html` <span class="soft">${t("live.moreFaults", { n: faults.length - 1 })}</span>`}</span></p>`;
}

/** @param {{counts: Record<string, number>}} props */
function Viewers({ counts }) {
  const watched = Object.entries(counts).filter(([, n]) => n > 0);
  return html`<span class="live-viewers"><b>${number(sum(counts))}</b>${watched.map(([protocol, n]) => html`
    <${Chip} key=${protocol}>${protocolName(protocol)} ${number(n)}<//>`)}</span>`;
}

/** @param {{outputs: readonly Output[]}} props */
function Outputs({ outputs }) {
  const on = outputs.filter((output) => health(output) !== "off");
  if (!on.length) return null;
  return html`<ul class="outputs" aria-label=${t("live.outputs")}>${on.map((output) => {
    const how = /** @type {"ok" | "wait" | "bad"} */ (health(output));
    const targets = output.targets ?? [];
    return html`<li class=${classes(`is-${how}`, (output.error || targets.length > 0) && "wide")} key=${output.name}>
      <${Icon} name=${ICONS[how]} size=${15} />
      <span class="output-line"><b>${t(`live.output.${output.name}`)}</b> <span
        class=${output.state === "running" && how === "ok" ? "visually-hidden"
          : "soft"}>${t(`output.state.${output.state}`)}</span></span>
      ${targets.length === 0 && output.error && html`<p class="output-error">${errorText(output.error)}</p>`}
      ${targets.length > 0 && html`<ul class="targets">
        ${targets.map((target) => html`<li class=${`is-${targetHealth(target)}`} key=${target.url}>
        <${Icon} name=${ICONS[targetHealth(target)]} size=${15} />
        <span class="output-line"><code>${target.url}</code> <span class="soft">${t(`output.state.${target.state}`)}</span></span>
        ${target.error && html`<p class="output-error">${errorText(target.error)}</p>`}
        ${(target.warnings ?? []).map((words) => html`<p class="output-warning" key=${words}>${words}</p>`)}
      </li>`)}</ul>`}
    </li>`;
  })}</ul>`;
}

/** @param {readonly Track[]} tracks */
function picture(tracks) {
  const found = tracks.find((track) => track.kind === "video");
  if (!found) return t("live.none");
  const size = found.width && found.height ? `${found.width}\u00a0×\u00a0${found.height}` : "";
  const fps = found.frameRate ? t("live.fps", { fps: number(found.frameRate, 2) }) : "";
  return [codecName(found.codec), size, fps].filter(Boolean).join(" · ");
}

/** @param {readonly Track[]} tracks */
function sound(tracks) {
  const found = tracks.find((track) => track.kind === "audio");
  if (!found) return t("live.none");
  const rate = found.sampleRate ? `${number(found.sampleRate / 1000, 1)}\u00a0kHz` : "";
  const channels = !found.channels ? "" : found.channels === 1 ? t("live.mono") : found.channels === 2 ? t("live.stereo")
    : t("live.channels", { n: found.channels });
  return [codecName(found.codec), rate, channels].filter(Boolean).join(" · ");
}
