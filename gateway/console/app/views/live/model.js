/** The live sessions of the API, and the values that are kept for charts. */

import { History } from "../parts/history.js";

/**
 * An output in a session. targets: of a relay. playlist: of an on-demand recording, its key.
 * @typedef {object} Output
 * @property {string} name
 * @property {boolean} enabled
 * @property {string} state  off, waiting, running, degraded, retrying, failed, done
 * @property {string | null} error
 * @property {Target[]} [targets]
 * @property {string} [playlist]
 * @property {number} [dropped]
 */

/** @typedef {{url: string, state: string, error: string | null, sent?: number, dropped?: number, warnings?: string[]}} Target */

/**
 * @typedef {object} Track
 * @property {"video" | "audio"} kind
 * @property {string} codec
 * @property {string | null} profile
 * @property {number | null} [width]
 * @property {number | null} [height]
 * @property {number | null} [frameRate]
 * @property {number | null} [sampleRate]
 * @property {number | null} [channels]
 */

/**
 * @typedef {object} Session
 * @property {string} id
 * @property {string} videoname
 * @property {"live" | "lingering" | "idle"} state
 * @property {boolean} [paused]
 * @property {string | null} since
 * @property {number} bitrate  bits per second
 * @property {{protocol: string, address: string, seconds: number, dropped: Record<string, number>} | null} publisher
 * @property {Record<string, number>} viewers  by protocol
 * @property {Track[]} tracks
 * @property {Output[]} outputs
 * @property {import("../parts/health.js").Finding[]} [health]
 * @property {import("../parts/health.js").Measured} [measured]
 * @property {string | null} [input]  the name of the input on air
 * @property {string | null} [inputKind]  push, backup, pull, playlist or slate
 * @property {boolean} [fallback]     whether it is not the first of the channel's inputs
 * @property {number | null} [behind]  delay of the viewer who reported last, seconds
 * @property {string} [node]  the node that holds the stream
 */

export const ONLINE = "/videostreams/online";
export const EVERY = 2000;    // ms
const SHOWN = 300;            // seconds

/** The bitrate of each stream by its id. It stays when the view is closed. */
export const bitrates = new History(SHOWN, 4 * EVERY / 1000);

/**
 * @param {readonly Session[]} sessions
 * @param {number} at  ms since 1970
 */
export function keepBitrates(sessions, at) {
  bitrates.add(at / 1000, Object.fromEntries(sessions.map((session) => [session.id, session.bitrate])));
}

/**
 * @param {Readonly<Record<string, number>> | undefined} counts
 * @returns {number}
 */
export function sum(counts) { return Object.values(counts ?? {}).reduce((all, n) => all + n, 0); }

/**
 * Returns the losses of one stream: unusable input, and media that slow outputs dropped.
 * @param {Session} session
 * @returns {number}
 */
export function lost({ publisher, outputs }) {
  return sum(publisher?.dropped) + outputs.reduce((all, output) => all + (output.dropped ?? 0)
    + (output.targets ?? []).reduce((more, target) => more + (target.dropped ?? 0), 0), 0);
}

/**
 * Returns the state for the user: whether an output needs attention.
 * @param {Output} output
 * @returns {"ok" | "wait" | "bad" | "off"}
 */
export function health({ enabled, state, error }) {
  if (!enabled || state === "off") return "off";
  if (error || state === "failed" || state === "retrying" || state === "degraded") return "bad";
  return state === "waiting" ? "wait" : "ok";
}

/**
 * @param {Target} target
 * @returns {"ok" | "wait" | "bad"}
 */
export function targetHealth({ state, error }) {
  if (error || state === "failed" || state === "retrying") return "bad";
  return state === "live" ? "ok" : "wait";
}
