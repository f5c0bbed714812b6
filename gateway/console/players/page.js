/** Runs a player page: waits for the stream, plays it, shows its state, and restarts it automatically. */

import { pressed } from "./keyboard.js";
import { speak } from "./language.js";
import { newest, spread, waitsForEnded } from "./media.js";
import { answerMessages } from "./messages.js";
import { keep, recall } from "./memory.js";
import { addresses, addressFor, AUTO, choices, heightOf } from "./quality.js";
import { Report } from "./report.js";
import { RewindBar } from "./rewind-bar.js";
import { absence, ask, Backoff, Clock, EMBEDDED, neighbour, streamName } from "./status.js";
import { Struggle } from "./struggle.js";
import { View } from "./view.js";
import { onlyWay } from "./ways.js";
import { t } from "./words.js";

/** @typedef {import("./types.js").Address} Address */
/** @typedef {import("./types.js").Engine} Engine */
/** @typedef {import("./types.js").Format} Format */
/** @typedef {import("./types.js").Outcome} Outcome */
/** @typedef {import("./types.js").Status} Status */
/** @typedef {import("./types.js").Way} Way */
/** @typedef {import("./ways.js").Ways} Ways */

const STALL = 8; // seconds without a new picture beside a publisher, after which the stream is opened again
const STILL_SECONDS = 0.5; // seconds that the picture stands still before the gateway is asked for the reason
const STILL_LIMIT = 1.5; // seconds that the picture stands still before this is shown
const NEWER = 50; // ms by which a picture is newer than the one that stood still
const MIN_PROGRESS = 0.5; // seconds after the latest shown picture, from which one is new
const PAUSE_LIMIT = 30; // seconds of pause in which the stream is still received
const LATE_SECONDS = 4; // seconds of delay beyond the usual from which "Go live" is offered
const MAX_SEGMENT_WAIT = 30; // seconds to wait for long segments
const STABLE_PLAYBACK = 5; // seconds of playback after which an error is a new one
const OLDEST_AGAIN = 2; // seconds until the status is asked again how far one can go back
const BY_BROWSER = 1000; // ms after a tab was hidden, in which the browser pauses it
const RELOAD = 30_000; // ms between reloads of a page without a player
const NO_PICTURE = "no picture arrives";

/**
 * Plays `format` while this page is open.
 * @param {Format} format
 */
export function start(format) {
  const page = new Page(onlyWay(format), new View(streamName(), format));
  if (format.unsupported === null) return void page.run();
  const feature = format.unsupported;
  const another = EMBEDDED ? "detail.off.embed" : "detail.off";
  speak(() => page.view.show("missing", `${t("detail.missing", { feature })} ${t(another)}`));
  void page.describe();
}

/**
 * Plays a stream in one of several ways. The viewer may choose another one in the page's layout.
 * @param {Ways} ways
 * @param {View} view
 * While nobody pushes, it plays the last recorded session, if the channel offers it.
 * @returns {() => void}  applies a new choice
 */
export function startBest(ways, view) {
  const page = new Page(ways, view, !streamName().includes("@")); // a rendition is not recorded
  void page.run();
  return () => page.restart();
}

class Page {
  #clock = new Clock();
  #waiting = new Backoff(1, 5); // for a stream that is not live yet
  #absent = new Backoff(5, 30); // for a channel that does not exist
  #trouble = new Backoff(1, 20); // for a stream that fails again and again
  #away = new Backoff(1, 2); // for a gateway that does not answer; it may be back at any moment
  #still = new Backoff(1, 5); // for a picture that stands still
  #struggle = new Struggle();
  #usual = Infinity; // the smallest delay since this engine began
  /** @type {Engine | null} */
  #engine = null;
  #wake = new AbortController(); // aborted when the viewer chooses something
  #played = false;
  #wanted = recall("quality") ?? AUTO;
  #heard = recall("track") ?? ""; // the audio track that the viewer wants
  /** @type {Address[]} */
  #known = [];
  /** @type {Address} */
  #open = { id: "", file: "", bitrate: 0 };
  /** Ends playback. @type {(why?: "another" | "left") => void} */
  #reopen = () => undefined;
  #report = new Report({ delay: () => this.#delay(), quality: () => this.#quality() });
  /** The way that plays or played last; null while rewound. @type {Way | null} */
  #way = null;
  /** The status with which it was opened. @type {Status | null} */
  #status = null;
  #stable = false; // whether it has played for a while
  /** The date that is played, or was played last, ms since 1970; null: live. @type {number | null} */
  #date = pageDate();
  #bar = new RewindBar((date) => this.#goTo(date), () => this.#toLive());

  /** The player of recorded sessions; null until one is played. @type {import("./replay.js").Replay | null} */
  #replay = null;
  /** When this page has first seen the current or last push, ms since 1970; 0: it has seen none. */
  #seenLive = 0;
  #unplayable = 0; // start of a session that cannot be played here
  #refused = ""; // codecs that could not be played
  #rested = false; // whether the browser has paused it, because nobody saw it
  #hidden = 0; // performance.now() at which the tab was hidden

  /** @param {Ways} ways @param {View} view @param {boolean} [replays]  whether it plays recorded sessions */
  constructor(ways, view, replays = false) {
    this.replays = replays;
    this.ways = ways;
    this.view = view;
    view.onRetry(() => this.#wake.abort());
    view.video.addEventListener("play", () => { if (view.state === "blocked") this.#wake.abort(); });
    view.controls.addBar(this.#bar.element);
    view.controls.onGoLive(() => this.#toLive());
    view.controls.onQuality((id) => this.#choose(id));
    view.controls.onSound((name) => {
      this.#heard = name;
      keep("track", name);
      this.#engine?.sound?.(name);
    });
    document.addEventListener("keydown", (event) => pressed(event, this.view, () => this.#toLive()));
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) this.#hidden = performance.now();
      if (document.hidden || this.#date !== null) return;
      // A tab in the background is slowed down, so its buffer is old.
      if (!view.video.paused) this.#toLive();
      else if (this.#rested && view.state === "blocked") this.#wake.abort();
    });
    this.#report.follow(view.video);
    addEventListener("pagehide", () => this.#engine?.close());
    addEventListener("pageshow", ({ persisted }) => {
      if (!persisted) return; // else the back button was used
      if (isIdle(view.state)) this.#reopen("left");
      else this.#switch();
    });
    setInterval(() => this.#refresh(), 500);
    answerMessages({
      video: view.video, play: () => view.play(), quality: (id) => this.#choose(id),
      state: () => ({ state: view.state, quality: this.#wanted, qualities: this.#choices().map(({ id }) => id) }),
    });
  }

  /** Shows what is known of the channel, without playing it. */
  async describe() {
    const answer = await ask(this.#clock);
    if (answer.kind === "status") this.view.about(answer.status);
  }

  async run() {
    const { view, ways } = this;
    for (;;) {
      this.#wake = new AbortController();
      const outcome = await this.#once().catch((error) => {
        reportError(error);
        return /** @type {Outcome} */ ({ why: "lost", detail: String(error.message) });
      });
      if (outcome === null || outcome === "another") continue;
      if (outcome === "left") await this.#untilRetry("blocked", view.state === "paused" ? t("detail.left") : "");
      else if (outcome.why === "denied") await this.#untilRetry("denied", outcome.detail);
      else if (outcome.why === "codec" && !this.#stable) { // else one segment was broken
        if (this.#way && this.#status && ways.failed(this.#way, true, this.#status)) continue;
        await this.#untilRetry("codec", outcome.detail || codecsOf(this.#status));
        ways.reset();
      } else if (outcome.why === "ended") {
        // Something on the way may close the connection at once. If the stream ended, the next status says so.
        if (this.#way && this.#status && !this.#stable && ways.failed(this.#way, false, this.#status)) continue;
        view.show("ended");
        ways.reset();
        this.#waiting.reset();
        await this.#pause(this.#waiting);
      }
      else if (outcome.why !== "tracks") await this.#broke(outcome);
    }
  }

  /** Opens the stream again, because the viewer has chosen another way. */
  restart() {
    this.ways.reset();
    this.view.hold();
    this.#reopen();
    this.#wake.abort();
  }

  /**
   * The player stopped. The gateway knows whether the viewer or the publisher lost the connection.
   * @param {Outcome} outcome
   */
  async #broke(outcome) {
    const { view } = this;
    if (!isAway(view.state)) view.show("stalled");
    await spread();
    const answer = await ask(this.#clock);
    if (answer.kind !== "status") {
      view.show("lost");
      return this.#pause(this.#away);
    }
    if (answer.status.state === "lingering") view.show(absence(answer.status));
    else if (!answer.status.live) return;
    // A way that played before gets a second try, unless no pictures arrive.
    else if (this.#way && (!this.#stable || outcome.detail === NO_PICTURE) && this.ways.failed(this.#way, false, answer.status)) return;
    // A publisher that has just come back broke the playback itself.
    else if (!isAway(view.state)) view.show("lost");
    await this.#pause(this.#trouble);
  }

  /**
   * Asks for the status once, and plays if the stream is live.
   * @returns {Promise<Outcome | "another" | "left" | null>}  "another": another address has to be played; "left":
   *   nobody watches until a click; null: nothing was played, and the pause is over
   */
  async #once() {
    const { view } = this;
    const answer = await ask(this.#clock);
    if (answer.kind === "denied") return { why: "denied", detail: answer.detail };
    if (answer.kind === "away") {
      view.show("lost");
      await this.#pause(this.#away);
      return null;
    }
    this.#away.reset();
    const { live, name, poster, replay } = answer.status;
    view.about(answer.status);
    if (!live) {
      this.#date = null;
      this.#bar.hide();
      this.ways.reset();
      // What this page has seen live is replayed as soon as it is stored; an older session is not.
      if (this.replays && replay && replay.changed >= this.#seenLive && replay.start !== this.#unplayable) {
        await this.#playReplay(replay);
        return null;
      }
      view.poster(poster ? neighbour(poster) : null);
      view.show(this.#played ? "ended" : name === null ? "unknown" : "waiting");
      await this.#pause(name === null ? this.#absent : this.#waiting);
      return null;
    }
    this.#seenLive ||= answer.status.now ?? 0;
    // If it does not load, the page plays live.
    const hls = answer.status.rewind && this.#date !== null ? await import("./hls-engine.js").catch(() => null) : null;
    if (this.#wake.signal.aborted) return "another";
    if (hls && this.#date !== null) {
      const media = answer.status.captions?.length ? "index.m3u8" : "live.m3u8"; // only the first one has captions
      const format = { label: "HLS", output: "hls", media, unsupported: null, open: hls.rewindEngine(this.#date) };
      // A channel without the output "hls" has this playlist too; a request waits for its first segment.
      if (answer.status.ready?.includes("hls") || !answer.status.outputs?.includes("hls")) {
        this.#waiting.reset();
        this.#way = null;
        this.#stable = false;
        view.uses(format);
        const outcome = await this.#play(answer.status, format);
        if (typeof outcome === "string" || this.#stable) return outcome;
        this.#date = null; // it would fail again, so the page plays live
        return "another";
      }
    }
    this.#date = null;
    const choice = await this.ways.choose(answer.status);
    if (this.#wake.signal.aborted) return "another";
    if ("state" in choice) {
      view.show(choice.state, choice.state === "codec" ? codecsOf(answer.status) : "");
      if (choice.state === "starting") this.#waiting.reset();
      const lost = choice.state === "lost";
      if (lost && performance.now() > RELOAD) location.reload(); // Firefox before 155 never loads a failed module again
      await this.#pause(lost ? this.#trouble : this.#waiting);
      return null;
    }
    this.#waiting.reset();
    this.#way = choice.way;
    this.#stable = false;
    view.uses(choice.format);
    return this.#play(answer.status, choice.format);
  }

  /**
   * Plays a recorded session until somebody pushes, or it is not the last one any more.
   * @param {import("./types.js").Recorded} replay
   */
  async #playReplay(replay) {
    this.#status = null; // its time bar is not shown
    this.#seenLive = 0;
    this.#report.close();
    this.#waiting.reset();
    const module = await import("./replay.js").catch(() => null);
    if (!module) {
      this.#unplayable = replay.start; // the page waits for the next push without it
      return;
    }
    const player = this.#replay ??= new module.Replay(this.view);
    /** @type {import("./recorded-source.js").Trouble | null} */
    let trouble = null;
    player.open(replay, (why) => {
      trouble = why;
      this.#wake.abort();
    });
    for (;;) {
      await this.#pause(this.#waiting);
      if (this.#wake.signal.aborted) break;
      const answer = await ask(this.#clock);
      if (answer.kind === "away") continue;
      if (answer.kind === "denied" || answer.status.replay?.start !== replay.start) break;
      this.view.about(answer.status);
      player.renew(answer.status.replay);
    }
    player.close();
    if (trouble === "codec") this.#unplayable = replay.start;
    else if (trouble) {
      this.#wake = new AbortController();
      await this.#pause(this.#trouble);
    }
  }

  /**
   * @param {Status} status
   * @param {Format} format
   * @returns {Promise<Outcome | "another" | "left">}
   */
  async #play(status, format) {
    const { view } = this;
    this.#status = status;
    const { video } = view;
    if (status.state === "lingering") view.show(absence(status));
    else if (view.state !== "lost" && !isAway(view.state) && view.state !== "stalled") view.show("starting");
    this.#usual = Infinity;
    this.#struggle.reset();
    this.#still.reset();
    this.#report.opening(format.protocol ?? format.output, status.reports === true);
    this.#known = addresses(format, status);
    this.#open = addressFor(this.#known, this.#wanted);
    const rewound = this.#date !== null;
    view.rewinds(rewound);
    void this.#askOldest();
    const watch = new AbortController();
    const { signal } = watch;
    const url = neighbour(this.#open.file);
    const reach = status.rewind ? `${url}${url.includes("?") ? "&" : "?"}rewind=${status.rewind}` : url;
    const renew = async () => {
      const answer = await ask(this.#clock, signal);
      return answer.kind === "status" ? answer.status : null;
    };
    const engine = format.open(video, rewound ? reach : url, this.#clock.now, { status, renew });
    engine.quality?.(this.#wanted);
    if (this.#heard) engine.sound?.(this.#heard);
    this.#engine = engine;
    view.captions.follow(engine, status, {
      date: () => this.#shownDate(), time: () => this.#times().shown, renew, reopen: () => this.#switch(),
    }, signal);
    /** @type {Promise<"another" | "left">} */
    const another = new Promise((done) => { this.#reopen = (why = "another") => done(why); });
    this.#watchPauses(signal);
    const opened = performance.now();
    // End of the media before the break. Infinity if the page was opened in a break that was not shown yet.
    let before = status.state === "lingering" ? Infinity : -Infinity;
    // Of the last picture before the break: its place, s, and its date, ms since 1970.
    let [shownBefore, dateBefore] = [-Infinity, NaN];
    const stood = () => {
      if (before !== Infinity && waits(view.state)) return;
      before = this.#times().newest ?? -Infinity;
      [shownBefore, dateBefore] = [this.#times().shown, this.#shownDate()];
    };
    // The gateway repeats old pictures for WebRTC. So the date counts where it is known.
    const isNew = (back = false) => {
      if (isStarved(video)) return false;
      if (before === Infinity) return back;
      const date = this.#shownDate();
      if (!Number.isNaN(date) && !Number.isNaN(dateBefore)) {
        return date > dateBefore + NEWER && this.#times().shown > shownBefore + NEWER / 1000;
      }
      return (this.#times().newest ?? 0) > before + NEWER / 1000;
    };
    video.addEventListener("timeupdate", () => {
      if (video.paused || video.readyState < HTMLMediaElement.HAVE_CURRENT_DATA) return;
      this.#played = true;
      if (performance.now() - opened > STABLE_PLAYBACK * 1000) {
        this.#stable = true;
        this.#trouble.reset();
      }
      // A player that searches for pictures may move a little within the old ones.
      if (waits(view.state) && !isNew()) return;
      if (view.state !== "live") view.show("live");
    }, { signal });
    video.addEventListener("pause", () => {
      if ((view.state === "live" || waits(view.state)) && !video.ended && !video.error) view.show("paused");
    }, { signal });
    // Not earlier, because of dash.js
    video.addEventListener("canplay", () => void view.play(), { signal, once: true });
    try {
      const end = await Promise.race([engine.outcome, another, this.#stalled(signal, stood, isNew)]);
      const left = view.state === "paused" && !this.#rested; // what the viewer paused starts only by a click
      const outcome = left && end !== "another" ? "left" : end;
      if (typeof outcome === "object" && outcome.why === "lost") this.#report.stalled();
      else this.#report.resting();
      return outcome;
    } finally {
      watch.abort();
      this.#engine = null;
      if (view.state === "live" || waits(view.state)) view.hold();
      engine.close();
      view.controls.offerGoLive(false);
    }
  }

  /**
   * Shows why the picture stands still, and settles when playback has to end.
   *
   * The connection is kept while the gateway waits for the publisher. A player that does not notice the end may move back
   * and forth in its buffer; then the picture moves, but it is not new.
   * @param {AbortSignal} signal
   * @param {() => void} stood  called when the picture stops, before this is shown
   * @param {(back?: boolean) => boolean} isNew  whether the picture is newer than the one that stood. back: whether the
   *   publisher has returned, for a page that was opened during the break
   * @returns {Promise<Outcome>}
   */
  #stalled(signal, stood, isNew) {
    const { view } = this;
    const { video } = view;
    const begin = this.#times();
    const opening = () => view.state === "starting" || view.state === "lost";
    let [last, furthest, came] = [begin.shown, begin.shown, begin.newest];
    let moved = performance.now(); // time of the last movement
    let fresh = moved; // time of the last arrival or new picture
    let arrived = moved; // time of the last arrival
    let since = moved; // since when there is a publisher and the picture stands still
    let beat = 0; // longest time between arrivals while the picture moved
    let next = 0; // when the gateway may be asked again
    let asking = false;
    return new Promise((done) => {
      const timer = setInterval(async () => {
        const now = performance.now();
        const { shown: at, newest: end } = this.#times();
        // A hidden picture may rest. Its sound, or picture in picture, does not.
        const unseen = document.hidden
          && (opening() || this.#engine?.times || (video.muted && !document.pictureInPictureElement));
        const rests = (video.paused && !video.ended && !opening() && !waits(view.state)) || unseen;
        if (rests || at !== last) moved = now;
        if (end !== came) {
          if (moved === now && !rests) beat = Math.max(beat, now - arrived);
          arrived = now;
        }
        if (rests || at > furthest + MIN_PROGRESS || end !== came) [fresh, furthest] = [now, Math.max(at, furthest)];
        [last, came] = [at, end];
        since = Math.max(since, moved);
        const stands = now - moved >= (opening() ? STALL : STILL_SECONDS) * 1000;
        const stale = now - fresh >= STALL * 1000;
        if (rests || (!stands && !stale && !waits(view.state))) {
          // The picture stops for all viewers at once, so their requests are spread.
          next = moved + (STILL_SECONDS + Math.random() / 2) * 1000;
          this.#still.reset();
          return;
        }
        if (stands && now - moved >= STILL_LIMIT * 1000 && view.state === "live") {
          // On a slow link, the answer of the gateway may come late.
          stood();
          view.show("stalled");
        }
        if (asking || now < next) return;
        asking = true;
        const answer = await ask(this.#clock, signal).catch(() => null);
        asking = false;
        next = performance.now() + this.#still.next() * 1000;
        if (!answer || signal.aborted) return;
        if (answer.kind === "denied") return done({ why: "denied", detail: answer.detail });
        const status = answer.kind === "status" ? answer.status : null;
        if (status && !status.live) return done({ why: "ended", detail: "" });
        if (waitsForEnded(status, this.#status, stands ? video : null)) return done({ why: "tracks", detail: "" });
        const away = status?.state === "lingering" ? absence(status) : null;
        const lingers = away !== null;
        if (lingers) since = performance.now();
        if (stands ? this.#times().shown !== at : !(stale && lingers)) {
          if (waits(view.state) && !lingers && isNew(true)) view.show("live");
          return;
        }
        // A segment may last longer than STALL, also the first one after a break.
        if (!lingers && stands && now - since >= Math.min(MAX_SEGMENT_WAIT * 1000, Math.max(STALL * 1000, 2 * beat))) {
          return done({ why: "lost", detail: NO_PICTURE });
        }
        stood();
        if (!opening() || lingers) view.show(away ?? "stalled");
      }, 250);
      signal.addEventListener("abort", () => clearInterval(timer));
    });
  }

  /**
   * Ends playback after a long pause, or if the browser refuses to play, because nobody sees what is received.
   * @param {AbortSignal} signal
   */
  #watchPauses(signal) {
    const { view } = this;
    const { video } = view;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    let timer;
    let pausedAt = 0;
    const wait = () => {
      clearTimeout(timer);
      timer = setTimeout(() => {
        if (isIdle(view.state) && this.#date === null) this.#reopen("left");
      }, PAUSE_LIMIT * 1000);
    };
    video.addEventListener("canplay", wait, { signal, once: true });
    video.addEventListener("pause", () => {
      pausedAt = performance.now();
      // Android pauses it with its sound, too. Later, the viewer may have done it from outside.
      this.#rested = document.hidden && (video.muted || pausedAt - this.#hidden < BY_BROWSER);
      wait();
    }, { signal });
    video.addEventListener("play", () => {
      clearTimeout(timer);
      if (pausedAt && performance.now() - pausedAt > 2000 && this.#date === null) this.#toLive();
    }, { signal });
    signal.addEventListener("abort", () => clearTimeout(timer));
  }

  /**
   * @param {"denied" | "codec" | "blocked"} state  "codec" ends with the codecs, too
   * @param {string} detail
   */
  async #untilRetry(state, detail) {
    this.view.show(state, detail);
    this.#wake = new AbortController();
    const { signal } = this.#wake;
    if (state !== "codec") await new Promise((done) => signal.addEventListener("abort", done));
    while (!signal.aborted) {
      await this.#pause(this.#waiting);
      const answer = await ask(this.#clock);
      if (answer.kind !== "status") continue;
      const codecs = codecsOf(answer.status);
      if (!answer.status.live || codecs !== (this.#refused ||= codecs)) break;
    }
    this.view.show("connecting");
  }

  /** @param {Backoff} backoff */
  #pause(backoff) { return backoff.pause(this.#wake.signal); }

  /** @param {string} id  the quality that the viewer wants */
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
    if (this.#date !== null) {
      this.#date = null;
      this.#switch();
    } else this.#engine?.toLive?.();
    void this.view.play();
  }

  /** @param {number} date  ms since 1970 */
  #goTo(date) {
    const seek = this.#date !== null ? this.#engine?.seek : undefined;
    this.#date = date;
    if (seek) seek(date);
    else this.#switch();
    void this.view.play();
  }

  /** Opens the stream at another time. */
  #switch() {
    this.view.hold();
    this.#reopen();
    this.#wake.abort();
  }

  /** Requests the status again if it did not say how far viewers can go back. The gateway reads that when it is asked. */
  async #askOldest() {
    const status = this.#status;
    if (!status?.rewind || typeof status.oldest === "number") return;
    await new Promise((done) => setTimeout(done, OLDEST_AGAIN * 1000));
    const answer = await ask(this.#clock);
    if (answer.kind === "status" && this.#status === status) status.oldest = answer.status.oldest;
  }

  /** @returns {{shown: number, newest: number | null}}  seconds of the media timeline; newest: the end of what was received */
  #times() {
    const { video } = this.view;
    return this.#engine?.times?.() ?? { shown: video.currentTime, newest: newest(video) };
  }

  #refresh() {
    const { video } = this.view;
    const { shown, newest: end } = this.#times();
    const playing = this.#engine !== null && (this.view.state === "live" || this.view.state === "paused");
    const delay = playing ? this.#delay() : null;
    const buffer = playing && end !== null ? end - shown : null;
    this.#judge();
    this.view.facts({ delay, buffer, dropped: this.#engine?.dropped?.(), decoder: this.#engine?.decoder?.() });
    if (delay !== null) this.#usual = Math.min(this.#usual, delay);
    this.view.controls.offerGoLive(delay !== null && this.#engine?.toLive !== undefined && delay > this.#usual + LATE_SECONDS);
    if (playing) this.#offer();
    this.#showTime(playing);
  }

  /** Says that the link is too slow, and changes between ways for it. */
  #judge() {
    const { view, ways } = this;
    const struggle = this.#struggle;
    const plays = view.state === "live" || view.state === "stalled";
    if (plays) struggle.look(view.state === "stalled");
    else if (view.state === "broken" || view.state === "ended") struggle.reset();
    const slow = this.#engine?.slow?.() ?? "no";
    const shown = slow === "yes" || (slow === "maybe" && struggle.often);
    view.notice(shown && view.state !== "ended" ? "notice.slow" : null);
    if (!plays || !this.#engine || !this.#way || !this.#status || this.#date !== null) return;
    if (struggle.often ? slow !== "no" && ways.struggles(this.#way, this.#status)
      : struggle.smooth && !shown && ways.mayReturn(this.#way, this.#status)) this.#switch();
  }

  /** @param {boolean} playing */
  #showTime(playing) {
    const { rewind = 0, oldest } = this.#status ?? {};
    if (!rewind) return this.#bar.hide();
    const now = this.#clock.now();
    if (this.#date !== null && playing && !this.view.video.seeking) this.#date = this.#engine?.date?.() ?? this.#date;
    if (typeof oldest === "number") this.#bar.refresh(Math.max(oldest, now - rewind * 1000), now, this.#date);
  }

  /** @returns {number} the date of the shown picture, ms since 1970; NaN: unknown */
  #shownDate() {
    const delay = this.#date === null ? this.#engine?.delay() ?? null : null;
    return delay === null ? NaN : this.#clock.now() - delay * 1000;
  }

  /** @returns {number | null}  seconds; null while the picture stands still, because the buffer is not the delay then */
  #delay() { return this.#engine && !isStarved(this.view.video) ? this.#engine.delay() : null; }

  /** @returns {{bitrate: number, height: number}}  of the shown picture; 0: unknown */
  #quality() {
    const shown = this.#engine?.shown?.() ?? this.#open.id;
    const level = this.#engine?.qualities?.().find(({ id }) => id === shown);
    return { bitrate: level?.bitrate || this.#open.bitrate, height: level?.height || heightOf(shown) || this.view.video.videoHeight };
  }

  #choices() { return choices(this.#known, this.#open, this.#engine?.qualities?.() ?? []); }

  /** Shows the available qualities. */
  #offer() {
    const found = this.#choices();
    const is = (/** @type {string} */ id) => found.some((choice) => choice.id === id);
    const chosen = is(this.#wanted) ? this.#wanted : is(AUTO) ? AUTO : this.#open.id;
    this.view.controls.qualities(found, chosen, this.#engine?.shown?.() ?? null, this.#date !== null);
    this.view.controls.sounds(this.#engine?.sounds?.() ?? [], this.#heard);
  }
}

/** @returns {number | null} the date in the page's address (`?t=`, seconds since 1970), in ms; null: live */
function pageDate() {
  const seconds = Number(new URLSearchParams(location.search).get("t"));
  return Number.isFinite(seconds) && seconds > 0 ? seconds * 1000 : null;
}

/** Names the codecs of a stream. @param {Status | null} status */
function codecsOf(status) { return (status?.tracks ?? []).map(({ codec }) => codec ?? "?").join(", "); }

/**
 * @param {import("./view.js").State} state
 * @returns {boolean} whether the last picture stays while the page waits for new ones
 */
function waits(state) { return isAway(state) || state === "stalled"; }

/**
 * @param {import("./view.js").State} state
 * @returns {boolean} whether nothing plays until the viewer wants it
 */
function isIdle(state) { return state === "paused" || state === "blocked"; }

/**
 * @param {import("./view.js").State} state
 * @returns {boolean} whether the page shows that there is no publisher
 */
function isAway(state) { return state === "broken" || state === "stopped"; }

/**
 * @param {HTMLVideoElement} video
 * @returns {boolean} whether the whole buffer was played
 */
function isStarved(video) { return video.readyState < HTMLMediaElement.HAVE_FUTURE_DATA; }
