/** The jobs of the API and their outputs. */

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
 * @property {string} created
 * @property {string} updated
 */

/** The allowed suffixes of an upload's file name; the gateway refuses others. */
export const TYPES = ["mp4", "m4v", "mov", "mkv", "webm", "flv", "ts", "mts", "m2ts", "avi", "mpg", "mpeg", "3gp", "wmv", "ogv", "mxf",
  "m4a", "mp3", "wav", "flac", "ogg", "aac"];

/** @param {string} name  of a file */
export const known = (name) => TYPES.includes(name.toLowerCase().split(".").at(-1) ?? "") && name.includes(".");

/** @param {Job} job */
export const active = (job) => job.state === "SUBMITTED" || job.state === "PROGRESSING";

/** @param {Job} job  whether it is a VOD that can be played */
export const playable = (job) => job.state === "COMPLETE" && job.kind === "vod" && Boolean(job.outputs["hls"]);

/** @type {Readonly<Record<State, import("../../kit/status.js").Tone>>} */
export const TONES = { SUBMITTED: "idle", PROGRESSING: "info", COMPLETE: "ok", CANCELED: "warn", ERROR: "bad" };
