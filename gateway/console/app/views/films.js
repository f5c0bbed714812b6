/** Video on demand: uploads and other sources, the jobs that convert them, and the finished videos. */

import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";

import { api, ApiError } from "../../players/api.js";
import { ask } from "../dialog.js";
import { moment, percent } from "../format.js";
import { t } from "../i18n.js";
import { refresh } from "../poll.js";
import { administers } from "../session.js";
import { toast } from "../toast.js";
import { Badge, Button, Card, Empty, Field, html, IconButton, LinkButton, PageHead, Table } from "../ui.js";
import { Library, LIBRARY } from "./films/library.js";
import { active, TONES } from "./films/model.js";
import { title } from "./films/names.js";
import { Uploads } from "./films/uploads.js";
import { usePages } from "./parts/pages.js";
import { attempt, reason, Trouble } from "./parts/trouble.js";

export { default as words } from "../words/films.js";

/** @typedef {import("./films/model.js").Job} Job */

const PAGE = 100;
const JOBS = `/jobs?limit=${PAGE}`;
const [BUSY, QUIET] = [1500, 8000]; // ms between two polls: while a job runs, and otherwise

export default function Films() {
  const busy = useSignal(false);
  const jobs = usePages(JOBS, { size: PAGE, every: busy.value ? BUSY : QUIET, keyOf: (/** @type {Job} */ job) => job.id });
  useEffect(() => {
    const runs = (jobs.first ?? []).some(active);
    if (busy.peek() && !runs) refresh(LIBRARY); // the last job has ended
    busy.value = runs;
  }, [jobs.first]);

  return html`
    <${PageHead} title=${t("films.title")} text=${t("films.text")}>
      <${LinkButton} icon="delete" href="#/recordings/bin">${t("bin.link")}<//>
    <//>
    <${Trouble} error=${jobs.error} />
    <div class="stack">
      ${administers.value && html`<div class="columns">
        <${Card} title=${t("films.upload")}><div class="stack"><${Uploads} path=${JOBS} jobs=${jobs.rows ?? []} /></div><//>
        <${Card} title=${t("films.submit")}><${Submit} /><//>
      </div>`}
      <${Library} />
      <${Card} title=${t("films.jobs")}>
        <${Table} label=${t("films.jobs")} name="jobs" sort="-created" rows=${jobs.rows ?? (jobs.error ? [] : null)}
          keyOf=${(/** @type {Job} */ job) => job.id}
          columns=${columns()} empty=${html`<${Empty} icon="clock" title=${t("films.noJobs")} text=${t("films.noJobsText")} />`} />
        ${jobs.more && html`<p class="shelf-more"><${Button} busy=${jobs.busy} onClick=${jobs.load}>${t("films.older")}<//></p>`}
      <//>
    </div>`;
}

/** @returns {import("../kit/table.js").Column<Job>[]} */
const columns = () => [
  {
    key: "source", label: t("films.source"), sort: (job) => title(job.source),
    cell: (job) => html`<span class="job-source">
      <b>${title(job.source)}</b>${title(job.source) !== job.source && html`<span class="soft">${job.source}</span>`}</span>`,
  },
  {
    key: "state", label: t("films.state"), sort: (job) => job.state, class: "job-state",
    cell: (job) => html`<span class="job-progress">
      <span class="row"><${Badge} kind=${TONES[job.state]} dot=${job.state === "PROGRESSING"}>${t(`films.state.${job.state}`)}<//>
        ${job.kind !== "vod" && html`<span class="soft">${t(`films.kind.${job.kind}`)}</span>`}
        ${job.state === "PROGRESSING" && html`<span>${percent(job.progress / 100)}</span>`}</span>
      ${job.state === "PROGRESSING" && html`<progress max="100" value=${job.progress}
        aria-label=${t("films.progressOf", { name: title(job.source) })}></progress>`}
      ${(job.error || job.warning) && html`<span class="error">${job.error || job.warning}</span>`}
    </span>`,
  },
  { key: "created", label: t("films.created"), sort: (job) => job.created, cell: (job) => moment(job.created) },
  { key: "updated", label: t("films.updated"), sort: (job) => job.updated, cell: (job) => moment(job.updated, { seconds: true }) },
  ...(!administers.value ? [] : [{
    key: "acts", label: t("views.actions"), actions: true,
    cell: (/** @type {Job} */ job) => html`
      ${active(job) && html`<${IconButton} icon="close" label=${t("films.cancelOf", { name: title(job.source) })}
        onClick=${() => cancel(job)} />`}
      ${job.state === "ERROR" && job.kind === "vod" && html`<${IconButton} icon="refresh"
        label=${t("films.againOf", { name: title(job.source) })} onClick=${() => submit(job.source)} />`}`,
  }]),
];

/** @param {Job} job */
async function cancel(job) {
  const done = await ask({
    title: t("films.cancelTitle"), text: t("films.cancelText", { name: title(job.source) }), confirm: t("films.cancel"),
    cancel: t("films.keep"), danger: true,
    run: () => api.delete(`/jobs/${encodeURIComponent(job.id)}`),
  });
  if (done) toast(t("films.canceled"), "ok");
  refresh(JOBS);
}

/** @param {string} source */
async function submit(source) {
  if (await attempt(() => api.post("/jobs", { source }), t("films.submitted"))) refresh(JOBS);
}

function Submit() {
  const source = useSignal("");
  const wrong = useSignal("");
  const busy = useSignal(false);
  const send = async () => {
    const typed = source.value, wanted = typed.trim();
    wrong.value = wanted ? "" : t("films.sourceMissing");
    if (!wanted) return;
    busy.value = true;
    try {
      await api.post("/jobs", { source: wanted });
      if (source.value === typed) source.value = "";
      toast(t("films.submitted"), "ok");
      refresh(JOBS);
    } catch (error) {
      if (error instanceof ApiError && error.field === "source") wrong.value = error.message;
      else toast(reason(error), "bad");
    } finally {
      busy.value = false;
    }
  };
  return html`<form class="stack" novalidate onSubmit=${(/** @type {Event} */ event) => { event.preventDefault(); void send(); }}>
    <${Field} label=${t("films.where")} value=${source.value}
      onInput=${(/** @type {string} */ v) => { source.value = v; wrong.value = ""; }}
      hint=${t("films.whereHint")} error=${wrong.value} placeholder="films/holiday.mp4" autocomplete="off" spellcheck=${false} />
    <div class="row"><${Button} type="submit" kind="primary" busy=${busy.value}>${t("films.prepare")}<//></div>
  </form>`;
}
