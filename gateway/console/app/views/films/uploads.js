/** The uploads of this page and their progress. They continue while other views are shown. */

import { signal } from "@preact/signals";
import { useRef, useState } from "preact/hooks";

import { bytes, number, percent, span } from "../../format.js";
import { t } from "../../i18n.js";
import { refresh } from "../../poll.js";
import { user } from "../../session.js";
import { Button, classes, html, Icon, IconButton } from "../../ui.js";
import { known, TYPES } from "./model.js";
import { S3_BYTES, Upload } from "./upload.js";

const AT_ONCE = 2;

/** @type {import("@preact/signals").Signal<Upload[]>} */
const uploads = signal([]);

// Leaving the page would end the uploads, so the browser asks first.
addEventListener("beforeunload", (event) => {
  if (uploads.value.some((one) => ["waiting", "sending"].includes(one.progress.value.state))) event.preventDefault();
});

user.subscribe((now) => {
  if (now !== null) return;
  for (const one of uploads.peek()) one.cancel();
  uploads.value = [];
});

/** Begins the next uploads of the queue. @param {string} path  of the job list, which is polled after an upload */
function next(path) {
  const busy = uploads.peek().filter((one) => one.begun && !one.over).length;
  for (const one of uploads.peek().filter((waiting) => !waiting.begun && !waiting.over).slice(0, Math.max(0, AT_ONCE - busy))) {
    void one.start().then(() => { refresh(path); next(path); });
  }
}

/** @param {{path: string, jobs: readonly import("./model.js").Job[]}} props  path: at which the list of jobs is polled */
export function Uploads({ path, jobs }) {
  const input = useRef(/** @type {HTMLInputElement | null} */ (null));
  const [over, setOver] = useState(false);
  const [refused, setRefused] = useState(/** @type {string[]} */ ([]));

  const add = (/** @type {Iterable<File>} */ files) => {
    const all = [...files];
    setRefused(all.filter((file) => !known(file.name)).map((file) => file.name));
    uploads.value = [...uploads.peek(), ...all.filter((file) => known(file.name)).map((file) => new Upload(file))];
    next(path);
  };
  const drag = (/** @type {boolean} */ is) => (/** @type {DragEvent} */ event) => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    setOver(is);
  };
  return html`<div class=${classes("drop", over && "over")} onDragOver=${drag(true)} onDragLeave=${drag(false)}
      onDrop=${(/** @type {DragEvent} */ event) => { drag(false)(event); add(event.dataTransfer?.files ?? []); }}>
    <${Icon} name="upload" size=${26} />
    <p><b>${t("films.drop")}</b><br /><span class="soft">${t("films.dropHint")}</span></p>
    <input ref=${input} class="visually-hidden" type="file" multiple tabindex="-1" aria-label=${t("films.choose")}
      accept=${TYPES.map((type) => `.${type}`).join(",")}
      onChange=${(/** @type {Event} */ event) => {
        const field = /** @type {HTMLInputElement} */ (event.target);
        add(field.files ?? []);
        field.value = ""; // so that the same file can be chosen again
      }} />
    <${Button} kind="primary" onClick=${() => input.current?.click()}>${t("films.choose")}<//>
  </div>
  ${refused.length > 0 && html`<p class="error" role="alert">${t("films.unknownType", { names: refused.join(", ") })}</p>`}
  ${uploads.value.length > 0 && html`<ul class="uploads" aria-label=${t("films.uploads")}>
    ${uploads.value.map((one) => html`<${Row} key=${one.id} upload=${one} path=${path}
      job=${jobs.find((job) => job.source === one.key)} />`)}
  </ul>`}`;
}

/** @param {{upload: Upload, path: string, job?: import("./model.js").Job}} props  job: of the uploaded file */
function Row({ upload, path, job }) {
  const { file } = upload;
  const { state, sent, speed, error, status } = upload.progress.value;
  const share = file.size ? sent / file.size : 0;
  const rest = speed > 0 ? (file.size - sent) / speed : null;
  const running = state === "waiting" || state === "sending";
  const drop = () => { uploads.value = uploads.peek().filter((one) => one !== upload); };
  const again = () => { upload.retry(); next(path); };
  const failed = state === "failed" || (state === "done" && job?.state === "ERROR");
  const words = {
    waiting: t("films.waiting"),
    sending: share >= 1 ? t("films.storing") : [`${percent(share)}`, t("films.of", { sent: bytes(sent), all: bytes(file.size) }),
      speed > 0 ? t("films.speed", { speed: bytes(speed) }) : "",
      rest !== null && rest > 1 ? t("films.left", { time: span(rest) }) : ""].filter(Boolean).join(" · "),
    done: job?.state === "ERROR" ? t("films.sentFailed", { reason: job.error ?? "" })
      : t(job?.state === "COMPLETE" ? "films.sentComplete" : "films.sent", { size: bytes(file.size) }),
    canceled: t("films.uploadCanceled"),
    failed: error || (upload.tooLarge ? t("films.tooLarge", { size: bytes(S3_BYTES) })
      : status ? t("films.refused", { status: number(status) }) : t("films.broken")),
  }[state];
  return html`<li class=${`upload is-${failed ? "failed" : state}`}>
    <span class="upload-name" title=${file.name}>${file.name}</span>
    <span class="upload-acts">
      ${state === "failed" && html`<${Button} small onClick=${again}>${t("films.again")}<//>`}
      ${running ? html`<${IconButton} icon="close" label=${t("films.cancelOf", { name: file.name })}
        onClick=${() => { upload.cancel(); next(path); }} />`
        : html`<${IconButton} icon="close" label=${t("films.forgetOf", { name: file.name })} onClick=${drop} />`}
    </span>
    ${running && html`<progress max="1" value=${state === "sending" ? share : undefined}
      aria-label=${t("films.progressOf", { name: file.name })}></progress>`}
    <span class=${failed ? "error" : "soft"} role=${failed ? "alert" : undefined}>${words}</span>
  </li>`;
}
