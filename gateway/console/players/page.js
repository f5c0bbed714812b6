/** One idea: the life of a player page: wait for the stream, play it, say what happens, come back by itself. */

import { newest } from "./media.js";
import { keep, recall } from "./memory.js";
import { addresses, addressFor, AUTO, choices } from "./quality.js";
import { ask, Backoff, Clock, neighbour, streamName } from "./status.js";
import { View } from "./view.js";
import { t } from "./words.js";

/** @typedef {import("./types.js").Address} Address */
/** @typedef {import("./types.js").Engine} Engine */
/** @typedef {import("./types.js").Format} Format */
/** @typedef {import("./types.js").Outcome} Outcome */
/** @typedef {import("./types.js").Status} Status */

const STALL = 8;            // seconds without a new picture before the status is asked again
const TO_AND_FRO = 0.5;     // seconds beyond what was shown from which a picture counts as a new one
const PAUSE_KEEPS = 30;     // seconds of pause during which the stream is still received
const BEHIND = 4;           // seconds behind the usual delay from which "Go live" is offered

/**
 * Plays `format` on this page for as long as the page is open.
 * @param {Format} format
 */
export function start(format) {
  const page = new Page(format, new View(streamName(), format));
  page.run().catch((error) => {
    page.view.show("lost", error instanceof Error ? error.message : String(error));
    throw error;
  });
}

class Page {
  #clock = new Clock();
  #waiting = new Backoff(1, 5);     // for a stream that is not there yet
  #trouble = new Backoff(1, 20);    // for a gateway that is away, or a stream that keeps breaking
  #usual = Infinity;                // the smallest delay seen since this engine began
  /** @type {Engine | null} */
  #engine = null;
  #wake = new AbortController();
  #played = false;
  #wanted = recall("quality") ?? AUTO;
  /** @type {Address[]} */
  #known = [];
  /** @type {Address} */
  #open = { id: "", file: "", bitrate: 0 };
  /** @type {() => void} */
  #reopen = () => undefined;

  /** @param {Format} format @param {View} view */
  constructor(format, view) {
    this.format = format;
    this.view = view;
    view.onRetry(() => this.#wake.abort());
    view.controls.onGoLive(() => this.#toLive());
    view.controls.onQuality((id) => this.#choose(id));
    document.addEventListener("keydown", (event) => this.#key(event));
    document.addEventListener("visibilitychange", () => {
      // A tab in the background is slowed down: what came meanwhile is stale.
      if (!document.hidden && !view.video.paused) this.#toLive();
    });
    addEventListener("pagehide", () => this.#engine?.close());
    setInterval(() => this.#refresh(), 500);
  }

  async run() {
    const { view, format } = this;
    if (format.unsupported !== null) return view.show("codec", t("detail.mse", { format: format.label }));
    for (;;) {
      const outcome = await this.#once();
      if (outcome === null || outcome === "another") continue;
      if (outcome.why === "denied") await this.#untilRetry("denied", outcome.detail);
      else if (outcome.why === "codec") await this.#untilRetry("codec", outcome.detail);
      else if (outcome.why === "ended") {
        view.show("ended");
        this.#waiting.reset();
        await this.#pause(this.#waiting);
      }
      else {
        view.show("lost");
        await this.#pause(this.#trouble);
      }
    }
  }

  /**
   * Asks once, and plays if the stream is there.
   * @returns {Promise<Outcome | "another" | null>}  "another": its other address is wanted; null: nothing was played,
   *   and the pause is over
   */
  async #once() {
    const { view, format } = this;
    const answer = await ask(this.#clock, new AbortController().signal);
    if (answer.kind === "denied") return { why: "denied", detail: answer.detail };
    if (answer.kind === "away") {
      view.show("lost");
      await this.#pause(this.#trouble);
      return null;
    }
    const { live, outputs, ready = outputs } = answer.status;
    view.markTabs(outputs);
    if (!live) {
      const { poster } = answer.status;
      view.poster(poster ? neighbour(poster) : null);
      view.show(this.#played ? "ended" : "waiting");
      await this.#pause(this.#waiting);
      return null;
    }
    if (!outputs.includes(format.output)) {
      view.show("off");
      await this.#pause(this.#waiting);
      return null;
    }
    if (!ready.includes(format.output)) {
      view.show("starting");
      this.#waiting.reset();
      await this.#pause(this.#waiting);
      return null;
    }
    this.#waiting.reset();
    return this.#play(answer.status);
  }

  /**
   * @param {Status} status
   * @returns {Promise<Outcome | "another">}
   */
  async #play(status) {
    const { view, format } = this;
    const { video } = view;
    if (view.state !== "lost") view.show("starting");
    this.#usual = Infinity;
    this.#known = addresses(format, status);
    this.#open = addressFor(this.#known, this.#wanted);
    const engine = format.open(video, neighbour(this.#open.file), this.#clock.now);
    engine.quality?.(this.#wanted);
    this.#engine = engine;
    /** @type {Promise<"another">} */
    const another = new Promise((done) => { this.#reopen = () => done("another"); });
    const watch = new AbortController();
    const { signal } = watch;
    video.addEventListener("timeupdate", () => {
      if (video.paused || video.readyState < HTMLMediaElement.HAVE_CURRENT_DATA) return;
      this.#played = true;
      this.#trouble.reset();
      if (view.state !== "live") view.show("live");
    }, { signal });
    video.addEventListener("pause", () => { if (view.state === "live" && !video.ended) view.show("paused"); }, { signal });
    // Not before: a play() that precedes the source hides the element's "play" event from dash.js, which then never
    // looks at the manifest again (5.2.1).
    video.addEventListener("canplay", () => void view.play(), { signal, once: true });
    try {
      return await Promise.race([engine.outcome, another, this.#stalled(signal), this.#leftPaused(signal)]);
    } finally {
      watch.abort();
      this.#engine = null;
      engine.close();
      view.controls.offerGoLive(false);
    }
  }

  /**
   * Settles when no new picture came for a while although the viewer did not pause.
   *
   * A player that does not see the end may go to and fro in what it has: the picture moves then, and nothing is new.
   * @param {AbortSignal} signal
   * @returns {Promise<Outcome>}
   */
  #stalled(signal) {
    const { video } = this.view;
    let [last, furthest, came] = [video.currentTime, video.currentTime, newest(video)];
    let moved = performance.now(); // when the picture last moved
    let fresh = moved;             // when something last came, or was shown for the first time
    return new Promise((done) => {
      const timer = setInterval(async () => {
        const now = performance.now();
        const at = video.currentTime;
        const rests = (video.paused && !video.ended && this.view.state !== "starting") || document.hidden;
        if (rests || at !== last) moved = now;
        if (rests || at > furthest + TO_AND_FRO || newest(video) !== came) [fresh, furthest] = [now, Math.max(at, furthest)];
        [last, came] = [at, newest(video)];
        const stands = now - moved >= STALL * 1000;
        if (!stands && now - fresh < STALL * 1000) return;
        moved = stands ? now : moved;
        fresh = now;
        // It may only linger: as long as the stream is there, its connection is kept.
        const answer = await ask(this.#clock, signal).catch(() => null);
        if (answer?.kind === "denied") done({ why: "denied", detail: answer.detail });
        else if (answer?.kind === "status" && !answer.status.live) done({ why: "ended", detail: "" });
        else if (answer && stands) done({ why: "lost", detail: "no picture arrives" });
      }, 1000);
      signal.addEventListener("abort", () => clearInterval(timer));
    });
  }

  /**
   * Settles when a viewer who paused for long presses play: the stream was let go meanwhile, and is opened anew.
   * @param {AbortSignal} signal
   * @returns {Promise<Outcome>}
   */
  #leftPaused(signal) {
    const { view } = this;
    const { video } = view;
    return new Promise((done) => {
      /** @type {ReturnType<typeof setTimeout> | undefined} */
      let timer;
      let pausedAt = 0;
      let closed = false;
      video.addEventListener("pause", () => {
        pausedAt = performance.now();
        timer = setTimeout(() => {
          if (view.state !== "paused") return;
          closed = true;
          this.#engine?.close();
          // Without a source the controls cannot play: the page's own button does.
          view.show("blocked", t("detail.left"));
        }, PAUSE_KEEPS * 1000);
      }, { signal });
      video.addEventListener("play", () => {
        clearTimeout(timer);
        if (closed) done({ why: "lost", detail: "" });
        else if (pausedAt && performance.now() - pausedAt > 2000) this.#toLive();
      }, { signal });
      view.onStart(() => { if (closed) done({ why: "lost", detail: "" }); }, signal);
      signal.addEventListener("abort", () => clearTimeout(timer));
    });
  }

  /**
   * @param {"denied" | "codec"} state
   * @param {string} detail
   */
  async #untilRetry(state, detail) {
    this.view.show(state, detail);
    this.#wake = new AbortController();
    await new Promise((done) => this.#wake.signal.addEventListener("abort", done));
    this.view.show("connecting");
  }

  /** @param {Backoff} backoff */
  async #pause(backoff) {
    this.#wake = new AbortController();
    await backoff.pause(this.#wake.signal);
  }

  /** @param {string} id  what the viewer wants from now on */
  #choose(id) {
    this.#wanted = id;
    keep("quality", id);
    if (!this.#engine) return;
    if (addressFor(this.#known, id).file === this.#open.file) this.#engine.quality?.(id);
    else {
      this.view.hold();
      this.#reopen();
    }
    this.#refresh();
  }

  #toLive() {
    this.#engine?.toLive();
    void this.view.play();
  }

  #refresh() {
    const { video } = this.view;
    const end = newest(video);
    const playing = this.#engine !== null && (this.view.state === "live" || this.view.state === "paused");
    const delay = playing ? this.#engine?.delay() ?? null : null;
    this.view.facts({ delay, buffer: playing && end !== null ? end - video.currentTime : null });
    if (delay !== null) {
      this.#usual = Math.min(this.#usual, delay);
      this.view.controls.offerGoLive(delay > this.#usual + BEHIND);
    }
    if (playing) this.#offer();
  }

  /** Shows the qualities there are now. */
  #offer() {
    const found = choices(this.#known, this.#open, this.#engine?.qualities?.() ?? []);
    const is = (/** @type {string} */ id) => found.some((choice) => choice.id === id);
    const chosen = is(this.#wanted) ? this.#wanted : is(AUTO) ? AUTO : this.#open.id;
    this.view.controls.qualities(found, chosen, this.#engine?.shown?.() ?? null);
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    const target = event.target;
    // A focused control has its own meaning for most keys.
    const busy = target instanceof Element && target.closest("button, a, input, select, dialog") !== null;
    if (target instanceof Element && target.closest("dialog, input[type=text]")) return;
    switch (event.key.toLowerCase()) {
      case " ":
      case "k":
        if (busy && event.key === " ") return;
        this.view.toggle();
        break;
      case "m":
        this.view.muteOrNot();
        break;
      case "f":
        void this.view.controls.toggleFull();
        break;
      case "p":
        void this.view.controls.togglePip();
        break;
      case "arrowup":
      case "arrowdown":
        if (target !== this.view.video) return; // elsewhere they scroll
        this.view.controls.louder(event.key === "ArrowUp" ? 0.05 : -0.05);
        break;
      case "l":
        this.#toLive();
        break;
      default:
        return;
    }
    event.preventDefault();
  }
}
