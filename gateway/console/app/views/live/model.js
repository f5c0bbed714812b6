/** The live sessions of the API, and the values that are kept for charts. */

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
 * @property {number} bitrate  bits per second
 * @property {{protocol: string, address: string, seconds: number, dropped: Record<string, number>} | null} publisher
 * @property {Record<string, number>} viewers  by protocol
 * @property {Track[]} tracks
 * @property {Output[]} outputs
 * @property {import("../parts/health.js").Finding[]} [health]
 * @property {import("../parts/health.js").Measured} [measured]
 * @property {string} [node]  the node that holds the stream
 */

/**
 * The shown part of an entry of `GET /nodes`. null: the node does not answer.
 * @typedef {object} Busy
 * @property {string} node
 * @property {number | null} streams
 * @property {number | null} publishers
 * @property {Record<string, number> | null} viewers
 * @property {number | null} bytesIn   counters
 * @property {number | null} bytesOut
 */

export const ONLINE = "/videostreams/online";
export const NODES = "/nodes";
export const EVERY = 2000;    // ms
export const SHOWN = 300;     // seconds

/** The history of the totals, and of each stream by its id. It stays when the view is closed. */
export const totals = new History(SHOWN, 4 * EVERY / 1000);
export const bitrates = new History(SHOWN, 4 * EVERY / 1000);

/** The rates of each node. They are separate, because each node has its own counters. @type {Map<string, {in: Rate, out: Rate}>} */
const rates = new Map();

/** @typedef {ReturnType<typeof rate>} Rate */

/**
 * @param {readonly Busy[]} nodes
 * @param {number} at  ms since 1970
 */
export function keepTotals(nodes, at) {
  const seconds = at / 1000;
  if (seconds <= totals.last) return;
  for (const gone of [...rates.keys()].filter((name) => !nodes.some(({ node }) => node === name))) rates.delete(gone);
  const speeds = nodes.map(({ node, bytesIn, bytesOut }) => {
    const own = rates.get(node) ?? { in: rate(), out: rate() };
    rates.set(node, own);
    return { in: own.in(seconds, bytesIn ?? undefined), out: own.out(seconds, bytesOut ?? undefined) };
  });
  totals.add(seconds, {
    streams: nodes.reduce((all, one) => all + (one.streams ?? 0), 0),
    publishers: nodes.reduce((all, one) => all + (one.publishers ?? 0), 0),
    viewers: nodes.reduce((all, one) => all + sum(one.viewers ?? {}), 0),
    in: bits(speeds.map((one) => one.in)),
    out: bits(speeds.map((one) => one.out)),
  });
}

/** @param {readonly (number | null)[]} bytes  per second @returns {number | null} the sum; null if none is known */
function bits(bytes) {
  const known = bytes.filter((one) => one !== null);
  return known.length ? known.reduce((all, one) => all + one, 0) * 8 : null;
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
