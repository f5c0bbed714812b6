/** The form of one input, with the fields of its kind. */

import { useEffect, useRef, useState } from "preact/hooks";

import { api, ApiError, isAbort } from "../../../players/api.js";
import { Dialog } from "../../dialog.js";
import { nameOf } from "../../channel.js";
import { instant, moment, percent, span } from "../../format.js";
import { t } from "../../i18n.js";
import { Button, Field, html, Notice, Select, Switch } from "../../ui.js";
import { TYPES } from "../films/model.js";
import { Upload } from "../films/upload.js";
import { MOST, showAt } from "../parts/broadcasts.js";
import { shows } from "../recordings/shows.js";
import { freeName, hasTime, MEMBERS, stored, wrongField } from "./input_list.js";
import { PlaylistItems } from "./playlist_items.js";

/** @typedef {import("./input_list.js").Stored} Stored */
/** @typedef {{value: string, label: string}} Option */
/** @typedef {import("../recordings/feed.js").Kept & {channel: string}} Recording */

const PICTURES = ["jpg", "jpeg", "png", "webp", "gif"]; // suffixes of the pictures that the gateway accepts
const SECONDS = 5; // of a new rule for thin inputs
const LISTED = 100; // films, or snapshots, to choose from
const LISTED_FILES = 500; // of recordings, which are chosen by show; the most that the API lists

/**
 * @param {{channel: import("../../channel.js").Channel, inputs: readonly import("./input_list.js").Input[], index: number,
 *   kind: import("./input_list.js").Kind, save: (list: Stored[]) => Promise<void>, onClose: () => void}} props
 *   index: the input's place in the list; the list's length for a new one
 */
export function InputEditor({ channel, inputs, index, kind, save, onClose }) {
  const [known] = useState(() => inputs[index]);
  /** @type {[Stored, import("preact/hooks").Dispatch<any>]} */
  const [draft, setDraft] = useState(() => known ? stored(known) : { name: freeName(inputs, kind), kind, ...MEMBERS[kind] });
  const [busy, setBusy] = useState(false);
  const [wrong, setWrong] = useState(/** @type {Record<string, string>} */ ({}));
  const set = (/** @type {Partial<Stored>} */ changes) => {
    setDraft((/** @type {Stored} */ now) => ({ ...now, ...changes })); // an upload ends when other fields may have changed
    setWrong({});
  };

  const submit = async () => {
    if (busy) return;
    const { name, url, items } = draft;
    if (!name.trim()) return setWrong({ name: t("inputs.name.missing") });
    if (kind === "pull" && !url?.trim()) return setWrong({ url: t("inputs.url.missing") });
    if (kind === "playlist" && !items?.length) return setWrong({ items: t("inputs.items.missing") });
    setBusy(true);
    try {
      const list = inputs.map(stored);
      const place = known ? list.findIndex((input) => input.name === known.name) : -1;
      const input = { ...draft, name: name.trim(), ...url !== undefined && { url: url.trim() } };
      if (place < 0) list.push(input);
      else list[place] = input;
      await save(list);
      onClose();
    } catch (error) {
      setBusy(false);
      if (isAbort(error)) return;
      if (!(error instanceof ApiError)) throw error;
      setWrong({ [wrongField(error.message, kind) || "form"]: error.message });
    }
  };
  const always = html`<${Switch} label=${t(`inputs.always.${kind === "pull" ? "pull" : "other"}`)} checked=${draft.always}
    hint=${t(`inputs.always.${kind === "pull" ? "pull" : "other"}.hint`)}
    onChange=${(/** @type {boolean} */ on) => set({ always: on })} />`;
  return html`<${Dialog} title=${known ? t("inputs.edit", { name: known.name }) : t(`inputs.add.${kind}`)} onClose=${onClose}
      onSubmit=${submit} footer=${html`<${Button} onClick=${onClose}>${t("cancel")}<//>
        <${Button} kind="primary" type="submit" busy=${busy}>${t(known ? "inputs.save" : "inputs.add.do")}<//>`}>
    <p class="hint">${t(`inputs.about.${kind}`)}</p>
    <${Field} label=${t("inputs.name")} name="name" value=${draft.name} error=${wrong["name"]} hint=${t("inputs.name.hint")} required
      maxlength=${32} autocomplete="off" spellcheck=${false} onInput=${(/** @type {string} */ name) => set({ name })} />
    ${kind === "pull" && html`<${Field} label=${t("inputs.url")} name="url" value=${draft.url} error=${wrong["url"]} required
      hint=${t("inputs.url.hint")} placeholder="rtsp://camera.example.com/stream" autocomplete="off" spellcheck=${false}
      onInput=${(/** @type {string} */ url) => set({ url })} />${always}`}
    ${"below" in MEMBERS[kind] && html`<${BelowRule} below=${draft.below ?? null} error=${wrong["below"]}
      onChange=${(/** @type {import("./input_list.js").Below | null} */ below) => set({ below })} />`}
    ${kind === "playlist" && html`<${Items} channel=${channel} draft=${draft} error=${wrong["items"]} set=${set} />
      ${draft.items?.some(hasTime) && html`<${Select} label=${t("inputs.zone")} value=${draft.zone ?? ""} error=${wrong["zone"]}
        options=${zones(draft.zone)} onChange=${(/** @type {string} */ zone) => set({ zone })} />`}
      <${Switch} label=${t("inputs.loop")} checked=${draft.loop} onChange=${(/** @type {boolean} */ loop) => set({ loop })} />${always}`}
    ${kind === "slate" && html`<${Slate} channel=${channel} draft=${draft} wrong=${wrong} set=${set} />${always}`}
    ${wrong["form"] && html`<${Notice} kind="bad" role="alert">${wrong["form"]}<//>`}
  <//>`;
}

/**
 * The rule by which an input is left although it delivers. Without a bit rate there is none.
 * @param {{below: import("./input_list.js").Below | null, error?: string,
 *   onChange: (below: import("./input_list.js").Below | null) => void}} props
 */
const BelowRule = ({ below, error, onChange }) => html`<${Field} label=${t("inputs.below")} name="below" type="number" min=${1}
    max=${1e6} value=${below?.kbps ?? ""} error=${error} hint=${t("inputs.below.hint")} after="kbit/s"
    onInput=${(/** @type {string} */ kbps) => onChange(kbps ? { seconds: SECONDS, ...below, kbps: Number(kbps) } : null)} />
  ${below && html`<${Field} label=${t("inputs.below.seconds")} name="seconds" type="number" min=${1} max=${60} value=${below.seconds}
    required after="s" onInput=${(/** @type {string} */ seconds) => onChange({ ...below, seconds: Number(seconds) })} />`}`;

/** The time zones that this browser knows, and the stored one. @param {string} [known] @returns {Option[]} */
const zones = (known = "") => ["", ...new Set([...known ? [known] : [], ...Intl.supportedValuesOf("timeZone")])]
  .map((zone) => ({ value: zone, label: zone || "UTC" }));

/**
 * The videos of a playlist, and a list to choose from.
 * @param {{channel: import("../../channel.js").Channel, draft: Stored, error?: string, set: (changes: Partial<Stored>) => void}} props
 */
function Items({ channel, draft: { items = [] }, error, set }) {
  const { films, recordings, broadcasts, trouble } = useMedia(channel.id, "video", (film) => `${film.key}/`);
  const whole = shows(recordings).map(({ items: files }) => {
    const first = files.at(-1);
    const when = moment(first?.start);
    // The middle of a file is certainly within its show.
    const name = showAt(broadcasts, Number(instant(first?.start)) + (first?.seconds ?? 0) * 500)?.title || nameOf(channel);
    const length = span(files.reduce((sum, { seconds }) => sum + (seconds ?? 0), 0));
    return { value: files.map(({ key }) => key).reverse().join("\n"), label: t("inputs.choice.show", { n: files.length, name, when, length }) };
  });
  return html`<${PlaylistItems} items=${items} options=${[...films, ...recordings.map(optionOf)]} error=${error}
      onChange=${(/** @type {string[]} */ next) => set({ items: next })} />
    <${Picker} label=${t("inputs.items.add")} options=${[...films, ...whole]} trouble=${trouble}
      onPick=${(/** @type {string} */ keys) => set({ items: [...items, ...keys.split("\n")] })} />`;
}

/**
 * What a slate shows: a picture or a film, or a card with a text.
 * @param {{channel: {id: string}, draft: Stored, wrong: Record<string, string>, set: (changes: Partial<Stored>) => void}} props
 */
function Slate({ channel, draft: { picture = "", text = "" }, wrong, set }) {
  const { films, recordings, trouble } = useMedia(channel.id, "image", (film) => film.source);
  return html`<${Field} label=${t("inputs.picture.label")} name="picture" value=${picture} error=${wrong["picture"]}
      hint=${t("inputs.picture.hint")} autocomplete="off" spellcheck=${false}
      onInput=${(/** @type {string} */ typed) => set({ picture: typed.trim() })} />
    <${Uploader} onDone=${(/** @type {string} */ key) => set({ picture: key })} />
    <${Picker} label=${t("inputs.picture.choose")} options=${[...films, ...recordings.map(optionOf)]} trouble=${trouble}
      onPick=${(/** @type {string} */ key) => set({ picture: key })} />
    ${!picture && html`<${Field} label=${t("inputs.text")} name="text" value=${text} rows=${2} error=${wrong["text"]} maxlength=${500}
      placeholder=${t("inputs.card.text")} onInput=${(/** @type {string} */ typed) => set({ text: typed })} />`}`;
}

/** Uploads a picture or a video. @param {{onDone: (key: string) => void}} props */
function Uploader({ onDone }) {
  const input = useRef(/** @type {HTMLInputElement | null} */ (null));
  const [upload, setUpload] = useState(/** @type {Upload | null} */ (null));
  const progress = upload?.progress.value;
  useEffect(() => () => upload?.cancel(), [upload]);
  const choose = async (/** @type {Event} */ event) => {
    const field = /** @type {HTMLInputElement} */ (event.target);
    const [file] = field.files ?? [];
    field.value = ""; // so that the same file can be chosen again
    if (!file) return;
    const begun = new Upload(file);
    setUpload(begun);
    await begun.start();
    if (begun.progress.peek().state === "done") onDone(begun.key);
  };
  const sending = progress && (progress.state === "sending" || progress.state === "waiting");
  return html`<div class="row">
    <input ref=${input} class="visually-hidden" type="file" tabindex="-1" aria-label=${t("inputs.upload")}
      accept=${[...PICTURES, ...TYPES].map((type) => `.${type}`).join(",")} onChange=${choose} />
    <${Button} small icon="upload" busy=${sending} onClick=${() => input.current?.click()}>${t("inputs.upload")}<//>
    <span class="hint" role="status">${sending && upload ? percent(upload.file.size ? progress.sent / upload.file.size : 0) : ""}</span>
    ${progress?.state === "failed" && html`<p class="error" role="alert">${t("inputs.upload.failed", { reason: progress.error })}</p>`}
  </div>`;
}

/**
 * A list from which each choice is taken at once.
 * @param {{label: string, options: Option[], trouble: string, onPick: (key: string) => void}} props
 */
const Picker = ({ label, options, trouble, onPick }) => trouble
  ? html`<p class="hint">${t("inputs.choices.failed", { reason: trouble })}</p>`
  : options.length > 0 && html`<${Select} label=${label} value="" options=${[{ value: "", label: t("inputs.choose") }, ...options]}
    onChange=${(/** @type {string} */ key) => { if (key) onPick(key); }} />`;

/** @param {Recording} file @returns {Option} */
const optionOf = ({ kind, key, start }) => ({ value: key, label: t(`inputs.choice.${kind}`, { when: moment(start, { seconds: true }) }) });

/**
 * Loads films, the channel's recordings of one kind, and its shows for those of video.
 * @param {string} id @param {"video" | "image"} kind @param {(film: import("../films/model.js").Film) => string} keyOf
 * @returns {{films: Option[], recordings: Recording[], broadcasts: import("../parts/broadcasts.js").Show[], trouble: string}}
 */
function useMedia(id, kind, keyOf) {
  const [found, setFound] = useState({ films: /** @type {Option[]} */ ([]), recordings: /** @type {Recording[]} */ ([]),
    broadcasts: /** @type {import("../parts/broadcasts.js").Show[]} */ ([]), trouble: "" });
  useEffect(() => {
    const gone = new AbortController();
    const { signal } = gone;
    Promise.all([
      api.get(`/films?limit=${LISTED}`, { signal }),
      api.get(`/videostream/${encodeURIComponent(id)}/recordings?kind=${kind}&limit=${kind === "video" ? LISTED_FILES : LISTED}`, { signal }),
      kind === "video" ? api.get(`/videostream/${encodeURIComponent(id)}/shows?limit=${MOST}`, { signal }) : [],
    ]).then(([films, recordings, broadcasts]) => setFound({
      broadcasts,
      films: films.filter((/** @type {any} */ film) => film.state === "READY").map((/** @type {any} */ film) => (
        { value: keyOf(film), label: t("inputs.choice.film", { title: film.title || film.key }) })),
      recordings: recordings.map((/** @type {any} */ one) => ({ ...one, channel: id })),
      trouble: "",
    }), (error) => { if (!isAbort(error)) setFound({ films: [], recordings: [], broadcasts: [], trouble: error.message }); });
    return () => gone.abort();
  }, [id, kind]);
  return found;
}
