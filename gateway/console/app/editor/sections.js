/** The sections of the channel editor. */

import { useRef } from "preact/hooks";

import { isOn, mayEmbed, zoneName } from "../channel.js";
import { t } from "../i18n.js";
import { installed } from "../installed_outputs.js";
import { html, Notice } from "../ui.js";
import { Entry, Targets } from "./parts.js";
import { cssColor, WatermarkStage } from "./watermark.js";

/** @typedef {import("../channel.js").Channel} Channel */
/** @typedef {import("../channel.js").Session} Session */
/** @typedef {import("./parts.js").Form} Form */
/** @typedef {{form: Form, channel: Channel, session: Session | null}} SectionProps */
/** @typedef {{id: string, icon: import("../kit/icon.js").IconName, view: (props: SectionProps) => any, fields: string[]}} Section */

const DEFAULT_SIZE = { width: 1280, height: 720 };

/** @param {SectionProps} props */
const Basics = ({ form }) => html`
  <${Entry} form=${form} name="videoname" required />
  <${Entry} form=${form} name="description" rows=${3} />
  <${Entry} form=${form} name="outdate" hint=${t("field.outdate.hint", { zone: zoneName() })} required />
  <${Entry} form=${form} name="isRtmps" hint />`;

/** @param {SectionProps} props */
const Playback = ({ form }) => html`
  <div class="columns">
    <${Entry} form=${form} name="isFlv" label=${t("output.flv")} hint=${t("output.flv.hint")} />
    <${Entry} form=${form} name="isHls" label=${t("output.hls")} hint=${t("output.hls.hint")} />
    <${Entry} form=${form} name="isCMAF" label=${t("output.cmaf")} hint=${t("output.cmaf.hint")} />
  </div>
  <div class="columns">
    <${Entry} form=${form} name="hls_time" unit=${t("unit.s")} hint />
    <${Entry} form=${form} name="hls_list_size" hint />
  </div>
  <div class="columns">
    <${Entry} form=${form} name="playAuth" hint />
    <${Entry} form=${form} name="refererAllow" hint />
  </div>`;

/** @param {SectionProps} props */
const Recording = ({ form }) => html`
  <div class="columns">
    <div class="stack"><${Entry} form=${form} name="isVideo" label=${t("output.video")} hint /><${Entry} form=${form} name="video_time" unit=${t("unit.s")} /></div>
    <div class="stack"><${Entry} form=${form} name="isOnDemand" label=${t("output.ondemand")} hint /><${Entry} form=${form} name="ondemand_time" unit=${t("unit.s")} /><${Entry} form=${form} name="ondemand_list_size" hint /></div>
  </div>
  <div class="columns">
    <${Entry} form=${form} name="recordSchedule" hint placeholder="mon-fri 08:00-18:00 Europe/Berlin" />
    <${Entry} form=${form} name="retentionDays" unit=${t("unit.days")} hint />
  </div>`;

/** @param {SectionProps} props */
const Pictures = ({ form }) => html`
  <div class="columns">
    <div class="stack"><${Entry} form=${form} name="isImage" label=${t("output.image")} hint /><${Entry} form=${form} name="image_time" unit=${t("unit.s")} /></div>
    <div class="stack"><${Entry} form=${form} name="isMotion" label=${t("output.motion")} hint />
      <${Entry} form=${form} name="motion_diff" hint /><${Entry} form=${form} name="motion_percent" unit="%" hint />
      <${Entry} form=${form} name="motion_duration" unit=${t("unit.s")} hint /><${Entry} form=${form} name="motion_timeout" unit=${t("unit.s")} hint /></div>
  </div>`;

/** @param {SectionProps} props */
const Transcoding = ({ form }) => html`
  <${Entry} form=${form} name="isCodec" label=${t("output.codec")} hint />
  <div class="columns">
    ${/** @type {const} */ (["ld", "sd", "hd", "ud"]).map((rung) => html`<${Entry} key=${rung} form=${form} name=${rung} hint />`)}
  </div>
  ${form.draft["isCodec"] && !["ld", "sd", "hd", "ud"].some((rung) => form.draft[rung]) && html`<${Notice} kind="warn">${t("transcoding.empty")}<//>`}
  <div class="columns"><${Entry} form=${form} name="codec" hint /><${Entry} form=${form} name="ladder" hint /></div>`;

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
  const origins = [location.origin, ...(base ? [new URL(base).origin] : [])];
  const { color } = cssColor(form.draft["WaterMarkFontColor"]);
  return html`
    <div class="columns">
      <div class="stack"><${Entry} form=${form} name="isWaterMark" hint />
        <${Entry} form=${form} name="WaterMarkText" rows=${2} />
        <div class="columns tight">
          <${Entry} form=${form} name="WaterMarkFontSize" unit="px" />
          <${Entry} form=${form} name="WaterMarkFontColor" hint unit=${html`<input type="color" class="swatch" aria-label=${t("watermark.pick")} value=${/^#[0-9a-f]{6}$/.test(color) ? color : "#ff0000"}
            onInput=${(/** @type {Event} */ event) => form.set({ WaterMarkFontColor: /** @type {HTMLInputElement} */ (event.target).value })} />`} />
        </div></div>
      <div class="stack"><${Entry} form=${form} name="isImageWaterMark" hint />
        <${Entry} form=${form} name="ImageURL" type="url" placeholder="https://example.com/logo.png" hint />
        <div class="columns tight"><${Entry} form=${form} name="ImageWidth" unit="px" /><${Entry} form=${form} name="ImageHeight" unit="px" /></div></div>
    </div>
    <div class="columns tight places-fields"><${Entry} form=${form} name="WaterMarkLeft" unit="px" /><${Entry} form=${form} name="WaterMarkTop" unit="px" /></div>
    <p class="hint">${live ? t(marked ? "watermark.live.marked" : "watermark.live") : t("watermark.idle", size)}</p>
    <${WatermarkStage} draft=${form.draft} size=${size} picture=${usePicture(picture)} pictureOrigins=${origins}
      onMove=${(/** @type {number} */ left, /** @type {number} */ top) => form.set({ WaterMarkLeft: String(left), WaterMarkTop: String(top) })} />`;
}

/** @param {SectionProps} props */
const Relay = ({ form }) => html`
  <${Entry} form=${form} name="isRelay" label=${t("output.relay")} hint />
  <p class="hint">${t("field.relayURL.hint")}</p>
  <${Targets} form=${form} name="relayURL" />`;

/** @param {SectionProps} props */
const Kinesis = ({ form }) => html`
  <${Entry} form=${form} name="isKvs" label=${t("output.kvs")} hint />
  <${Entry} form=${form} name="kvsStream" hint />
  <${Entry} form=${form} name="kvsTranscode" hint />`;

/** @param {SectionProps} props */
const Scale = ({ form }) => html`
  <p class="hint">${t("scale.hint")}</p>
  <div class="columns tight">
    ${/** @type {const} */ (["masterSize", "slaveSize", "recordSize", "codecSize"]).map((name) => html`<${Entry} key=${name} form=${form} name=${name} />`)}
  </div>
  <div class="columns"><${Entry} form=${form} name="isCluster" hint /><${Entry} form=${form} name="clusterNumber" hint /></div>`;

/** @param {SectionProps} props */
const Log = ({ form }) => html`<${Entry} form=${form} name="logLevel" hint />`;

/** A form for installed outputs, made from the gateway's description of their fields. @param {SectionProps} props */
const Installed = ({ form }) => html`${installed.value.map((output) => html`<div class="stack" key=${output.name}>
  ${output.fields.map((field) => html`<${Entry} key=${field.name} form=${form} name=${field.name} unit=${field.unit || undefined} />`)}</div>`)}`;

/**
 * In the order of the page. fields: the channel's fields in this section.
 * @type {Section[]}
 */
const SECTIONS = [
  { id: "basics", icon: "edit", view: Basics, fields: ["videoname", "description", "outdate", "isRtmps"] },
  {
    id: "playback", icon: "shield", view: Playback,
    fields: ["isFlv", "isHls", "isCMAF", "hls_time", "hls_list_size", "playAuth", "refererAllow"],
  },
  {
    id: "recording", icon: "record", view: Recording,
    fields: ["isVideo", "video_time", "isOnDemand", "ondemand_time", "ondemand_list_size", "recordSchedule", "retentionDays"],
  },
  {
    id: "pictures", icon: "image", view: Pictures,
    fields: ["isImage", "image_time", "isMotion", "motion_diff", "motion_percent", "motion_duration", "motion_timeout"],
  },
  { id: "transcoding", icon: "films", view: Transcoding, fields: ["isCodec", "ld", "sd", "hd", "ud", "codec", "ladder"] },
  {
    id: "watermark", icon: "text", view: Watermark,
    fields: [
      "isWaterMark", "WaterMarkText", "WaterMarkFontSize", "WaterMarkFontColor", "isImageWaterMark", "ImageURL", "ImageWidth", "ImageHeight",
      "WaterMarkLeft", "WaterMarkTop",
    ],
  },
  { id: "relay", icon: "relay", view: Relay, fields: ["isRelay", "relayURL"] },
  { id: "kinesis", icon: "ivs", view: Kinesis, fields: ["isKvs", "kvsStream", "kvsTranscode"] },
  {
    id: "scale", icon: "server", view: Scale,
    fields: ["masterSize", "slaveSize", "recordSize", "codecSize", "isCluster", "clusterNumber"],
  },
  { id: "log", icon: "docs", view: Log, fields: ["logLevel"] },
];

/** @returns {Section[]} */
export function sections() {
  const fields = installed.value.flatMap((output) => output.fields.map((field) => field.name));
  return fields.length ? [...SECTIONS, { id: "installed", icon: "plus", view: Installed, fields }] : SECTIONS;
}
