/** The last hours of a channel as charts. They are also shown after it has ended. */

import { useEffect, useState } from "preact/hooks";

import { bitrate, number } from "../../format.js";
import { t } from "../../i18n.js";
import { Card, html } from "../../ui.js";
import { SpanChoice, useHistory } from "../parts/server-history.js";

/** @typedef {typeof import("../../chart.js").Chart} ChartComponent */

/** @param {{id: string, live: boolean}} props */
export function ChannelHistory({ id, live }) {
  const [chart, setChart] = useState(/** @type {{Chart: ChartComponent} | null} */ (null));
  useEffect(() => {
    let gone = false;
    import("../../chart.js").then((module) => { if (!gone) setChart(module); }, () => undefined); // the page works without
    return () => { gone = true; };
  }, []);
  const past = useHistory({ channel: id });
  if (!chart || !past || (!live && past.seconds === 86400 && !past.times.length)) return null;
  const shared = { times: past.times, seconds: past.seconds };
  return html`<${Card} title=${t("history.title")} class="is-history" actions=${html`<${SpanChoice} />`}>
    ${past.times.length ? html`
      <${chart.Chart} ...${shared} label=${t("now.bitrate")} least=${1000} format=${bitrate}
        lines=${[{ label: t("now.bitrate"), values: past.values("bitrate"), ink: 1 }]} />
      <${chart.Chart} ...${shared} label=${t("now.viewers")} least=${4} whole format=${(/** @type {number} */ n) => number(n, 1)}
        lines=${[{ label: t("now.viewers"), values: past.values("viewers", "max"), ink: 3 }]} />
      ${past.names.includes("fps") && html`<${chart.Chart} ...${shared} label=${t("health.fps")} least=${10}
        format=${(/** @type {number} */ n) => number(n, 1)} lines=${[{ label: t("health.fps"), values: past.values("fps"), ink: 2 }]} />`}`
      : html`<p class="soft">${t("history.none")}</p>`}
  <//>`;
}
