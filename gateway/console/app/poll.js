/** One idea: what is shown is asked for again and again: once per path for all who show it, never behind a hidden tab. */

import { signal } from "@preact/signals";
import { useEffect, useMemo } from "preact/hooks";
import { api, isAbort } from "./api.js";
import { user } from "./session.js";

/**
 * The latest answer. The data of the last good one stay while later ones fail.
 * @template T
 * @typedef {{data: T | null, error: Error | null, at: number}} Polled  at: when `data` came, ms since 1970; 0: never
 */

/**
 * @template T
 * @typedef {import("@preact/signals").Signal<Polled<T>>} PolledSignal
 */

const LONGEST = 30_000; // between two tries while the gateway is away, ms
const KEEPS = 60_000;   // an answer nobody shows is kept this long, for whoever comes back to its view, ms

/** Nothing asked, nothing known. */
const NONE = signal(/** @type {Polled<any>} */ ({ data: null, error: null, at: 0 }));

/** @type {Map<string, Poller>} */
const pollers = new Map();

/** Asks one path for as long as somebody shows it. */
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
   * @param {number} every  milliseconds between answers; the most eager of all who show it decides
   * @returns {() => void}  to leave again
   */
  join(every) {
    const one = { every };
    this.#shown.add(one);
    // Whoever comes to a view sees what is so now.
    if (Date.now() - this.state.peek().at >= every) this.ask();
    else this.#schedule(every);
    return () => {
      this.#shown.delete(one);
      if (!this.idle) return;
      clearTimeout(this.#timer);
      setTimeout(() => { if (this.idle && pollers.get(this.path) === this) pollers.delete(this.path); }, KEEPS);
    };
  }

  /** Asks now; once more after the answer that is under way, which may be older than what the caller did. */
  ask() {
    clearTimeout(this.#timer);
    if (this.#asking) this.#again = true;
    else if (!document.hidden && user.peek() !== null) void this.#ask();
  }

  async #ask() {
    this.#asking = true;
    let pause = 0;
    try {
      const data = await api.get(this.path);
      this.#failures = 0;
      this.state.value = { data, error: null, at: Date.now() };
    } catch (error) {
      if (isAbort(error)) return; // the session ended: whoever signs in next begins anew
      if (!(error instanceof Error)) throw error;
      this.#failures += 1;
      this.state.value = { ...this.state.peek(), error };
      const wanted = "retryAfter" in error ? Number(error.retryAfter) * 1000 : 0;
      pause = Math.max(Number.isFinite(wanted) ? wanted : 0, Math.min(LONGEST, this.#every * 2 ** this.#failures));
    } finally {
      this.#asking = false;
    }
    const again = this.#again;
    this.#again = false;
    if (this.idle) return;
    if (again) this.ask();
    else this.#schedule(Math.max(pause, this.#every));
  }

  get #every() { return Math.min(...[...this.#shown].map((one) => one.every)); }

  /** @param {number} pause */
  #schedule(pause) {
    clearTimeout(this.#timer);
    // A tab that comes back is asked for by `visibilitychange`.
    this.#timer = setTimeout(() => this.ask(), pause);
  }
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden) return;
  for (const poller of pollers.values()) if (!poller.idle) poller.ask();
});

// What one person was shown is not the next one's.
user.subscribe((now) => {
  if (now !== null) return;
  for (const [path, poller] of pollers) {
    poller.state.value = NONE.peek();
    if (poller.idle) pollers.delete(path);
  }
});

/**
 * What `GET path` answers, kept fresh while the component is shown.
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
    // It may have been forgotten between the rendering and now.
    pollers.set(poller.path, poller);
    return poller.join(every);
  }, [poller, every]);
  return poller?.state ?? NONE;
}

/**
 * Asks at once, after something was changed: whoever shows this path sees it.
 * @param {string} path
 */
export function refresh(path) {
  const poller = pollers.get(path);
  if (poller && !poller.idle) poller.ask();
}
