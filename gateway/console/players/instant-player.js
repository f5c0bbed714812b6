/** Plays WS-FLV with WebCodecs: receives, decodes, and shows each frame as early as the arrivals allow. */

import { audioConfig, videoConfig } from "./codec-config.js";
import { eventsOf } from "./flv-demuxer.js";
import { FlvStream } from "./flv-stream.js";
import { PicturePlayer } from "./picture-player.js";
import { canShow } from "./picture-sink.js";
import { PlayoutDelay } from "./playout-delay.js";
import { AUTO } from "./quality.js";
import { SoundPlayer } from "./sound-player.js";

/** @typedef {import("./flv-demuxer.js").Config} Config */
/** @typedef {import("./flv-demuxer.js").FlvEvent} FlvEvent */
/** @typedef {import("./types.js").Outcome} Outcome */

/**
 * The reason why this player cannot go on, and another one may.
 * @typedef {"insecure" | "missing" | "codec" | "sound only" | "decoder"} Unfit
 */

/** @typedef {{ended: (why: Outcome["why"], detail: string) => void, unfit: (reason: Unfit, detail: string) => void}} Owner */

const FAILURES = 5; // decoder errors within FAILURE_TIME after which another player is better
const FAILURE_TIME = 20000;  // ms
const LEADING = 60; // ms between the sound's delay and the wanted one up to which the picture follows the sound
const LEAST_DELAY = 0.05; // seconds; pages round it to 0.1 s, and take less for an empty buffer

/** @returns {Unfit | null} reason why this browser cannot play in this way; null if it can */
export function unfit() {
  if (!isSecureContext) return "insecure"; // browsers hide WebCodecs and audio worklets from pages without TLS
  const all = [globalThis.VideoDecoder, globalThis.AudioDecoder, globalThis.AudioWorkletNode, globalThis.WebSocket];
  return all.every((one) => one !== undefined) && canShow() ? null : "missing";
}

export class InstantPlayer {
  #video; #owner; #stream; #picture; #sound; #now;
  #playout = new PlayoutDelay();
  #open = true;
  #listening = new AbortController();
  /** The step for the next message; messages wait while a codec is looked up. @type {Promise<void>} */
  #turn = Promise.resolve();
  #turns = 0; // messages that wait
  #newest = NaN; // time of the newest received picture, ms
  /** The latest sequence header of each track. @type {Map<string, string>} */
  #headers = new Map();
  /** @type {Map<string, string>} */
  #codecs = new Map();
  /** @type {number[]} */
  #failures = [];

  /**
   * @param {HTMLVideoElement} video
   * @param {string} url  of WS-FLV
   * @param {() => number} now  the server's clock, ms since 1970
   * @param {import("./types.js").Live} live
   * @param {Owner} owner
   */
  constructor(video, url, now, live, owner) {
    this.#video = video;
    this.#now = now;
    this.#owner = owner;
    this.#picture = new PicturePlayer(video, {
      ready: (time, now) => this.#playout.note("video", now - time, now),
      delay: () => this.#delay(performance.now()),
      failed: (error) => this.#failed(error),
    });
    this.#sound = new SoundPlayer({
      ready: (time, at) => this.#playout.note("audio", at - time, at),
      delay: () => this.#playout.value,
      failed: (error) => this.#failed(error),
      broken: (error) => this.#unfit("decoder", error.message),
    });
    this.#listen();
    this.#stream = new FlvStream(url, now, live, AUTO, {
      tags: (tags) => this.#receive(eventsOf(tags)),
      changed: () => undefined, // each picture has the codec of the header before it
      hole: () => undefined, // each picture is shown at its time, and the delay follows what arrives
      ended: (why, detail) => void this.#turn.then(() => this.#end(why, detail)),
    });
  }

  /** Seconds of the media timeline: the shown picture and the newest received one. A media element of a stream has no such times. */
  get times() {
    const newest = this.#newest / 1000;
    return { shown: this.#picture.shown / 1000 || 0, newest: Number.isNaN(newest) ? null : newest };
  }

  /** Seconds from the arrival of the shown picture at the gateway; null before the first one. */
  get delay() {
    const behind = (this.#now() - this.#stream.timeline.dateOf(this.#picture.shown)) / 1000;
    return Number.isFinite(behind) ? Math.max(LEAST_DELAY, behind) : null;
  }

  qualities() { return this.#stream.qualities; }

  /** @param {string} id */
  quality(id) { this.#stream.quality(id); }

  shown() { return this.#stream.level; }

  slow() { return this.#stream.slow ? /** @type {const} */ ("yes") : /** @type {const} */ ("no"); }

  get dropped() { return this.#picture.dropped; }

  /** The codecs in use, as in RFC 6381. */
  get codecs() { return [...this.#codecs.values()].join(", "); }

  close() {
    if (!this.#open) return;
    this.#open = false;
    this.#listening.abort();
    this.#stream.close();
    this.#picture.close();
    this.#sound.close();
  }

  /** @param {Outcome["why"]} why @param {string} detail */
  #end(why, detail) {
    if (!this.#open) return;
    this.close();
    this.#owner.ended(why, detail);
  }

  /** @param {Unfit} reason @param {string} detail */
  #unfit(reason, detail) {
    if (!this.#open) return;
    this.close();
    this.#owner.unfit(reason, detail);
  }

  /** A broken frame costs the pictures up to the next key frame. @param {DOMException} error */
  #failed(error) {
    const now = performance.now();
    this.#failures = [...this.#failures.filter((at) => now - at < FAILURE_TIME), now];
    if (this.#failures.length >= FAILURES) this.#unfit("decoder", error.message);
  }

  /** The delay of the picture: that of the sound, if it is heard and close to the wanted one. @param {number} now */
  #delay(now) {
    const wanted = this.#playout.value;
    const heard = this.#sound.delay(now);
    return heard !== null && Math.abs(heard - wanted) < LEADING ? heard : wanted;
  }

  #listen() {
    const { signal } = this.#listening;
    const adjust = () => this.#adjust();
    for (const event of ["play", "pause", "volumechange", "enterpictureinpicture", "leavepictureinpicture"]) {
      this.#video.addEventListener(event, adjust, { signal });
    }
    document.addEventListener("visibilitychange", adjust, { signal });
    this.#adjust();
  }

  /** Plays only what is seen and heard. */
  #adjust() {
    const { muted, paused, volume } = this.#video;
    const seen = !document.hidden || document.pictureInPictureElement === this.#video;
    // The element is paused until its first picture has come.
    const stopped = paused && Number.isFinite(this.#picture.shown);
    this.#picture.rest(stopped || !seen);
    const loudness = muted || stopped ? 0 : volume;
    this.#sound.volume(loudness);
    if (loudness === 0) this.#playout.forget("audio");
  }

  /** @param {FlvEvent[]} events */
  #receive(events) {
    // Without waiting messages there is no need for a promise, which costs a turn of the loop.
    if (this.#turns === 0) {
      const step = this.#handle(events);
      if (step) this.#wait(step);
      return;
    }
    this.#wait(this.#turn.then(() => (this.#open && this.#handle(events)) || undefined));
  }

  /** @param {Promise<void>} step */
  #wait(step) {
    this.#turns++;
    this.#turn = step.finally(() => { this.#turns--; });
  }

  /** @param {FlvEvent[]} events @returns {Promise<void> | null}  null if all was done at once */
  #handle(events) {
    for (const [at, event] of events.entries()) {
      if (!this.#open) return null;
      if (event.kind === "head" && !event.video) {
        this.#unfit("sound only", "");
        return null;
      }
      if (event.kind === "config") return this.#configure(event).then(() => this.#handle(events.slice(at + 1)) ?? undefined);
      if (event.kind !== "frame") continue;
      if (event.codec === ".mp3" && !this.#codecs.has("audio")) {
        const config = /** @type {Config} */ ({ kind: "config", track: "audio", codec: ".mp3", config: new Uint8Array() });
        return this.#configure(config).then(() => this.#handle(events.slice(at)) ?? undefined);
      }
      if (event.track === "audio") this.#sound.push(event);
      else {
        this.#newest = event.pts;
        this.#picture.push(event);
      }
    }
    return null;
  }

  /** @param {Config} event */
  async #configure({ track, codec, config }) {
    if (track === "video") this.#playout.restart(); // a publisher may have returned
    const header = `${codec} ${config.join()}`;
    // The gateway repeats both headers when one of them changes.
    if (this.#headers.get(track) === header) return;
    this.#headers.set(track, header);
    const described = track === "video" ? videoConfig(codec, config) : audioConfig(codec, config);
    const known = described !== null && await (track === "video" ? VideoDecoder : AudioDecoder)
      .isConfigSupported(/** @type {any} */ (described)).then(({ supported }) => supported, () => false);
    if (!this.#open) return;
    if (!known) return this.#unfit("codec", described?.codec ?? codec);
    this.#codecs.set(track, described.codec);
    if (track === "audio") return this.#sound.configure(/** @type {AudioDecoderConfig} */ (described));
    this.#picture.configure(described);
  }
}
