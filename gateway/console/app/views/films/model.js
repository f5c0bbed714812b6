/** The videos and the jobs of the API. */

/** @typedef {"SUBMITTED" | "PROGRESSING" | "COMPLETE" | "CANCELED" | "ERROR"} State */

/**
 * @typedef {object} Job
 * @property {string} id
 * @property {string} kind      vod, kvs
 * @property {State} state
 * @property {number} progress  percent
 * @property {string} source
 * @property {Record<string, string>} outputs  of a VOD: hls, poster, thumbnail
 * @property {string | null} error
 * @property {string | null} warning
 * @property {string} created
 * @property {string} updated
 */

/**
 * A video of the API.
 * @typedef {object} Film
 * @property {string} key
 * @property {string} title
 * @property {string} description
 * @property {"PROCESSING" | "READY" | "ERROR"} state
 * @property {string} created
 * @property {number | null} duration  seconds
 * @property {number | null} size      bytes
 * @property {string} source
 * @property {string | null} error
 * @property {string} page             address of the player page
 * @property {string | null} hls
 * @property {string | null} poster
 * @property {{language: string, label: string, url: string}[]} captions
 */

/** The allowed suffixes of an upload's file name; the gateway refuses others. */
export const TYPES = ["mp4", "m4v", "mov", "mkv", "webm", "flv", "ts", "mts", "m2ts", "avi", "mpg", "mpeg", "3gp", "wmv", "ogv", "mxf",
  "m4a", "mp3", "wav", "flac", "ogg", "aac", "3g2", "asf", "f4v", "vob", "m2v", "gxf", "dv", "rm", "rmvb", "nut", "ivf", "h264", "hevc",
  "obu", "wtv", "swf", "mka", "wma", "oga", "opus", "w64", "aif", "aiff", "ac3", "eac3", "caf", "amr", "au"];

/** @param {string} name  of a file */
export const known = (name) => TYPES.includes(name.toLowerCase().split(".").at(-1) ?? "") && name.includes(".");

/** @param {Job} job */
export const active = (job) => job.state === "SUBMITTED" || job.state === "PROGRESSING";

/** @type {Readonly<Record<State, import("../../kit/status.js").Tone>>} */
export const TONES = { SUBMITTED: "idle", PROGRESSING: "info", COMPLETE: "ok", CANCELED: "warn", ERROR: "bad" };
