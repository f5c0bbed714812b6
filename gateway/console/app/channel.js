/** One idea: a channel as the API gives it, read the way the gateway reads it: text and booleans mean the same. */

import { language, t } from "./i18n.js";

/** @typedef {Record<string, any> & {id: string, key: string, playUrls: Record<string, string>, pushUrl: string, obsServer: string, obsKey: string, expired: boolean, outdate?: any}} Channel */
/** @typedef {{name: string, enabled: boolean, state: string, error: string | null} & Record<string, any>} Output */
/**
 * @typedef {object} Session
 * @property {string} id
 * @property {"live" | "lingering" | "idle"} state
 * @property {string | null} since
 * @property {number} bitrate
 * @property {{protocol: string, address: string, seconds: number, dropped: Record<string, number>} | null} publisher
 * @property {Record<string, number>} viewers
 * @property {({kind: "video" | "audio", codec: string, profile: string | null} & Record<string, any>)[]} tracks
 * @property {Output[]} outputs
 * @property {string} [node]  which of the nodes that share the streams holds it
 */

/** @param {unknown} value @returns {boolean} */
export const isOn = (value) => value === true || (typeof value === "string" && value.trim().toLowerCase() === "true");

/** @param {Channel} channel @returns {string} what people call it */
export const nameOf = (channel) => (typeof channel["videoname"] === "string" && channel["videoname"].trim()) || t("channel.unnamed", { id: channel.id.slice(0, 8) });

/**
 * Until when the channel may be pushed. The key says it exactly, in the way the gateway decides.
 * @param {Channel} channel
 * @returns {Date | null}
 */
export function expiry(channel) {
  const seconds = Number(/^(\d+)-/.exec(String(channel.key ?? ""))?.[1] ?? NaN);
  return Number.isFinite(seconds) ? new Date(seconds * 1000) : null;
}

/** @typedef {"live" | "lingering" | "expired" | "idle"} State */

/** @param {Channel} channel @param {Session | undefined | null} session @returns {State} */
export function stateOf(channel, session) {
  if (session && session.state !== "idle") return session.state;
  return channel.expired ? "expired" : "idle";
}

/** How each state is shown. @type {Record<State, import("./kit/status.js").Tone>} */
export const TONES = { live: "live", lingering: "warn", expired: "bad", idle: "idle" };

/** The channel's flags in the order of its outputs: the flag, the output's name, the short name on chips. */
export const OUTPUTS = /** @type {const} */ ([
  ["isFlv", "flv"], ["isHls", "hls"], ["isCMAF", "cmaf"], ["isVideo", "video"], ["isOnDemand", "ondemand"], ["isImage", "image"],
  ["isMotion", "motion"], ["isCodec", "codec"], ["isWaterMark", "watermark"], ["isRelay", "relay"], ["isKvs", "kvs"],
]);

/** @param {Channel} channel @returns {string[]} names of the outputs that are on */
export function outputsOn(channel) {
  return OUTPUTS.filter(([flag, name]) => isOn(channel[flag]) || (name === "watermark" && isOn(channel["isImageWaterMark"]))).map(([, name]) => name);
}

/** @param {Session | null | undefined} session @returns {number} */
export const viewersOf = (session) => Object.values(session?.viewers ?? {}).reduce((sum, n) => sum + n, 0);

/**
 * A moment as `<input type="datetime-local">` wants it, in this browser's zone.
 * @param {Date | null} date
 * @returns {string}
 */
export function toLocal(date) {
  if (!date || Number.isNaN(date.getTime())) return "";
  const two = (/** @type {number} */ n) => String(n).padStart(2, "0");
  return `${String(date.getFullYear()).padStart(4, "0")}-${two(date.getMonth() + 1)}-${two(date.getDate())}T${two(date.getHours())}:${two(date.getMinutes())}`;
}

/**
 * The exact moment that such an input means, as the API takes it.
 * @param {string} local
 * @returns {string | null}  null: it means none
 */
export function fromLocal(local) {
  const date = new Date(local);
  return local && !Number.isNaN(date.getTime()) ? date.toISOString().replace(/\.\d+Z$/, "Z") : null;
}

/** @returns {string} this browser's time zone, as people know it */
export function zoneName() {
  const { timeZone } = Intl.DateTimeFormat(language.value).resolvedOptions();
  return timeZone.replaceAll("_", " ");
}

/**
 * Whether the gateway lets this very page show the channel: a list of pages that may embed it holds for a console on another host too.
 * @param {Channel} channel
 * @param {string} url  of the media
 * @returns {boolean}
 */
export function mayEmbed(channel, url) {
  const given = channel["refererAllow"];
  const list = (typeof given === "string" ? given.split(",") : Array.isArray(given) ? given : []).map((one) => String(one).trim().toLowerCase()).filter(Boolean);
  if (list.length === 0 || new URL(url).hostname === location.hostname) return true;
  const full = `${location.hostname}:${location.port || (location.protocol === "https:" ? 443 : 80)}`;
  return list.some((entry) => entry === "*" || [location.hostname, full].some((host) => (entry.startsWith("*.") ? host.endsWith(entry.slice(1)) : host === entry)));
}

/** Letters, digits … that a file name may have. @param {string} text @returns {string} */
export const fileName = (text) => text.replace(/[^\p{L}\p{N}._-]+/gu, "-").replace(/^[.-]+|[.-]+$/g, "").slice(0, 60) || "channels";
