/** Reads a channel of the API like the gateway does: "true" and true are equal. */

import { moment } from "./format.js";
import { hasWords, language, t } from "./i18n.js";
import { installedSwitches } from "./installed_outputs.js";
import { unreachable } from "./session.js";

/**
 * @typedef {Record<string, any> & {id: string, key: string, playUrls: Record<string, string>, pushUrl: string,
 *   pushUrls?: Record<string, string>, obsServer: string, obsKey: string, expired: boolean, outdate?: any}} Channel
 */
/** @typedef {{name: string, enabled: boolean, state: string, error: string | null} & Record<string, any>} Output */
/** A connection of WebRTC: ms, and a share of the packets. @typedef {{roundTrip: number | null, lost: number, jitter: number}} Network */
/**
 * The connection of an SRT push; times in ms. links: SRTLA has several.
 * @typedef {{rttMs: number | null, lossPercent: number, retransmitted: number, dropped: number, latencyMs: number, bufferMs: number,
 *   links: {peer: string, sharePercent: number, rttMs: number | null, state: "up" | "down"}[]}} Link
 */
/**
 * @typedef {object} Session
 * @property {string} id
 * @property {"live" | "lingering" | "idle"} state
 * @property {boolean} [paused]  whether it lingers because the encoder said that it stops
 * @property {string | null} since
 * @property {number} bitrate
 * @property {{protocol: string, address: string, seconds: number, dropped: Record<string, number>, webrtc?: Network} | null} publisher
 * @property {Link} [link]  of a push over SRT
 * @property {(Network & {address: string, transport: string})[]} [webrtcViewers]  those with the worst connections first
 * @property {Record<string, number>} viewers
 * @property {({kind: "video" | "audio", codec: string, profile: string | null} & Record<string, any>)[]} tracks
 * @property {Output[]} outputs
 * @property {import("./views/parts/health.js").Finding[]} [health]
 * @property {import("./views/parts/health.js").Measured} [measured]
 * @property {import("./views/parts/events.js").Refusal[]} [refusals]  newest first
 * @property {string | null} [input]  the name of the input on air
 * @property {string | null} [inputKind]  push, backup, pull, playlist or slate
 * @property {boolean} [fallback]     whether it is not the first of the channel's inputs
 * @property {string} [node]  the node that holds the stream
 */

/** @param {unknown} value @returns {boolean} */
export const isOn = (value) => value === true || (typeof value === "string" && value.trim().toLowerCase() === "true");

/** @param {Channel} channel @returns {string} its display name */
export const nameOf = (channel) => (typeof channel["videoname"] === "string" && channel["videoname"].trim())
  || t("channel.unnamed", { id: channel.id.slice(0, 8) });

/**
 * The time until which the channel accepts pushes, as its key says; observers have none.
 * @param {Channel} channel
 * @returns {Date | null}
 */
export function expiry(channel) {
  const seconds = Number(/^(\d+)-/.exec(String(channel.key ?? ""))?.[1] ?? channel.outdate ?? NaN);
  const time = Number.isFinite(seconds) ? seconds * 1000 : Date.parse(String(channel.outdate ?? "").replaceAll("/", "-"));
  return Number.isFinite(time) ? new Date(time) : null;
}

/** The expiry of a channel that never expires, as the API takes it. */
export const NEVER = "never";
const LAST_YEAR = 9999;
const WARNED_MS = 7 * 86_400_000;

/** @param {Date | null} until @returns {boolean} */
export const isNever = (until) => until !== null && until.getUTCFullYear() >= LAST_YEAR;

/** @param {Date | null} until @returns {string} the date, or that there is none */
export const expiryText = (until) => (isNever(until) ? t("expiry.none") : moment(until));

/** @param {Channel} channel @returns {"" | "warn" | "bad"} whether the key expires within a week, or has expired */
export function expiryTone(channel) {
  if (channel.expired) return "bad";
  const until = expiry(channel);
  return until !== null && until.getTime() - Date.now() < WARNED_MS ? "warn" : "";
}

/**
 * slate: viewers see a slate. paused: the encoder stopped, and the stream waits for it. lingering: its connection broke.
 * unknown: the gateway does not answer.
 * @typedef {"live" | "slate" | "paused" | "lingering" | "expired" | "idle" | "unknown"} State
 */

/** @param {{state: "live" | "lingering" | "idle", paused?: boolean, inputKind?: string | null}} session @returns {State} */
export function sessionState(session) {
  if (unreachable.value) return "unknown";
  return onSlate(session) ? "slate" : session.paused ? "paused" : session.state;
}

/** @param {Channel} channel @param {Session | undefined | null} session @returns {State} */
export function stateOf(channel, session) {
  if (unreachable.value) return "unknown";
  if (session && session.state !== "idle") return sessionState(session);
  return channel.expired ? "expired" : "idle";
}

/** Whether viewers see a slate. @param {{state: string, inputKind?: string | null}} session */
export const onSlate = (session) => session.state === "live" && session.inputKind === "slate";

/** The tone of each state. @type {Record<State, import("./kit/status.js").Tone>} */
export const TONES = {
  live: "live", slate: "warn", paused: "idle", lingering: "warn", expired: "bad", idle: "idle", unknown: "idle",
};

/** In the order of the outputs: the flag, the output's name, the short name on chips. */
export const OUTPUTS = /** @type {const} */ ([
  ["isFlv", "flv"], ["isHls", "hls"], ["isCMAF", "cmaf"], ["isVideo", "video"], ["isOnDemand", "ondemand"], ["isImage", "image"],
  ["isMotion", "motion"], ["isCodec", "codec"], ["isWaterMark", "watermark"], ["isRelay", "relay"], ["isKvs", "kvs"],
  ["isCaption", "captions"],
]);

/** @param {string} name  of a field @returns {string | undefined} the output that it switches on */
export const outputOfFlag = (name) => OUTPUTS.find(([flag]) => flag === name)?.[1];

/** @param {string} name  of a field @returns {string} its label; the texts of the editor must be loaded */
export function fieldLabel(name) {
  const output = outputOfFlag(name);
  return hasWords(`field.${name}`) || !output ? t(`field.${name}`) : t(`output.${output}`);
}

/** The flags of the renditions that the standard ladder can have. */
export const RUNGS = ["ld", "sd", "hd", "ud"];

/** @param {Session | null} session @returns {{width: number, height: number}} of the live picture; 0: unknown */
export function pictureSize(session) {
  const video = session?.tracks.find(({ kind }) => kind === "video");
  return { width: video?.["width"] ?? 0, height: video?.["height"] ?? 0 };
}

/** The largest pictures of these renditions. @type {Record<string, readonly [number, number]>} */
const BOXES = { ld: [640, 360], sd: [854, 480], hd: [1280, 720], ud: [1920, 1080] };

/**
 * The renditions that the gateway omits, because they are larger than the live source. It keeps at least the smallest.
 * @param {Session | null} session
 * @returns {string[]}
 */
export function largerRungs(session) {
  const { width, height } = pictureSize(session);
  const larger = (/** @type {string} */ rung) => width > 0 && (BOXES[rung]?.[0] ?? 0) > width && (BOXES[rung]?.[1] ?? 0) > height;
  return RUNGS.slice(1).filter(larger);
}

/** The entries of a list, which may be stored as a text with commas. @param {unknown} value @returns {string[]} */
export function entriesOf(value) {
  const entries = typeof value === "string" ? value.split(",") : Array.isArray(value) ? value : [];
  return entries.map((one) => String(one).trim()).filter(Boolean);
}

/** @param {Channel} channel @returns {string[]} names of the outputs that are on */
export function outputsOn(channel) {
  const own = OUTPUTS.filter(([flag, name]) =>
    isOn(channel[flag]) || (name === "watermark" && isOn(channel["isImageWaterMark"]))).map(([, name]) => name);
  return [...own, ...installedSwitches.value.filter(([, flag]) => isOn(channel[flag])).map(([name]) => name)];
}

/** @param {Channel} channel @returns {string} its playback protection: its own, or that of the gateway */
export const protectionOf = (channel) => channel["playAuth"] || channel["playAuthDefault"] || "none";

/** @param {Session | null | undefined} session @returns {number} */
export const viewersOf = (session) => Object.values(session?.viewers ?? {}).reduce((sum, n) => sum + n, 0);

/**
 * Formats a date for `<input type="datetime-local">`, in this browser's time zone.
 * @param {Date | null} date
 * @returns {string}
 */
export function toLocal(date) {
  if (!date || Number.isNaN(date.getTime())) return "";
  const two = (/** @type {number} */ n) => String(n).padStart(2, "0");
  const day = `${String(date.getFullYear()).padStart(4, "0")}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  return `${day}T${two(date.getHours())}:${two(date.getMinutes())}`;
}

/**
 * Converts the value of such an input to a date for the API.
 * @param {string} local
 * @returns {string | null}  null: not a date
 */
export function fromLocal(local) {
  const date = new Date(local);
  return local && !Number.isNaN(date.getTime()) ? date.toISOString().replace(/\.\d+Z$/, "Z") : null;
}

/** @returns {string} this browser's time zone, for display */
export function zoneName() {
  const { timeZone } = Intl.DateTimeFormat(language.value).resolvedOptions();
  return timeZone.replaceAll("_", " ");
}

/**
 * Whether the gateway allows this page to play the channel. The list of pages that may embed it also applies to a
 * console on another host.
 * @param {Channel} channel
 * @param {string} url  of the media
 * @returns {boolean}
 */
export function mayEmbed(channel, url) {
  const list = entriesOf(channel["refererAllow"]).map((one) => one.toLowerCase());
  if (list.length === 0 || new URL(url).hostname === location.hostname) return true;
  const full = `${location.hostname}:${location.port || (location.protocol === "https:" ? 443 : 80)}`;
  return list.some((entry) => entry === "*"
    || [location.hostname, full].some((host) => (entry.startsWith("*.") ? host.endsWith(entry.slice(1)) : host === entry)));
}

/** Makes a text an address of a channel. @param {string} text @returns {string} */
export const slugOf = (text) => text.toLowerCase().normalize("NFD").replace(/\p{M}/gu, "").replace(/[^a-z0-9-]+/g, "-").slice(0, 64);

/** Replaces characters that a file name may not have. @param {string} text @returns {string} */
export const fileName = (text) => text.replace(/[^\p{L}\p{N}._-]+/gu, "-").replace(/^[.-]+|[.-]+$/g, "").slice(0, 60) || "channels";
