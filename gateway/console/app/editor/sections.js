/** The sections of the channel editor: the gateway lists the fields of a section, and a layout arranges them. */

import { computed } from "@preact/signals";
import { useRef } from "preact/hooks";

import { isOn, mayEmbed, RUNGS } from "../channel.js";
import { t } from "../i18n.js";
import { installed } from "../installed_outputs.js";
import { channelHref } from "../router.js";
import { html, Notice, Select } from "../ui.js";
import { Targets } from "../views/channel/simulcast.js";
import { ColorField } from "../views/site.js";
import { allFields, ownFields } from "./fields.js";
import { always, choices, renditionOf } from "./ladders.js";
import { Entry } from "./parts.js";
import { cssColor, WatermarkStage } from "./watermark.js";

/** @typedef {import("../channel.js").Channel} Channel */
/** @typedef {import("../channel.js").Session} Session */
/** @typedef {import("./parts.js").Form} Form */
/** @typedef {(name: string) => boolean} Match  whether a field is searched for */
/** @typedef {{form: Form, channel: Channel, session: Session | null, match?: Match}} SectionProps */
/** @typedef {{view: (props: SectionProps) => any, names: string[]}} Part  a part with its own view. names: the fields it shows */
/** One control, or columns with one control or several below each other. @typedef {string | (string | string[])[] | Part} Row */
/** @typedef {{icon: import("../kit/icon.js").IconName, rows: Row[]}} Layout  rows: fields without a row come below */
/** @typedef {{id: string, icon: import("../kit/icon.js").IconName, view: (props: SectionProps) => any, fields: string[]}} Section */

const DEFAULT_SIZE = { width: 1280, height: 720 };
const SIZES = ["masterSize", "slaveSize", "recordSize", "codecSize"];
const WATERMARK = [
  "isWaterMark", "WaterMarkText", "WaterMarkFontSize", "WaterMarkFontColor", "isImageWaterMark", "ImageURL", "ImageWidth", "ImageHeight",
  "WaterMarkLeft", "WaterMarkTop",
];

/**
 * Keeps the first address. A protected address gets a new signature with every answer, but the picture is the same.
 * @param {string | null} address
 */
function usePicture(address) {
  const first = useRef(address);
  if (address === null || first.current === null) first.current = address;
  return first.current;
}

/** @param {SectionProps} props */
function Watermark({ form, channel, session }) {
  const video = session?.tracks.find((track) => track.kind === "video");
  const size = video?.["width"] && video["height"] ? { width: Number(video["width"]), height: Number(video["height"]) } : DEFAULT_SIZE;
  const base = channel.playUrls["flv"] ?? channel.playUrls["hls"] ?? channel.playUrls["cmaf"];
  const live = session?.state === "live" && video !== undefined;
  // Requested only if it surely exists: a live picture whose address is open or signed.
  let picture = null;
  if (live && base && channel["playAuth"] !== "cloudfront" && mayEmbed(channel, base)) {
    const url = new URL(base);
    url.pathname = url.pathname.replace(/[^/]*$/, "snapshot.jpg");
    picture = url.href;
  }
  const marked = isOn(channel["isWaterMark"]) || isOn(channel["isImageWaterMark"]);
  const isNew = live && !marked && channel["WaterMarkLeft"] === undefined && channel["WaterMarkTop"] === undefined;
  const origins = [location.origin, ...(base ? [new URL(base).origin] : [])];
  const { color } = cssColor(form.draft["WaterMarkFontColor"]);
  const swatch = html`<input type="color" class="swatch" aria-label=${t("watermark.pick")}
    value=${/^#[0-9a-f]{6}$/.test(color) ? color : "#ff0000"}
    onInput=${(/** @type {Event} */ event) => form.set({ WaterMarkFontColor: /** @type {HTMLInputElement} */ (event.target).value })} />`;
  const move = (/** @type {number} */ left, /** @type {number} */ top) =>
    form.set({ WaterMarkLeft: String(left), WaterMarkTop: String(top) });
  return html`
    <div class="columns">
      <div class="stack"><${Entry} form=${form} name="isWaterMark" />
        <${Entry} form=${form} name="WaterMarkText" />
        <div class="columns tight">
          <${Entry} form=${form} name="WaterMarkFontSize" />
          <${Entry} form=${form} name="WaterMarkFontColor" unit=${swatch} />
        </div></div>
      <div class="stack"><${Entry} form=${form} name="isImageWaterMark" />
        <${Entry} form=${form} name="ImageURL" />
        <div class="columns tight"><${Entry} form=${form} name="ImageWidth" /><${Entry} form=${form} name="ImageHeight" /></div></div>
    </div>
    <div class="columns tight places-fields"><${Entry} form=${form} name="WaterMarkLeft" />
      <${Entry} form=${form} name="WaterMarkTop" /></div>
    <p class="hint">${live ? t(marked ? "watermark.live.marked" : "watermark.live") : t("watermark.idle", size)}</p>
    <${WatermarkStage} draft=${form.draft} size=${size} isNew=${isNew} picture=${usePicture(picture)} pictureOrigins=${origins} onMove=${move} />`;
}

/** The ladder, and its renditions by height and rate. @param {SectionProps} props */
function Ladder({ form }) {
  const name = form.draft["ladder"];
  const rungs = RUNGS.map((rung) => ({ rung, ...renditionOf(name, rung) })).filter(({ label }) => label);
  const kept = always(name);
  return html`<${Select} label=${t("field.ladder")} name="ladder" value=${name} options=${choices(name)} hint=${t("field.ladder.hint")}
      error=${form.errors["ladder"]} onChange=${(/** @type {string} */ ladder) => form.set({ ladder })} />
    <div class="columns">${rungs.map(({ rung, ...texts }) => html`<${Entry} key=${rung} form=${form} name=${rung} ...${texts} />`)}</div>
    ${kept && html`<p class="hint">${t("transcoding.always", { what: kept })}</p>`}
    ${form.draft["isCodec"] && !kept && !rungs.some(({ rung }) => form.draft[rung])
      && html`<${Notice} kind="warn">${t("transcoding.empty")}<//>`}`;
}

/** The targets are stored at once, as on the channel's page. @param {SectionProps} props */
const Simulcast = ({ form, channel, session }) => html`<div class="is-simulcast"><${Targets} channel=${channel} session=${session}
  onChanged=${form.reload} /></div>`;
const SIMULCAST = { view: Simulcast, names: ["isRelay", "relayURL"] };

/** @param {SectionProps} props */
const PosterLink = ({ channel }) => html`<p class="hint"><a href=${channelHref(channel.id)}>${t("first.poster")}</a></p>`;

/** @param {SectionProps} props */
const TaskSizes = ({ form, channel }) => html`
  <p class="hint">${t("scale.hint")}</p>
  <div class="columns tight">${SIZES.map((name) => entry(name, { form, channel, session: null }))}</div>`;

/** The poster is changed on the channel's page. @param {SectionProps} props */
const Color = ({ form }) => html`<${ColorField} label=${t("field.color")} hint=${t("field.color.hint")} value=${form.draft["color"]}
  error=${form.errors["color"]} onInput=${(/** @type {string} */ color) => form.set({ color })} />`;

const LOOK = { view: Color, names: ["color", "poster"] };

/** By the group of the fields. A group that is not listed has its fields one below the other. @type {Record<string, Layout>} */
const LAYOUTS = {
  basics: { icon: "edit", rows: ["videoname", "description", "slug", LOOK, "chat", "isPublic", "outdate", "isRtmps"] },
  playback: {
    icon: "shield", rows: [["isFlv", "isHls", "isCMAF"], ["hls_time", "hls_list_size"], ["playAuth", "refererAllow"], "audioTracks", "captions", ["maxKbps", "maxViewerMbps"], ["srtPassphrase", "srtPort"]],
  },
  recording: {
    icon: "record",
    rows: [
      [["isVideo", "video_time", "recordTracks"], ["isOnDemand", "rewind", "ondemand_time", "ondemand_list_size", "isReplay"]],
      ["recordSchedule", "retentionDays"],
    ],
  },
  pictures: {
    icon: "image",
    rows: [[["isImage", "image_time"], ["isMotion", "motion_diff", "motion_percent", "motion_duration", "motion_timeout"]]],
  },
  transcoding: { icon: "films", rows: ["isCodec", { view: Ladder, names: [...RUNGS, "ladder"] }, "codec"] },
  watermark: { icon: "text", rows: [{ view: Watermark, names: WATERMARK }] },
  captions: { icon: "text", rows: [["isCaption", "captionLanguage"]] },
  relay: { icon: "relay", rows: [SIMULCAST, "relayTracks"] },
  kinesis: { icon: "ivs", rows: ["isKvs", "kvsStream", "kvsTranscode"] },
  inputs: { icon: "relay", rows: ["inputsManual", "inputsMatch"] },
  scale: { icon: "server", rows: [{ view: TaskSizes, names: SIZES }, ["isCluster", "clusterNumber"]] },
  log: { icon: "docs", rows: ["logLevel"] },
};

/** What a first show needs. @type {Record<string, Layout>} */
const FIRST = {
  show: { icon: "edit", rows: ["videoname", "description", "slug"] },
  look: { icon: "image", rows: [LOOK, { view: PosterLink, names: [] }] },
  recording: { icon: "record", rows: ["isOnDemand", "isReplay"] },
  captions: { icon: "text", rows: [["isCaption", "captionLanguage"]] },
  relay: { icon: "relay", rows: [SIMULCAST] },
  protection: { icon: "shield", rows: ["playAuth", "isPublic"] },
};

/** @param {Row} row @returns {string[]} the fields in it */
const namesIn = (row) => (typeof row === "string" ? [row] : Array.isArray(row) ? row.flat() : row.names);

/**
 * Whether the editor shows a field. One without an effect on this gateway is shown only if the channel has a value in it.
 * @param {string} name @param {Record<string, any>} channel
 */
const isShown = (name, channel) => allFields.value[name]?.used !== false || ![undefined, null, "", false].includes(channel[name]);

/** @param {string} name @param {SectionProps} props */
const entry = (name, { form, channel, match }) => isShown(name, channel) && (!match || match(name)) && html`<${Entry} key=${name} form=${form} name=${name} />`;

/** @param {Row} row @param {SectionProps} props */
function shown(row, props) {
  if (typeof row === "string") return entry(row, props);
  if (!Array.isArray(row)) return (!props.match || row.names.some(props.match)) && html`<${row.view} ...${props} />`;
  if (props.match) return row.flat().map((name) => entry(name, props)); // columns would have gaps
  return html`<div class="columns">${row.map((cell) => (typeof cell === "string"
    ? entry(cell, props)
    : html`<div class="stack" key=${cell[0]}>${cell.map((name) => entry(name, props))}</div>`))}</div>`;
}

/** @param {string} group @param {string[]} fields @returns {Section} */
function sectionOf(group, fields) {
  const { icon, rows } = LAYOUTS[group] ?? { icon: "plus", rows: [] };
  const placed = new Set(rows.flatMap(namesIn));
  return made(group, { icon, rows: [...rows, ...fields.filter((name) => !placed.has(name))] }, fields);
}

/** @param {string} id @param {Layout} layout @param {string[]} [fields] @returns {Section} */
function made(id, { icon, rows }, fields = rows.flatMap(namesIn)) {
  return { id, icon, fields, view: (props) => html`${rows.map((row) => shown(row, props))}` };
}

/** The sections of the short form. */
export const firstSections = Object.entries(FIRST).map(([id, layout]) => made(id, layout));

/** In the order of the page; the gateway's fields do not change while the page is open. */
const ownSections = computed(() => {
  /** @type {Map<string, string[]>} */
  const groups = new Map();
  for (const { name, group = "" } of ownFields.value) groups.set(group, [...(groups.get(group) ?? []), name]);
  return [...groups].map(([group, fields]) => sectionOf(group, fields));
});

/** The fields of installed outputs, an output below the other. @param {SectionProps} props */
const Installed = (props) => html`${installed.value.map((output) => html`<div class="stack" key=${output.name}>
  ${output.fields.map((field) => entry(field.name, props))}</div>`)}`;

/** @param {Record<string, any>} channel @param {Match} match @returns {Section[]} those with a field that is shown */
export function sections(channel, match) {
  const fields = installed.value.flatMap((output) => output.fields.map((field) => field.name));
  /** @type {Section[]} */
  const all = [...ownSections.value, { id: "installed", icon: "plus", view: Installed, fields }];
  return all.filter((section) => section.fields.some((name) => isShown(name, channel) && match(name)));
}
