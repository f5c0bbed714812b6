/** The connections of WebRTC: the values of one, and the viewers with the worst ones. */

import { number, NOTHING, percent } from "../../format.js";
import { t } from "../../i18n.js";
import { Card, html, Table } from "../../ui.js";

/** @typedef {import("../../channel.js").Network} Network */
/** @typedef {Network & {address: string, transport: string}} Viewer */

/** @param {number | null} ms @returns {string} */
const milliseconds = (ms) => ms === null ? NOTHING : `${number(ms)}\u00a0ms`;

/** @param {Network} network @returns {string} */
export const networkWords = ({ roundTrip, lost, jitter }) => [milliseconds(roundTrip), percent(lost), milliseconds(jitter)].join(" · ");

/** @param {{session: import("../../channel.js").Session}} props */
export function WebRtcViewers({ session }) {
  const rows = (session.webrtcViewers ?? []).map((viewer, number) => ({ ...viewer, number }));
  if (!rows.length) return null;
  const value = (/** @type {"roundTrip" | "lost" | "jitter"} */ key, /** @type {(viewer: Viewer) => string} */ cell) =>
    ({ key, label: t(`webrtc.${key}`), number: true, cell, sort: (/** @type {Viewer} */ viewer) => viewer[key] });
  return html`<${Card} title=${t("webrtc.title")} class="is-webrtc">
    <p class="soft">${t("webrtc.text")}</p>
    <${Table} label=${t("webrtc.title")} rows=${rows} name="webrtc" keyOf=${(/** @type {Viewer & {number: number}} */ row) => row.number}
      columns=${[
        { key: "address", label: t("webrtc.address"), cell: (/** @type {Viewer} */ viewer) =>
          html`<code>${viewer.address}</code> <span class="sub inline">${viewer.transport.toUpperCase()}</span>` },
        value("roundTrip", (viewer) => milliseconds(viewer.roundTrip)),
        value("lost", (viewer) => percent(viewer.lost)),
        value("jitter", (viewer) => milliseconds(viewer.jitter)),
      ]} />
  <//>`;
}
