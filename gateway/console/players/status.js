/** One idea: asking the gateway whether the stream is there, without ever asking for media that is not. */

/** @typedef {import("./types.js").Status} Status */

/** What was learnt: the status, or that the gateway refused or did not answer. */
/** @typedef {{kind: "status", status: Status} | {kind: "denied", detail: string} | {kind: "away"}} Answer */

/**
 * The page's neighbour `file`, with the page's own query: signatures must reach every request.
 * @param {string} file
 * @returns {string}
 */
export function neighbour(file) {
  const url = new URL(file, location.href);
  url.search = location.search;
  return url.href;
}

/** @returns {string} the stream that this page shows, as in its address */
export function streamName() { return decodeURIComponent(location.pathname.split("/").at(-2) ?? ""); }

/** Keeps the difference between this device's clock and the server's, so that delays are true ones. */
export class Clock {
  #ahead = 0;

  /**
   * @param {number | undefined} server  the server's clock in an answer, ms since 1970
   * @param {number} asked     performance.now() before the request
   * @param {number} answered  performance.now() after it
   */
  learn(server, asked, answered) {
    if (typeof server === "number") this.#ahead = server + (answered - asked) / 2 - Date.now();
  }

  /** @returns {number} the server's time, ms since 1970 */
  now = () => Date.now() + this.#ahead;
}

/**
 * One question to the gateway.
 * @param {Clock} clock
 * @param {AbortSignal} signal
 * @returns {Promise<Answer>}
 */
export async function ask(clock, signal) {
  const asked = performance.now();
  try {
    const reply = await fetch(neighbour("status.json"), { cache: "no-store", signal });
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
  }
}

/**
 * The server's words for a refusal, if it gave any.
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

/** Seconds between questions: soon at first, then slower up to a bound, never all viewers at once. */
export class Backoff {
  #first; #most; #next;

  /** @param {number} first @param {number} most */
  constructor(first, most) {
    this.#first = this.#next = first;
    this.#most = most;
  }

  reset() { this.#next = this.#first; }

  /**
   * @param {AbortSignal} signal
   * @returns {Promise<void>} after the next pause, or at once when aborted
   */
  pause(signal) {
    const seconds = this.#next * (0.75 + Math.random() / 2);
    this.#next = Math.min(this.#most, this.#next * 1.5);
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
