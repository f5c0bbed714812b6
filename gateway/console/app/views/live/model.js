/** One idea: what the gateway says about live streams, and what of it is kept for the charts. */

import { History, rate } from "../parts/history.js";

/**
 * An output in a session. targets: of a relay. playlist: of an on-demand recording, its key.
 * @typedef {object} Output
 * @property {string} name
 * @property {boolean} enabled
 * @property {string} state  off, waiting, running, retrying, failed, done
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
 * @property {string | null} since
 * @property {number} bitrate  bits a second
 * @property {{protocol: string, address: string, seconds: number, dropped: Record<string, number>} | null} publisher
 * @property {Record<string, number>} viewers  by protocol
 * @property {Track[]} tracks
 * @property {Output[]} outputs
 */

/**
 * What of `GET /status` is shown.
 * @typedef {object} Status
 * @property {number} streams
 * @property {number} publishers
 * @property {Record<string, number>} viewers
 * @property {number} bytesIn   counters
 * @property {number} bytesOut
 */

export const ONLINE = "/videostreams/online";
export const STATUS = "/status";
export const EVERY = 2000;    // ms
export const SHOWN = 300;     // seconds

/** Of everything, and of each stream under its id. Views come and go; what they saw stays. */
export const totals = new History(SHOWN, 4 * EVERY / 1000);
export const bitrates = new History(SHOWN, 4 * EVERY / 1000);

const [inRate, outRate] = [rate(), rate()];

/**
 * @param {Status} status
 * @param {number} at  ms since 1970
 */
export function keepTotals(status, at) {
  const seconds = at / 1000;
  if (seconds <= totals.last) return;
  const [taken, sent] = [inRate(seconds, status.bytesIn), outRate(seconds, status.bytesOut)];
  totals.add(seconds, {
    streams: status.streams,
    publishers: status.publishers,
    viewers: sum(status.viewers),
    in: taken === null ? null : taken * 8,
    out: sent === null ? null : sent * 8,
  });
}

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
 * Everything that one stream has lost: unusable at its entrance, and left out by outputs that were behind.
 * @param {Session} session
 * @returns {number}
 */
export function lost({ publisher, outputs }) {
  return sum(publisher?.dropped) + outputs.reduce((all, output) => all + (output.dropped ?? 0)
    + (output.targets ?? []).reduce((more, target) => more + (target.dropped ?? 0), 0), 0);
}

/**
 * What somebody has to look at.
 * @param {Output} output
 * @returns {"ok" | "wait" | "bad" | "off"}
 */
export function health({ enabled, state, error }) {
  if (!enabled || state === "off") return "off";
  if (error || state === "failed" || state === "retrying") return "bad";
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
