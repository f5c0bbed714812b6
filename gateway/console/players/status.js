/** Requests the status of the stream, so that no missing media are requested. */

/** @typedef {import("./types.js").Status} Status */

/** The result: the status, or that the gateway refused or did not answer. */
/** @typedef {{kind: "status", status: Status} | {kind: "denied", detail: string} | {kind: "away"}} Answer */

/**
 * The page's query without `embed` and `t`, unchanged, because every request and page needs the signature in it. A page
 * whose own `sign` is a stream key has the signature as `play`.
 */
export const query = location.search.replace(/([?&])(?:(?:embed|t)=[^&]*(?:&|$))+/g, "$1").replace(/[?&]$/, "")
  .replace(/([?&])play=/, "$1sign=");

/** Whether to show only the picture and its controls: in a frame, or with `?embed=1`. */
export const EMBEDDED = globalThis.top !== globalThis.self || new URLSearchParams(location.search).get("embed") === "1";

/**
 * Returns the address of `file` in the page's folder, with the page's query.
 * @param {string} file
 * @returns {string}
 */
export function neighbour(file) {
  const url = new URL(file, location.href);
  url.search = query;
  return url.href;
}

/** @returns {string} the name of the stream in the page's address */
export function streamName() { return decodeURIComponent(location.pathname.split("/").at(-2) ?? ""); }

/**
 * @param {Status} status  of a stream without a publisher
 * @returns {"broken" | "stopped"} whether its connection broke, or the publisher said that it stops
 */
export function absence(status) { return status.paused ? "stopped" : "broken"; }

const FORGET = 300_000; // ms; the clocks do not run equally fast

/** Measures the difference between this device's clock and the server's, so that delays are correct. */
export class Clock {
  #ahead = 0;
  #trip = Infinity; // ms, of the answer that counts
  #learned = 0; // when it came

  /**
   * @param {number | undefined} server  the server's clock in an answer, ms since 1970
   * @param {number} asked     performance.now() before the request
   * @param {number} answered  performance.now() after it
   */
  learn(server, asked, answered) {
    const trip = answered - asked;
    // On a busy link the answer may wait, but not the request. So the fastest answer of the last minutes counts.
    if (typeof server !== "number" || (trip > this.#trip && answered - this.#learned < FORGET)) return;
    this.#ahead = server + trip / 2 - Date.now() - (performance.now() - answered);
    [this.#trip, this.#learned] = [trip, answered];
  }

  /** @returns {number} the server's time, ms since 1970 */
  now = () => Date.now() + this.#ahead;
}

const ANSWER_LIMIT = 8000; // ms until a gateway counts as away: every recovery of a page waits for its answer

/**
 * Sends one status request to the gateway.
 * @param {Clock} clock
 * @param {AbortSignal} [signal]
 * @param {string} [url]  of the status, if it is not that of the page's stream
 * @returns {Promise<Answer>}
 */
export async function ask(clock, signal = new AbortController().signal, url = neighbour("status.json")) {
  const asked = performance.now();
  const over = new AbortController();
  const end = () => over.abort();
  const timer = setTimeout(end, ANSWER_LIMIT);
  signal.addEventListener("abort", end);
  if (signal.aborted) end();
  try {
    const reply = await fetch(url, { cache: "no-store", signal: over.signal });
    const answered = performance.now();
    if (reply.status === 401 || reply.status === 403) return { kind: "denied", detail: await reason(reply) };
    if (!reply.ok) return { kind: "away" };
    /** @type {Status} */
    const status = await reply.json();
    clock.learn(status.now, asked, answered);
    return { kind: "status", status };
  } catch (error) {
    if (signal.aborted) throw error;
    return { kind: "away" };
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", end);
  }
}

/**
 * Returns the server's message for a refusal, if any.
 * @param {Response} reply
 * @returns {Promise<string>}
 */
async function reason(reply) {
  const text = (await reply.text()).trim();
  try {
    const { error } = JSON.parse(text);
    return typeof error === "string" ? error : "";
  } catch {
    return text.length < 200 && !text.startsWith("<") ? text : "";
  }
}

/** The pauses between attempts: short at first, then longer up to a limit, random to spread the viewers. */
export class Backoff {
  #first; #most; #next;

  /** @param {number} first @param {number} most */
  constructor(first, most) {
    this.#first = this.#next = first;
    this.#most = most;
  }

  reset() { this.#next = this.#first; }

  /** @returns {number} the seconds of the next pause */
  next() {
    const seconds = this.#next * (0.75 + Math.random() / 2);
    this.#next = Math.min(this.#most, this.#next * 1.5);
    return seconds;
  }

  /**
   * @param {AbortSignal} signal
   * @returns {Promise<void>} after the next pause, or at once when aborted
   */
  pause(signal) {
    const seconds = this.next();
    return new Promise((done) => {
      const timer = setTimeout(finish, seconds * 1000);
      function finish() {
        clearTimeout(timer);
        signal.removeEventListener("abort", finish);
        done();
      }
      signal.addEventListener("abort", finish);
      if (signal.aborted) finish();
    });
  }
}
