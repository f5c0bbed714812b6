/** The properties of a channel and, while it is live, its current values. */

import { expiry, expiryText, expiryTone, isNever, protectionOf, viewersOf, zoneName } from "../../channel.js";
import { bitrate, moment, number, relative, span } from "../../format.js";
import { t } from "../../i18n.js";
import { Card, CopyButton, Facts, html, Notice } from "../../ui.js";
import { networkWords } from "./webrtc.js";

/** @typedef {import("../../channel.js").Channel} Channel */
/** @typedef {import("../../channel.js").Session} Session */

/** @param {Session["tracks"][number]} track @returns {string} */
function words(track) {
  const name = { h264: "H.264", h265: "H.265", hevc: "H.265", av1: "AV1", aac: "AAC", opus: "Opus",
    mp3: "MP3" }[track.codec] ?? track.codec.toUpperCase();
  const more = track.kind === "video"
    ? [track["width"] ? `${track["width"]}\u00a0×\u00a0${track["height"]}` : "",
      track["frameRate"] ? `${number(track["frameRate"], 2)}\u00a0fps` : ""]
    : [track["sampleRate"] ? `${number(track["sampleRate"] / 1000, 1)}\u00a0kHz` : "",
      track["channels"] ? t("now.channels", { n: track["channels"] }) : ""];
  return [[name, track.profile].filter(Boolean).join(" "), ...more].filter(Boolean).join(" · ");
}

/**
 * @param {{session: Session, several: boolean, at: number}} props  several: whether the channel has several inputs.
 *   at: when the gateway sent the session, ms since 1970
 */
export function Now({ session, several, at }) {
  const { publisher, viewers, tracks, node } = session;
  const dropped = Object.entries(publisher?.dropped ?? {}).filter(([, n]) => n > 0);
  const watched = Object.entries(viewers).filter(([, n]) => n > 0);
  const seconds = session.since ? (at - Date.parse(session.since)) / 1000 : NaN;
  const [video, audio] = [tracks.find((track) => track.kind === "video"), tracks.find((track) => track.kind === "audio")];
  const additional = tracks.filter((track) => track["rendition"]).map((track) => track["name"]);
  return html`<${Card} title=${t("now.title")} class="is-now">
    ${session.paused && html`<${Notice} kind="info" title=${t("state.paused")}>${t("now.paused")}<//>`}
    ${session.state === "lingering" && !session.paused && html`<${Notice} kind="warn" title=${t("state.lingering")}>${t("now.lingering")}<//>`}
    <${Facts} facts=${[
      { label: t("now.bitrate"), value: bitrate(session.bitrate) },
      { label: t("now.viewers"), value: html`${number(viewersOf(session))}${watched.length > 0
        && html` <span class="sub inline">${watched.map(([name, n]) =>
          `${t(`output.short.${name}`)} ${number(n)}`).join(" · ")}</span>`}` },
      { label: t("now.since"), value: html`${span(seconds)}`, title: moment(session.since, { seconds: true }) },
      { label: t("now.dropped"), value: dropped.length ? dropped.map(([why, n]) => `${why} ${number(n)}`).join(", ") : number(0),
        title: t("now.dropped.hint") },
      { label: t("now.video"), value: video ? words(video) : t("now.none") },
      { label: t("now.audio"), value: audio ? words(audio) : t("now.none") },
      ...(additional.length ? [{ label: t("now.tracks"), value: additional.join(" · ") }] : []),
      { label: t("now.publisher"), value: publisher?.address
        ? html`${publisher.address} <span class="sub inline">${publisher.protocol.toUpperCase()}</span>` : t("now.nobody") },
      ...(publisher?.webrtc ? [{ label: t("webrtc.publisher"), value: networkWords(publisher.webrtc) }] : []),
      ...(several ? [{ label: t("now.input"), value: session.input ?? t("now.none") }] : []),
      ...(node ? [{ label: t("now.node"), value: html`<code>${node}</code>` }] : []),
    ]} />
  <//>`;
}

/** @param {Channel} channel @returns {string} who may watch it */
function protectionText(channel) {
  const what = t(`auth.${protectionOf(channel)}`);
  return channel["playAuth"] ? what : t("auth.default", { what });
}

/** @param {{channel: Channel}} props */
export function About({ channel }) {
  const until = expiry(channel);
  return html`<${Card} title=${t("about.title")} class="is-about">
    <dl class="list">
      <div><dt>${t("channel.expiry")}</dt><dd title=${zoneName()}>${expiryText(until)}
        ${!isNever(until) && html`<span class=${`sub is-${expiryTone(channel)}`}>${relative(until)}</span>`}</dd></div>
      <div><dt>${t("about.id")}</dt><dd class="with-copy"><code>${channel.id}</code>
        <${CopyButton} label=${t("about.id")} value=${channel.id} /></dd></div>
      <div><dt>${t("about.auth")}</dt><dd>${protectionText(channel)}</dd></div>
    </dl>
  <//>`;
}
