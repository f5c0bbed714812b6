/** The health of a channel's push: its faults in words, and what the gateway measures. */

import { onSlate } from "../../channel.js";
import { bitrate, moment, NOTHING, number } from "../../format.js";
import { t } from "../../i18n.js";
import { unreachable } from "../../session.js";
import { Card, Facts, html, Notice } from "../../ui.js";
import { faultText } from "../parts/health.js";

/** @typedef {import("../../channel.js").Session} Session */

/** @param {import("../parts/health.js").Finding} finding */
const isNotice = ({ level }) => level === "notice";

/** @param {{session: Session}} props */
export function Health({ session }) {
  const { health = [], measured } = session;
  if (!measured) return null; // of an older node
  const { fps, declaredFps, gop, bFrames, avOffsetMs } = measured;
  return html`<${Card} title=${t("health.title")} class="is-health">
    ${health.every(isNotice) && !unreachable.value && (onSlate(session) ? html`<${Notice} kind="info">${t("health.slate")}<//>`
      : html`<${Notice} kind="ok">${t("health.good")}<//>`)}
    ${health.map((finding) => html`<${Notice} kind=${isNotice(finding) ? "info" : "warn"}
      key=${`${finding.code} ${typeof finding.value === "string" ? finding.value : ""}`}>
      <span title=${t("health.since", { time: moment(finding.since, { seconds: true }) })}>${faultText(finding)}</span><//>`)}
    ${session.state === "live" && html`<${Facts} facts=${[
      { label: t("health.fps"), value: declaredFps !== null && fps !== null
        ? t("health.fps.of", { n: number(fps, 1), declared: number(declaredFps, 2) }) : number(fps, 1) },
      { label: t("health.bitrate1m"), value: bitrate(measured.bitrate1m) },
      { label: t("health.gop"), value: gop === null ? NOTHING : `${number(gop, 1)}\u00a0s` },
      { label: t("health.bFrames"), value: bFrames === null ? NOTHING : t(bFrames ? "health.yes" : "health.no") },
      { label: t("health.offset"), value: avOffsetMs === null ? NOTHING : `${number(avOffsetMs)}\u00a0ms`, title: t("health.offset.hint") },
    ]} />`}
  <//>`;
}
