/** Plays a channel in a video element of any page, in the best way of this browser, and restarts it automatically. */

import { newest, waitsForEnded } from "../players/media.js";
import { addresses, addressFor, AUTO, choices } from "../players/quality.js";
import { absence, ask, Backoff, Clock } from "../players/status.js";
import { Ways, WAYS } from "../players/ways.js";

/** @typedef {import("../players/quality.js").Choice} Choice */
/** @typedef {import("../players/types.js").Address} Address */
/** @typedef {import("../players/types.js").Engine} Engine */
/** @typedef {import("../players/types.js").Format} Format */
/** @typedef {import("../players/types.js").Outcome} Outcome */
/** @typedef {import("../players/types.js").Status} Status */
/** @typedef {import("../players/types.js").Way} Way */

/** Those of `View` without the ones of rewinding. @typedef {import("../players/view.js").State} State */

const USED = ["wsflv", "cmaf", "flv", "hls"]; // the ways that a page of others gets; WebRTC and WebCodecs cost the gateway more
const LOOK = 250;         // ms between two looks at the picture
const STILL = 1500;       // ms that the picture stands still before this is said, and the gateway asked for the reason
const AGAIN = 1500;       // ms between two such questions, and up to twice as many: the viewers of a stream spread them
const STALL = 8000;       // ms after which the stream is opened again
const STABLE = 5000;      // ms of playback after which an error counts as a new one
const PAUSE_LIMIT = 30_000; // ms of pause in which the stream is still received
const LATE = 2000;        // ms of pause after which playback continues with the live picture
/** After these, the next status is requested at once. @type {Outcome} */
const ANOTHER = { why: "tracks", detail: "" };

/**
 * @typedef {object} Listener
 * @property {(state: State, detail: string) => void} state
 * @property {(status: Status) => void} about
 * @property {() => void} qualities  they, or the chosen one, have changed
 */

export class StreamPlayer {
  /** The qualities that a viewer can choose, the best first; empty if there is no choice. @type {Choice[]} */
  qualities = [];
  /** @type {State} */
  state = "connecting";

  #video; #folder; #sign; #listener;
  #clock = new Clock();
  #waiting = new Backoff(1, 5);   // for a stream that is not live yet
  #absent = new Backoff(5, 30);   // for what a viewer cannot change: no such channel, no permission
  #resting = new Backoff(10, 30); // while nobody wants to play
  #trouble = new Backoff(1, 20);
  #away = new Backoff(1, 2);
  #ways = new Ways(WAYS.filter(({ id }) => USED.includes(id)), AUTO);
  #closed = new AbortController();
  #wake = new AbortController();
  #stopped = new AbortController(); // aborted when a promise of `play` cannot be kept
  #wanted = false;
  #alone = false;                 // whether playback began without a viewer's act: then it may begin muted
  #played = false;
  #quality = AUTO;
  /** @type {Engine | null} */
  #engine = null;
  /** @type {Address[]} */
  #known = [];
  /** @type {Address} */
  #open = { id: "", file: "", bitrate: 0 };
  /** Ends playback; the stream is opened again if it is wanted. @type {() => void} */
  #reopen = () => undefined;

  /**
   * @param {HTMLVideoElement} video
   * @param {string} folder  the address of the channel, with a slash at its end
   * @param {string} sign    the play signature; "": none
   * @param {Listener} listener
   */
  constructor(video, folder, sign, listener) {
    this.#video = video;
    this.#folder = folder;
    this.#sign = sign;
    this.#listener = listener;
    void this.#run();
  }

  /**
   * Returns the address of a file of the channel.
   * @param {string} file
   * @returns {string}
   */
  address(file) {
    const url = new URL(file, this.#folder);
    if (this.#sign) url.searchParams.set("sign", this.#sign);
    return url.href;
  }

  /** @returns {number | null} seconds between publisher and picture; null while unknown */
  get delay() { return this.#engine?.delay() ?? null; }

  /** Whether it plays, or will as soon as it can. @returns {boolean} */
  get wanted() { return this.#wanted; }

  /** @returns {string} */
  get quality() { return this.#quality; }

  /** @param {string} id  AUTO, or the id of one of `qualities`; kept until they are known */
  set quality(id) {
    if (id === this.#quality) return;
    this.#quality = id;
    if (this.#engine && addressFor(this.#known, id).file === this.#open.file) this.#engine.quality?.(id);
    else this.#reopen();
    this.#listener.qualities();
  }

  /** Begins to play as soon as the channel is live. @param {boolean} alone  muted, if the browser forbids sound */
  begin(alone) {
    this.#wanted = true;
    this.#alone = alone;
    this.#wake.abort();
  }

  /**
   * Plays, as `HTMLMediaElement.play`.
   * @returns {Promise<void>} when it plays
   */
  play() {
    const video = this.#video;
    this.begin(false);
    if (this.#engine && video.readyState > HTMLMediaElement.HAVE_NOTHING) return video.play();
    return new Promise((done, failed) => {
      const over = new AbortController();
      const { signal: stopped } = this.#stopped;
      video.addEventListener("playing", () => { over.abort(); done(); }, { signal: over.signal });
      stopped.addEventListener("abort", () => { over.abort(); failed(stopped.reason); }, { signal: over.signal });
    });
  }

  pause() {
    this.#stop(new DOMException("The playback was stopped.", "AbortError"));
    this.#video.pause();
  }

  /** Nobody wants to play any more. @param {DOMException} reason  for those who wait for the begin */
  #stop(reason) {
    this.#wanted = false;
    this.#stopped.abort(reason);
    this.#stopped = new AbortController();
  }

  /** Stops, for good. */
  close() {
    this.#closed.abort();
    this.pause();
    this.#reopen();
    this.#wake.abort();
  }

  async #run() {
    const { signal } = this.#closed;
    while (!signal.aborted) {
      this.#wake = new AbortController();
      const pause = await this.#once().catch((error) => {
        if (!signal.aborted) reportError(error);
        return this.#trouble;
      });
      if (pause && !signal.aborted) await pause.pause(this.#wake.signal);
    }
  }

  /**
   * Asks for the status, and plays if the stream is live and wanted.
   * @returns {Promise<Backoff | null>} the pause until the next time; null: none
   */
  async #once() {
    const answer = await this.#ask();
    if (answer.kind !== "status") {
      this.#show(answer.kind === "denied" ? "denied" : "lost", "detail" in answer ? answer.detail : "");
      return answer.kind === "denied" ? this.#absent : this.#away;
    }
    this.#away.reset();
    const { status } = answer;
    this.#listener.about(status);
    if (!status.live) {
      this.#ways.reset();
      this.#show(this.#played ? "ended" : status.name === null ? "unknown" : "waiting");
      return status.name === null ? this.#absent : this.#wanted ? this.#waiting : this.#resting;
    }
    if (!this.#wanted) {
      this.#show("blocked");
      return this.#resting;
    }
    const choice = await this.#ways.choose(status);
    if (this.#closed.signal.aborted) return null;
    if ("state" in choice) {
      const codecs = (status.tracks ?? []).map(({ codec }) => codec ?? "?").join(", ");
      this.#show(choice.state, choice.state === "codec" ? codecs : "");
      return choice.state === "starting" ? this.#away : choice.state === "lost" ? this.#trouble : this.#absent;
    }
    this.#waiting.reset();
    return this.#play(status, choice.way, choice.format);
  }

  #ask() { return ask(this.#clock, this.#closed.signal, this.address("status.json")); }

  /**
   * @param {Status} status
   * @param {Way} way
   * @param {Format} format
   * @returns {Promise<Backoff | null>}
   */
  async #play(status, way, format) {
    const video = this.#video;
    const over = new AbortController();
    const { signal } = over;
    this.#show(status.state === "lingering" ? absence(status) : "starting");
    this.#known = addresses(format, status);
    this.#open = addressFor(this.#known, this.#quality);
    /** @type {Promise<Outcome>} */
    const another = new Promise((done) => { this.#reopen = () => done(ANOTHER); });
    const renew = async () => {
      const answer = await this.#ask();
      return answer.kind === "status" ? answer.status : null;
    };
    const engine = this.#engine = format.open(video, this.address(this.#open.file), this.#clock.now, { status, renew });
    engine.quality?.(this.#quality);
    const opened = performance.now();
    let stable = false;
    video.addEventListener("timeupdate", () => {
      if (video.paused || video.readyState < HTMLMediaElement.HAVE_CURRENT_DATA) return;
      this.#played = true;
      stable ||= performance.now() - opened > STABLE;
      if (stable) this.#trouble.reset();
    }, { signal });
    video.addEventListener("canplay", () => void this.#start(), { signal, once: true });
    this.#watchPauses(signal);
    try {
      const { why, detail } = await Promise.race([engine.outcome, another, this.#watch(status, signal)]);
      switch (why) {
        case "tracks": return null;
        case "codec":
          if (this.#ways.failed(way, true, status)) return null;
          this.#show("codec", detail);
          return this.#absent;
        case "denied":
          this.#show("denied", detail);
          return this.#absent;
        case "ended":
          if (!stable && this.#ways.failed(way, false, status)) return null; // the next status says whether the stream ended
          this.#ways.reset();
          return this.#away;
        default:
          if (!stable && this.#ways.failed(way, false, status)) return null;
          this.#show("lost");
          return this.#trouble;
      }
    } finally {
      over.abort();
      this.#engine = null;
      this.#reopen = () => undefined;
      engine.close();
    }
  }

  /** Starts playback; muted if nobody asked for it and the browser forbids sound. @returns {Promise<void>} */
  async #start() {
    const video = this.#video;
    if (!this.#wanted) return;
    try {
      await video.play();
    } catch (error) {
      if (!(error instanceof DOMException) || error.name !== "NotAllowedError") return;
      if (this.#alone && !video.muted) {
        video.muted = true;
        return this.#start();
      }
      this.#stop(error);
      this.#show("blocked");
    }
  }

  /**
   * Says whether the picture moves, and settles when the stream has to be opened again.
   * @param {Status} status
   * @param {AbortSignal} signal
   * @returns {Promise<Outcome>}
   */
  #watch(status, signal) {
    const video = this.#video;
    let [last, moved, next, asking] = [-1, performance.now(), 0, false];
    return new Promise((done) => {
      const timer = setInterval(async () => {
        const now = performance.now();
        const { shown } = this.#engine?.times?.() ?? { shown: video.currentTime, newest: newest(video) };
        this.#offer();
        if (shown !== last && !video.paused && video.readyState >= HTMLMediaElement.HAVE_CURRENT_DATA) this.#show("live");
        const unseen = document.hidden && (video.muted || this.state === "starting");
        if (shown !== last || (video.paused && this.#played) || unseen) [last, moved] = [shown, now];
        if (now - moved > STILL && this.state === "live") this.#show("stalled");
        if (now - moved <= STILL) next = moved + STILL + Math.random() * AGAIN;
        if (now < next || asking) return;
        asking = true;
        const answer = await this.#ask().catch(() => null);
        asking = false;
        next = performance.now() + AGAIN * (1 + Math.random());
        if (!answer || signal.aborted) return;
        if (answer.kind === "denied") return done({ why: "denied", detail: answer.detail });
        if (answer.kind === "away") this.#show("lost");
        else if (!answer.status.live) return done({ why: "ended", detail: "" });
        else if (waitsForEnded(answer.status, status, video)) return done(ANOTHER);
        else if (answer.status.state === "lingering") {
          this.#show(absence(answer.status));
          moved = performance.now() - STILL; // the publisher may need long
        } else if (performance.now() - moved > STALL) return done({ why: "lost", detail: "" });
      }, LOOK);
      signal.addEventListener("abort", () => clearInterval(timer));
    });
  }

  /** Ends playback after a long pause, and continues after a short one with the live picture. @param {AbortSignal} signal */
  #watchPauses(signal) {
    const video = this.#video;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    let timer;
    let paused = 0;
    video.addEventListener("pause", () => {
      if (video.ended || video.error || (document.hidden && video.muted)) return; // browsers pause a hidden tab without sound by themselves
      paused = performance.now();
      this.#wanted = false;
      this.#show("paused");
      clearTimeout(timer);
      timer = setTimeout(() => this.#reopen(), PAUSE_LIMIT);
    }, { signal });
    video.addEventListener("play", () => {
      clearTimeout(timer);
      this.#wanted = true;
      if (paused && performance.now() - paused > LATE) this.#engine?.toLive?.();
    }, { signal });
    // A tab in the background is slowed down, so its buffer is old.
    document.addEventListener("visibilitychange", () => { if (!document.hidden && !video.paused) this.#engine?.toLive?.(); }, { signal });
    signal.addEventListener("abort", () => clearTimeout(timer));
  }

  /** Tells which qualities there are, if they are others than before. */
  #offer() {
    const found = choices(this.#known, this.#open, this.#engine?.qualities?.() ?? []);
    const ids = (/** @type {Choice[]} */ all) => all.map(({ id }) => id).join();
    if (ids(found) === ids(this.qualities)) return;
    this.qualities = found;
    this.#listener.qualities();
  }

  /** @param {State} state @param {string} [detail] */
  #show(state, detail = "") {
    if (this.#closed.signal.aborted || (state === this.state && !detail)) return;
    this.state = state;
    this.#listener.state(state, detail);
  }
}
