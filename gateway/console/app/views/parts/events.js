/** Events of the log in plain words, and their list. */

import { fieldLabel } from "../../channel.js";
import { instant, moment, NOTHING, relative, span } from "../../format.js";
import { addTables, hasWords, t } from "../../i18n.js";
import { channelHref } from "../../router.js";
import { Badge, html } from "../../ui.js";
import changes from "../../words/changes.js";
import fields from "../../words/edit.js";
import { title } from "../films/names.js";
import { shows } from "../recordings/shows.js";
import { errorText } from "./errors.js";
import { faultText, outputName } from "./health.js";
import { protocolName } from "./names.js";

addTables(fields); // with the names of the fields that were changed
addTables(changes);

/**
 * @typedef {object} LoggedEvent
 * @property {string} id
 * @property {string} time
 * @property {string} type
 * @property {string} channel  "": none
 * @property {string} node
 * @property {Record<string, any>} data
 */

/** @typedef {{at: string, peer: string, protocol: string, reason: string, expired?: string, text?: string}} Refusal */
/** @typedef {import("../../kit/status.js").Tone} Tone */

/** The types of events in the order of the filter. @type {Readonly<Record<string, Tone>>} */
export const TYPES = {
  "publish.started": "ok", "publish.ended": "idle", "publish.refused": "warn", "stream.started": "ok", "stream.ended": "idle",
  "stream.health": "warn", "key.expires": "warn", "input.switched": "warn", "cue": "info", "output.failed": "bad", "output.recovered": "ok", "recording.ready": "info", "job.done": "info",
  "job.failed": "bad", "channel.created": "info", "channel.changed": "info", "channel.deleted": "warn", "settings.changed": "info",
  "worker.died": "bad",
  "certificate.renewed": "ok", "certificate.failed": "bad",
  "registry.failed": "bad", "registry.recovered": "ok",
};

/** The reasons for an end, as the gateway writes them. @type {Readonly<Record<string, string>>} */
const ENDS = {
  "publisher gone": "gone", "stopped by the encoder": "stopped", "no media": "empty",
  "its publisher kept changing its tracks": "changing", kicked: "kicked",
  "channel deleted": "deleted", "key expired": "expired", "shutting down": "shutdown", "held by another node": "moved",
  "bit rate too high": "fast",
};

/** Names of authors that are no users. @type {Readonly<Record<string, string>>} */
const AUTHORS = { "admin token": "token", "command line": "cli", "first start": "first" };

/** @param {string} type @returns {string} */
export const typeName = (type) => (hasWords(`event.type.${type}`) ? t(`event.type.${type}`) : type);

/**
 * @param {string} reason
 * @param {string | number | undefined} expired  RFC 3339, or seconds since 1970
 * @param {string | undefined} text  what came, of a push that could not be used
 * @returns {string}
 */
export function refusalReason(reason, expired, text) {
  if (!hasWords(`refusal.why.${reason}`)) return reason;
  return t(`refusal.why.${reason}`, { date: moment(typeof expired === "number" ? expired * 1000 : expired), text: text ?? "" });
}

/** @param {Refusal} refusal @returns {string} "Refused 10 seconds ago from 192.0.2.7 (RTMP): the key expired on …" */
export const refusalText = ({ at, peer, protocol, reason, expired, text }) =>
  t("refusal.text", { when: relative(at), peer, protocol: protocolName(protocol), why: refusalReason(reason, expired, text) });

/** @param {string} reason @returns {string} */
const endReason = (reason) => (ENDS[reason] ? t(`event.end.${ENDS[reason]}`) : reason);

/** @param {string} reason @returns {string} */
const switchReason = (reason) => (hasWords(`event.switch.${reason}`) ? t(`event.switch.${reason}`) : reason);

/** @param {string} by @param {string | undefined} via @returns {string} */
const authorName = (by, via) => (via === "token" ? t("event.author.ofToken", { name: by }) : AUTHORS[by] ? t(`event.author.${AUTHORS[by]}`) : by);

/** What of the settings was changed, such as "User eva changed: password". @param {Record<string, any>} data @returns {string} */
function settingsText({ what, change, name, fields = [] }) {
  const known = hasWords(`event.settings.${what}`) && hasWords(`event.change.${change}`);
  const words = known ? `${t(`event.settings.${what}`, { name: what === "output" ? outputName(name) : name })} ${t(`event.change.${change}`)}` : [what, name, change].join(" ");
  const names = fields.map((/** @type {string} */ field) => (hasWords(`event.field.${field}`) ? t(`event.field.${field}`) : field));
  return names.length ? `${words}: ${names.join(", ")}` : words;
}

/** Whether a fault of a stream is over. @param {LoggedEvent} event */
const isOver = ({ type, data }) => type === "stream.health" && data["state"] === "ended";

/** @param {string} name @returns {string} the label of a field; the name of one that this console does not know */
const fieldName = (name) => (fieldLabel(name) === `field.${name}` ? name : fieldLabel(name));

/** What is wrong, or was: then without the advice. @param {LoggedEvent} event */
function faultOf(event) {
  const { code, text = code, value } = event.data;
  const words = faultText({ code, text, value });
  return isOver(event) ? words.split(/: |：/, 1).join() : words;
}

/** The details of an event in one sentence. @param {LoggedEvent} event @returns {string} */
export function details(event) {
  const { type, data } = event;
  const peer = data["peer"] ? t("event.from", { peer: data["peer"], protocol: protocolName(String(data["protocol"] ?? "")) }) : "";
  const from = [data["input"], peer].filter(Boolean).join(" · ");
  const by = data["by"] ? t("event.by", { by: authorName(data["by"], data["via"]) }) : "";
  switch (type) {
    case "publish.started": return from;
    case "publish.ended": return [from, span(data["seconds"]), endReason(data["reason"])].join(" · ");
    case "publish.refused": return [from, refusalReason(data["reason"], data["expired"], data["text"])].join(" · ");
    case "stream.ended": return [span(data["seconds"]), endReason(data["reason"])].join(" · ");
    case "input.switched": return t("event.input", { from: data["from"] ?? NOTHING, to: data["to"], why: switchReason(data["reason"]) });
    case "cue": return [t(`cues.type.${data["type"]}`), ...(data["seconds"] ? [span(data["seconds"])] : [])].join(" · ");
    case "output.failed": return [outputName(data["output"]), data["target"], errorText(String(data["error"] ?? ""))].filter(Boolean).join(" · ");
    case "output.recovered": return [outputName(data["output"]), data["target"]].filter(Boolean).join(" · ");
    case "recording.ready": return [outputName(data["kind"]), ...(data["seconds"] ? [span(data["seconds"])] : [])].join(" · ");
    case "job.done": return title(String(data["source"]));
    case "job.failed": return [title(String(data["source"])), data["error"]].join(" · ");
    case "stream.health": return faultOf(event);
    case "key.expires": return moment(data["expires"]);
    case "channel.created": return by;
    case "channel.changed": return [by, (data["fields"] ?? []).map(fieldName).join(", ")].join(" · ");
    case "channel.deleted": return [by, ...(data["media"] === "delete" ? [t("event.media")] : [])].join(" · ");
    case "settings.changed": return [by, settingsText(data)].join(" · ");
    case "certificate.renewed": return t("event.certificate", { names: (data["names"] ?? []).join(", "), date: moment(instant(data["expires"])) });
    case "certificate.failed": case "registry.failed": return String(data["reason"]);
    case "worker.died": return [data["kind"], data["reason"]].join(" · ");
    default: return "";
  }
}

/**
 * An event, or the newest of the files that one show left. files: their number; the length is that of all.
 * @typedef {{event: LoggedEvent, files: number}} EventRow
 */

/** Makes one row of the files that one show left, at the newest. @param {readonly LoggedEvent[]} events @returns {EventRow[]} */
export function rowsOf(events) {
  const files = events.filter(({ type, data }) => type === "recording.ready" && data["start"]).map((event) => {
    const { kind, key, start, seconds } = event.data;
    return { event, channel: event.channel, kind, key, start: start * 1000, seconds };
  });
  const found = new Map(shows(files).map(({ items }) => [items[0]?.event, items]));
  const folded = new Set(files.map(({ event }) => event).filter((event) => !found.has(event)));
  return events.filter((event) => !folded.has(event)).map((event) => {
    const items = found.get(event) ?? [];
    const seconds = items.reduce((sum, item) => sum + (item.seconds ?? 0), 0);
    return { event: items.length > 1 ? { ...event, data: { ...event.data, seconds } } : event, files: items.length };
  });
}

/**
 * @param {{events: readonly EventRow[], label: string, nameOf?: (channel: string) => string | null}} props
 *   nameOf: returns the name of a channel, null if it does not exist; without it, channels are not shown.
 */
export function EventList({ events, label, nameOf }) {
  return html`<ol class="events" aria-label=${label}>${events.map(({ event, files }) => html`<li key=${event.id}>
    <time dateTime=${event.time} title=${event.node ? t("event.node", { node: event.node }) : undefined}>
      ${moment(instant(event.time), { seconds: true })}</time>
    ${isOver(event) ? html`<${Badge} kind="ok">${t("event.over")}<//>`
      : html`<${Badge} kind=${TYPES[event.type] ?? "idle"}>${typeName(event.type)}<//>`}
    ${nameOf && event.channel && html`<${ChannelName} event=${event} name=${nameOf(event.channel)} />`}
    ${!nameOf && renditionOf(event) && html`<span>${t("event.rendition.short", { rendition: renditionOf(event) })}</span>`}
    <span class="details">${details(event)}${files > 1 && ` · ${t("event.files", { n: files })}`}</span>
  </li>`)}</ol>`;
}

/** @param {LoggedEvent} event @returns {string} the rendition that it is about; "": the channel's own stream */
const renditionOf = ({ data }) => String(data["stream"] ?? "").split("@")[1] ?? "";

/** @param {{event: LoggedEvent, name: string | null}} props */
function ChannelName({ event, name }) {
  const rendition = renditionOf(event);
  const channel = name === null ? String(event.data["name"] || event.channel) : name;
  const words = rendition ? t("event.rendition", { rendition, channel }) : channel;
  return name === null ? html`<span>${words}</span>` : html`<a href=${channelHref(event.channel)}>${words}</a>`;
}
