/** The report of one show: printed, downloaded, or shared by a link. */

import { useEffect, useRef, useState } from "preact/hooks";

import { api } from "../../players/api.js";
import { reportView } from "../../report/report.js";
import { Dialog } from "../dialog.js";
import { moment } from "../format.js";
import { language, t } from "../i18n.js";
import { loadStyle } from "../load_style.js";
import { usePoll } from "../poll.js";
import { channelHref } from "../router.js";
import { Button, CopyField, html, LinkButton, PageHead, Skeleton } from "../ui.js";
import { attempt, Trouble } from "./parts/trouble.js";

export { default as words } from "../words/show.js";

/** @typedef {import("../../report/report.js").Report & {url: string | null}} Report */

await loadStyle("/console/report/report.css");

const EVERY = 15_000; // ms; an ended show changes only while its recordings become ready

/** @param {{parts: string[]}} props  the channel, "shows" and the id of the show */
export default function ShowPage({ parts: [id = "", , show = ""] }) {
  const path = `/videostream/${encodeURIComponent(id)}/shows/${encodeURIComponent(show)}`;
  /** @type {import("../poll.js").PolledSignal<Report>} */
  const polled = usePoll(path, EVERY);
  const [shared, setShared] = useState(/** @type {{url: string, expires: string} | null} */ (null));
  const place = useRef(/** @type {HTMLElement | null} */ (null));
  const { data, error } = polled.value;
  useEffect(() => { if (data) place.current?.replaceChildren(reportView(data, language.value)); }, [data, language.value]);
  const share = () => attempt(async () => setShared(await api.post(`${path}/share`, {})));
  return html`
    <${PageHead} title=${t("show.title")} back=${{ href: channelHref(id), label: t("show.channel") }}>
      ${data && html`<${Button} kind="primary" icon="external" onClick=${share}>${t("show.share")}<//>
        <${Button} icon="docs" onClick=${() => print()}>${t("show.print")}<//>
        <${LinkButton} icon="download" href=${`${path}?format=csv`} download="">CSV<//>
        ${data.url && html`<${LinkButton} icon="play" external href=${data.url}>${t("show.recording")}<//>`}`}
    <//>
    <${Trouble} error=${error} />
    ${!data && !error && html`<${Skeleton} lines=${8} />`}
    <div ref=${place}></div>
    ${shared && html`<${Dialog} title=${t("show.share")} onClose=${() => setShared(null)}>
      <p>${t("show.shared", { date: moment(shared.expires) })}</p>
      <${CopyField} label=${t("show.link")} value=${shared.url} /><//>`}`;
}
