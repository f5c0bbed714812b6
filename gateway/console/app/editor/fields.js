/** The editable fields of a channel: their kinds, limits and default values. */

import { computed } from "@preact/signals";

import { expiry, fromLocal, isOn, toLocal } from "../channel.js";
import { installedFields } from "../installed_outputs.js";

/** @typedef {import("../channel.js").Channel} Channel */
/**
 * flag: on or off. number: with limits. text: one line or several. choice: one of `values`, "" if not set.
 * moment: date and time in this zone. targets: a list of addresses. hosts: a list, one per line. days: a number or empty.
 * @typedef {{kind: "flag" | "text" | "moment" | "targets" | "hosts" | "days", absent?: any, longest?: number}
 *   | {kind: "number", absent: number, least: number, most: number, whole: boolean}
 *   | {kind: "choice", absent: string, values: string[]}} FieldKind
 */
/** The form's values: text for typed fields, booleans for flags, a list for targets. @typedef {Record<string, any>} Draft */

const flag = Object.freeze({ kind: /** @type {const} */ ("flag"), absent: false });
/** @param {number} absent @param {number} least @param {number} most @param {boolean} [whole] @returns {FieldKind} */
const number = (absent, least, most, whole = false) => ({ kind: "number", absent, least, most, whole });
/** @param {number} longest @param {string} [absent] @returns {FieldKind} */
const text = (longest, absent = "") => ({ kind: "text", absent, longest });
/** @param {string} absent @param {string[]} values @returns {FieldKind} */
const choice = (absent, values) => ({ kind: "choice", absent, values });

const SIZES = ["micro", "small", "medium", "large", "xlarge"];

/** @type {Record<string, FieldKind>} */
const FIELDS = {
  videoname: text(256),
  description: text(4096),
  outdate: { kind: "moment" },
  isRtmps: flag,
  isFlv: flag,
  isHls: flag,
  isCMAF: flag,
  hls_time: number(2, 1, 60),
  hls_list_size: number(6, 1, 100, true),
  playAuth: choice("", ["none", "sign", "cloudfront"]),
  refererAllow: { kind: "hosts" },
  isVideo: flag,
  video_time: number(30, 1, 86400),
  isOnDemand: flag,
  ondemand_time: number(60, 1, 3600),
  ondemand_list_size: number(2, 0, 1000, true),
  recordSchedule: text(1000),
  retentionDays: { kind: "days" },
  isImage: flag,
  image_time: number(10, 1, 86400),
  isMotion: flag,
  motion_diff: number(30, 0, 255),
  motion_percent: number(30, 0, 100),
  motion_duration: number(5, 0, 86400),
  motion_timeout: number(60, 1, 86400),
  isCodec: flag,
  codec: choice("libx264", ["libx264", "libx265"]),
  ld: flag,
  sd: flag,
  hd: flag,
  ud: flag,
  ladder: text(32),
  isWaterMark: flag,
  WaterMarkText: text(1024),
  WaterMarkFontSize: number(24, 1, 1000),
  WaterMarkFontColor: text(64, "red"),
  WaterMarkLeft: number(10, 0, 16384, true),
  WaterMarkTop: number(10, 0, 16384, true),
  isImageWaterMark: flag,
  ImageURL: text(2048),
  ImageWidth: number(100, 1, 16384, true),
  ImageHeight: number(50, 1, 16384, true),
  isRelay: flag,
  relayURL: { kind: "targets" },
  isKvs: flag,
  kvsStream: text(512),
  kvsTranscode: flag,
  masterSize: choice("large", SIZES),
  slaveSize: choice("micro", SIZES),
  recordSize: choice("small", SIZES),
  codecSize: choice("large", SIZES),
  isCluster: flag,
  clusterNumber: number(1, 0, 1000, true),
  logLevel: choice("", ["debug", "info", "warning", "error"]),
};

/** All fields, also those of installed outputs. @type {import("@preact/signals").ReadonlySignal<Record<string, FieldKind>>} */
export const allFields = computed(() => ({ ...FIELDS, ...installedFields.value }));

/** Longer names of log levels in the original system. @type {Record<string, string>} */
const LEVELS = { trace: "debug", verbose: "info", fatal: "error", panic: "error", quiet: "error" };

/** @param {unknown} value @returns {string[]} */
function list(value) {
  const entries = typeof value === "string" ? value.split(",") : Array.isArray(value) ? value : [];
  return entries.map((one) => String(one).trim()).filter(Boolean);
}

/**
 * Returns the form's values for a stored channel.
 * @param {Channel} channel
 * @returns {Draft}
 */
export function draftOf(channel) {
  /** @type {Draft} */
  const draft = {};
  for (const [name, field] of Object.entries(allFields.value)) {
    const value = channel[name];
    switch (field.kind) {
      case "flag": draft[name] = isOn(value); break;
      case "moment": draft[name] = toLocal(expiry(channel)); break;
      case "targets": draft[name] = list(value); break;
      case "hosts": draft[name] = list(value).join("\n"); break;
      case "number": draft[name] = value === undefined || value === null || value === "" ? String(field.absent) : String(value); break;
      case "choice": draft[name] = typeof value === "string" ? (name === "logLevel" ? LEVELS[value] ?? value : value) : field.absent; break;
      default: draft[name] = value === undefined || value === null ? String(field.absent ?? "") : String(value);
    }
  }
  return draft;
}

/** @param {any} a @param {any} b @returns {boolean} */
export const same = (a, b) => (Array.isArray(a) && Array.isArray(b) ? a.length === b.length && a.every((one, i) => one === b[i]) : a === b);

/** @param {Draft} before @param {Draft} now @returns {string[]} the names of the changed fields */
export const changedFields = (before, now) => Object.keys(allFields.value).filter((name) => !same(before[name], now[name]));

/**
 * @typedef {{kind: "number", least: number, most: number, whole: boolean} | {kind: "moment"} | {kind: "missing"}} Wrong
 */

/**
 * Returns the changes for the API, and the fields that are wrong. The gateway checks the rest.
 * @param {Draft} before
 * @param {Draft} now
 * @returns {{body: Record<string, unknown>, wrong: Record<string, Wrong>}}
 */
export function changesOf(before, now) {
  /** @type {Record<string, unknown>} */
  const body = {};
  /** @type {Record<string, Wrong>} */
  const wrong = {};
  const fields = allFields.value;
  for (const name of changedFields(before, now)) {
    const field = /** @type {FieldKind} */ (fields[name]);
    const value = now[name];
    switch (field.kind) {
      case "number": {
        const figure = value.trim() === "" ? NaN : Number(value);
        if (!(figure >= field.least && figure <= field.most) || (field.whole && !Number.isInteger(figure))) wrong[name] = field;
        else body[name] = figure;
        break;
      }
      case "days": {
        const figure = Number(value);
        if (value.trim() === "") body[name] = null;
        else if (!Number.isInteger(figure) || figure < 0 || figure > 36_500) wrong[name] = { kind: "number", least: 0, most: 36_500, whole: true };
        else body[name] = figure;
        break;
      }
      case "moment": {
        const moment = fromLocal(value);
        if (moment === null) wrong[name] = { kind: "moment" };
        else body[name] = moment;
        break;
      }
      case "targets": body[name] = value.map((/** @type {string} */ one) => one.trim()).filter(Boolean); break;
      // An empty field means no list (null); an empty list would block all hosts.
      case "hosts": body[name] = value.trim() ? value.split(/[\s,]+/).filter(Boolean) : null; break;
      case "choice": body[name] = value === "" ? null : value; break;
      case "text":
        body[name] = name === "WaterMarkText" || name === "description" ? value : value.trim();
        if (name === "videoname" && !value.trim()) wrong[name] = { kind: "missing" };
        break;
      default: body[name] = value;
    }
  }
  return { body, wrong };
}
