/** The ad cues of a live channel, and a form to begin and end a break. */

import { useState } from "preact/hooks";

import { api } from "../../../players/api.js";
import { instant, moment, span } from "../../format.js";
import { t } from "../../i18n.js";
import { refresh, usePoll } from "../../poll.js";
import { observes } from "../../session.js";
import { Badge, Button, Card, Field, html, Notice } from "../../ui.js";

/** @typedef {{id: string, type: "out" | "in" | "other", at: string, seconds: number | null, origin: string}} Cue */

const EVERY = 4_000; // ms
const SHOWN = 8;
const SECONDS = "30"; // of a break, at first

/** @param {{id: string}} props  the id of a live channel */
export function Cues({ id }) {
  const path = `/videostream/${encodeURIComponent(id)}/cues`;
  const cues = /** @type {Cue[]} */ (usePoll(path, EVERY).value.data ?? []);
  const [seconds, setSeconds] = useState(SECONDS);
  const [busy, setBusy] = useState("");
  const [error, setError] = useState("");

  const send = async (/** @type {"out" | "in"} */ type) => {
    setBusy(type);
    setError("");
    try {
      await api.post(path, type === "out" && seconds !== "" ? { type, seconds: Number(seconds) } : { type });
    } catch (problem) {
      setError(/** @type {Error} */ (problem).message);
    }
    setBusy("");
    refresh(path);
  };
  const submit = (/** @type {Event} */ event) => {
    event.preventDefault();
    send("out");
  };
  if (observes.value && !cues.length) return null;
  return html`<${Card} title=${t("cues.title")} class="is-cues">
    <div class="stack">
      ${!observes.value && html`<p class="hint">${t("cues.text")}</p>
      <form class="row" onSubmit=${submit}>
        <${Field} label=${t("cues.seconds")} type="number" min="1" max="86400" step="any" value=${seconds} after="s" onInput=${setSeconds} />
        <${Button} type="submit" busy=${busy === "out"} disabled=${busy !== ""}>${t("cues.begin")}<//>
        <${Button} busy=${busy === "in"} disabled=${busy !== ""} onClick=${() => send("in")}>${t("cues.end")}<//>
      </form>`}
      ${error && html`<${Notice} kind="bad" role="alert">${error}<//>`}
      ${cues.length > 0 && html`<ol class="events" aria-label=${t("cues.title")}>${cues.slice(0, SHOWN).map((cue, n) => html`
        <li key=${`${n} ${cue.id}`}>
          <time dateTime=${cue.at}>${moment(instant(cue.at), { seconds: true })}</time>
          <${Badge} kind=${cue.type === "out" ? "warn" : cue.type === "in" ? "ok" : "idle"}>${t(`cues.type.${cue.type}`)}<//>
          <span class="details">${[cue.seconds === null ? "" : span(cue.seconds), cue.id, cue.origin].filter(Boolean).join(" · ")}</span>
        </li>`)}</ol>`}
    </div>
  <//>`;
}
