/** Polls the API: each path once for all components that show it, and never in a hidden tab. */

import { signal } from "@preact/signals";
import { useEffect, useMemo } from "preact/hooks";
import { api, isAbort } from "../players/api.js";
import { unreachable, user } from "./session.js";

/**
 * The latest answer. If a request fails, the data of the last successful one stay.
 * @template T
 * @typedef {{data: T | null, error: Error | null, at: number}} Polled  at: when `data` came, ms since 1970; 0: never
 */

/**
 * @template T
 * @typedef {import("@preact/signals").Signal<Polled<T>>} PolledSignal
 */

const FIRST = 2_000;    // ms; the pauses after failures are 4 s, 8 s and so on, less for paths that are asked more often
const LONGEST = 30_000; // ms; longest pause after a failure
const KEEPS = 60_000;   // ms that an answer is kept after its view was closed

/** The value without any request. */
const NONE = signal(/** @type {Polled<any>} */ ({ data: null, error: null, at: 0 }));

/** @type {Map<string, Poller>} */
const pollers = new Map();

/** Polls one path while a component shows it. */
class Poller {
  /** @type {PolledSignal<any>} */
  state = signal({ data: null, error: null, at: 0 });
  /** @type {Set<{every: number}>} */
  #shown = new Set();
  #failures = 0;
  #asking = false;
  #again = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;

  /** @param {string} path */
  constructor(path) { this.path = path; }

  get idle() { return this.#shown.size === 0; }

  /**
   * @param {number} every  milliseconds between answers; the shortest of all components is used
   * @returns {() => void}  stops the use
   */
  join(every) {
    const one = { every };
    this.#shown.add(one);
    // A newly opened view gets a new answer.
    if (Date.now() - this.state.peek().at >= every) this.ask();
    else this.#schedule(every);
    return () => {
      this.#shown.delete(one);
      if (!this.idle) return;
      clearTimeout(this.#timer);
      setTimeout(() => { if (this.idle && pollers.get(this.path) === this) pollers.delete(this.path); }, KEEPS);
    };
  }

  /** Like `ask()`, and the pauses after failures are short again. */
  askAnew() {
    this.#failures = 0;
    this.ask();
  }

  /** Sends a request now. If one is running, sends another after it, because its answer may be older than the change. */
  ask() {
    clearTimeout(this.#timer);
    if (this.#asking) this.#again = true;
    else if (!document.hidden && user.peek() !== null) void this.#ask();
  }

  async #ask() {
    this.#asking = true;
    let pause;
    try {
      const data = await api.get(this.path);
      this.#failures = 0;
      this.state.value = { data, error: null, at: Date.now() };
    } catch (error) {
      if (isAbort(error)) return; // the session ended; the next user starts anew
      if (!(error instanceof Error)) throw error;
      this.#failures += 1;
      this.state.value = { ...this.state.peek(), error };
      const wanted = "retryAfter" in error ? Number(error.retryAfter) * 1000 : 0;
      const own = Math.min(LONGEST, Math.min(FIRST, this.#every) * 2 ** this.#failures);
      pause = Math.max(Number.isFinite(wanted) ? wanted : 0, own);
    } finally {
      this.#asking = false;
    }
    const again = this.#again;
    this.#again = false;
    if (this.idle) return;
    if (again) this.ask();
    else this.#schedule(pause ?? this.#every);
  }

  get #every() { return Math.min(...[...this.#shown].map((one) => one.every)); }

  /** @param {number} pause */
  #schedule(pause) {
    clearTimeout(this.#timer);
    // When the tab becomes visible again, `visibilitychange` starts the polling.
    this.#timer = setTimeout(() => this.ask(), pause);
  }
}

// "online" may come before requests arrive again, so the first one may still fail.
const askAll = () => { if (!document.hidden) for (const poller of pollers.values()) if (!poller.idle) poller.askAnew(); };
document.addEventListener("visibilitychange", askAll);
addEventListener("online", askAll);

// Requests that failed meanwhile are repeated at once, so that nothing is called out of date for longer than it is.
unreachable.subscribe((is) => {
  if (!is) for (const poller of pollers.values()) if (!poller.idle && poller.state.peek().error) poller.ask();
});

// The next user must not see the data of this one.
user.subscribe((now) => {
  if (now !== null) return;
  for (const [path, poller] of pollers) {
    poller.state.value = NONE.peek();
    if (poller.idle) pollers.delete(path);
  }
});

/**
 * Returns the answer of `GET path`, updated while the component is shown.
 * @template T
 * @param {string | null} path  null: nothing is asked
 * @param {number} every  milliseconds
 * @returns {PolledSignal<T>}
 */
export function usePoll(path, every) {
  const poller = useMemo(() => {
    if (path === null) return null;
    const found = pollers.get(path) ?? new Poller(path);
    pollers.set(path, found);
    return found;
  }, [path]);
  useEffect(() => {
    if (poller === null) return undefined;
    // The poller may have been removed since the rendering.
    pollers.set(poller.path, poller);
    return poller.join(every);
  }, [poller, every]);
  return poller?.state ?? NONE;
}

/**
 * Requests the path at once after a change, so that all components with this path show it, with any query.
 * @param {string} path
 */
export function refresh(path) {
  for (const [asked, poller] of pollers) {
    if (asked !== path && !asked.startsWith(`${path}?`)) continue;
    if (poller.idle) pollers.delete(asked); // its answer is older than the change
    else poller.ask();
  }
}
