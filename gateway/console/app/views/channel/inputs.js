/** The inputs of a channel: their order, states and pictures, the one on air, and the way to add another. */

import { useEffect, useState } from "preact/hooks";

import { api } from "../../../players/api.js";
import { ask } from "../../dialog.js";
import { allFields, loadFields } from "../../editor/fields.js";
import { t } from "../../i18n.js";
import { refresh, usePoll } from "../../poll.js";
import { administers, observes } from "../../session.js";
import { Badge, Button, Card, Chip, classes, CopyField, html, IconButton, Menu } from "../../ui.js";
import { errorText } from "../parts/errors.js";
import { attempt } from "../parts/trouble.js";
import { FieldSwitch } from "./channel_switch.js";
import { InputEditor } from "./input_editor.js";
import { ADDED, hasTime, MOST, moved, partsOf, stored } from "./input_list.js";
import { ICONS, InputPicture } from "./input_picture.js";

/** @typedef {import("../../channel.js").Channel} Channel */
/** @typedef {import("./input_list.js").Input} Input */
/** @typedef {import("./input_list.js").Kind} Kind */
/** @typedef {import("./input_list.js").Stored} Stored */

const EVERY = 2000;       // ms between two requests for the states of several inputs
const EVERY_ONE = 15_000; // ms; a single input changes only by an editor

/** @type {Readonly<Record<import("./input_list.js").State, [words: string, tone: import("../../kit/status.js").Tone]>>} */
const STATES = { off: ["off", "idle"], connecting: ["connecting", "info"], ready: ["ready", "ok"], "on air": ["onAir", "bad"],
  failed: ["failed", "bad"] };

/** Returns the inputs of a channel, updated while they are shown. @param {Channel | null} channel @returns {Input[] | null} */
export function useInputs(channel) {
  const several = Array.isArray(channel?.["inputs"]) && channel["inputs"].length > 1;
  return usePoll(channel && pathOf(channel), several ? EVERY : EVERY_ONE).value.data;
}

/** @param {Channel} channel */
const pathOf = ({ id }) => `/videostream/${encodeURIComponent(id)}/inputs`;

/** @param {{channel: Channel, inputs: Input[], onChanged: () => void}} props */
export function Inputs({ channel, inputs, onChanged }) {
  const [edited, setEdited] = useState(/** @type {{kind: Kind, index: number} | null} */ (null)); // index: its place in the list
  const path = pathOf(channel);
  const changed = () => { refresh(path); onChanged(); };
  const save = async (/** @type {Stored[]} */ list) => {
    await api.put(path, list);
    changed();
  };
  const add = (/** @type {Kind} */ kind) => setEdited({ kind, index: inputs.length });
  const editor = edited && html`<${InputEditor} inputs=${inputs} channel=${channel} ...${edited} save=${save}
    onClose=${() => setEdited(null)} />`;

  if (inputs.length < 2) {
    return administers.value && html`<${Card} title=${t("inputs.title")} class="is-inputs">
      <p class="hint gap">${t("inputs.why")}</p>
      <div class="row">${ADDED.map((kind) => html`<${Button} key=${kind} small icon="plus"
        onClick=${() => add(kind)}>${t(`inputs.add.${kind}`)}<//>`)}</div>${editor}
    <//>`;
  }
  return html`<${Card} title=${t("inputs.title")} class="is-inputs several" actions=${administers.value && inputs.length < MOST
      && html`<${Menu} label=${t("inputs.add")} icon="plus" items=${ADDED.map((kind) => ({
        label: t(`inputs.add.${kind}`), icon: ICONS[kind], onSelect: () => add(kind),
      }))}>${t("inputs.add")}<//>`}>
    <p class="hint gap">${t("inputs.order")}</p>
    <ol class="inputs" aria-label=${t("inputs.title")}>${inputs.map((input, index) => html`<${Row} key=${input.name}
      channel=${channel} inputs=${inputs} index=${index} save=${save} changed=${changed}
      onEdit=${() => setEdited({ kind: input.kind, index })} />`)}</ol>
    ${administers.value && html`<${Choices} channel=${channel} onChanged=${onChanged} />`}
    ${editor}
  <//>`;
}

/**
 * One input of the list.
 * @param {{channel: Channel, inputs: Input[], index: number, save: (list: Stored[]) => Promise<void>, changed: () => void,
 *   onEdit: () => void}} props
 */
function Row({ channel, inputs, index, save, changed, onEdit }) {
  const input = /** @type {Input} */ (inputs[index]);
  const { name, kind, state, error, taken } = input;
  const [busy, setBusy] = useState(false);
  const path = pathOf(channel);
  const [words, tone] = STATES[state] ?? STATES.off;
  const run = async (/** @type {() => Promise<unknown>} */ work, /** @type {string} */ done) => {
    setBusy(true);
    await attempt(work, done);
    setBusy(false);
    changed();
  };
  const take = () => run(() => api.post(`${path}/${encodeURIComponent(name)}/take`), t("inputs.taken", { name }));
  const release = () => run(() => api.delete(`${path}/take`), t("inputs.released"));
  const move = (/** @type {-1 | 1} */ step) => run(() => save(moved(inputs, index, step)), "");
  const remove = () => ask({
    title: t("inputs.remove.title", { name }), danger: true, confirm: t("inputs.remove"),
    text: t(state === "on air" ? "inputs.remove.onAir" : kind === "backup" ? "inputs.remove.backup" : "inputs.remove.text"),
    run: () => save(inputs.filter((_, i) => i !== index).map(stored)),
  });
  return html`<li class=${classes("input", state === "on air" && "is-on-air")} aria-label=${name}>
    <${InputPicture} path=${path} input=${input} />
    <div class="input-words">
      <div class="input-name"><b>${name}</b> <${Chip}>${t(`inputs.kind.${kind}`)}<//>
        <${Badge} kind=${tone}>${t(`inputs.state.${words}`)}<//>
        ${taken && html`<${Badge} kind="warn">${t("inputs.byHand")}<//>`}</div>
      <p class="sub">${summary(input)}${input.below && ` · ${t("inputs.below.short", { ...input.below })}`}</p>
      ${error && html`<p class="error">${errorText(error)}</p>`}
      <div class="input-acts">
        ${observes.value ? "" : taken
          ? html`<${Button} small icon="auto" busy=${busy} title=${t("inputs.automatic.hint")}
            onClick=${release}>${t("inputs.automatic")}<//>`
          : state !== "on air" && html`<${Button} small kind=${state === "ready" ? "primary" : "plain"} icon="live"
            aria-label=${t("inputs.takeOf", { name })} disabled=${state !== "ready"} busy=${busy}
            title=${t(state === "ready" ? "inputs.take.hint" : "inputs.take.not")} onClick=${take}>${t("inputs.take")}<//>`}
        ${administers.value && html`
          <span class="input-edits"><${Mover} icon="up" label=${t("inputs.up", { name })} last=${index === 0} onMove=${() => move(-1)} />
          <${Mover} icon="down" label=${t("inputs.down", { name })} last=${index === inputs.length - 1} onMove=${() => move(1)} />
          <${IconButton} icon="edit" label=${t("inputs.edit", { name })} onClick=${onEdit} />
          ${kind !== "push" && html`<${IconButton} icon="delete" label=${t("inputs.remove.title", { name })} onClick=${remove} />`}</span>`}
      </div>
    </div>
    ${kind === "backup" && input.pushUrl && html`<${PushAddress} input=${input} />`}
  </li>`;
}

/**
 * A button that moves an input. At the end of the list it stays focusable, so that the keyboard keeps its place.
 * @param {{icon: "up" | "down", label: string, last: boolean, onMove: () => void}} props
 */
const Mover = ({ icon, label, last, onMove }) => html`<${IconButton} icon=${icon} label=${label}
  aria-disabled=${last ? "true" : undefined} onClick=${() => { if (!last) onMove(); }} />`;

/** What the input is, in a few words. @param {Input} input @returns {any} */
function summary({ kind, url, items = [], loop, zone, picture, text }) {
  switch (kind) {
    case "pull": return html`<code>${url}</code>`;
    case "playlist": return [t("inputs.items", { n: items.length }), ...(loop ? [t("inputs.loops")] : []),
      ...(items.some(hasTime) ? [t("inputs.timed", { zone: zone || "UTC" })] : [])].join(" · ");
    case "slate": return picture ? html`<code>${picture}</code>` : t("inputs.card", { text: text || t("inputs.card.text") });
    default: return t(`inputs.what.${kind}`);
  }
}

/** Where to push a backup. Hidden at first, because it contains the key. @param {{input: Input}} props */
function PushAddress({ input: { name, pushUrl = "", pushUrls = {} } }) {
  const [shown, setShown] = useState(false);
  const { server, key } = partsOf(pushUrl);
  return html`<div class="input-address">
    <${Button} small kind="quiet" icon=${shown ? "eye-off" : "eye"} aria-expanded=${shown ? "true" : "false"}
      onClick=${() => setShown(!shown)}>${t(shown ? "inputs.address.hide" : "inputs.address", { name })}<//>
    ${shown && html`<div class="stack">
      <${CopyField} label=${t("push.server")} name=${t("inputs.address.of", { what: t("push.server"), name })} value=${server} />
      <${CopyField} label=${t("push.key")} name=${t("inputs.address.of", { what: t("push.key"), name })} value=${key}
        hint=${t("push.key.hint")} />
      <${CopyField} label=${t("push.url")} name=${t("inputs.address.of", { what: t("push.url"), name })} value=${pushUrl} />
      ${pushUrls["srt"] && html`<${CopyField} label=${t("srt.url")} name=${t("inputs.address.of", { what: t("srt.url"), name })}
        value=${pushUrls["srt"]} hint=${t("srt.url.hint")} />`}
    </div>`}
  </div>`;
}

/** How the gateway chooses. @param {{channel: Channel, onChanged: () => void}} props */
function Choices({ channel, onChanged }) {
  useEffect(() => void attempt(loadFields), []);
  const choice = (/** @type {string} */ field, /** @type {string} */ label, /** @type {string} */ hint) => html`<${FieldSwitch}
    channel=${channel} field=${field} label=${label} hint=${hint} onChanged=${onChanged} />`;
  return html`<div class="input-choices">
    ${choice("inputsManual", t("inputs.manual"), t("inputs.manual.hint"))}
    ${"inputsMatch" in allFields.value && choice("inputsMatch", t("inputs.match"), t("inputs.match.hint"))}
  </div>`;
}
