/** The engine of Media over QUIC: the library `@moq/watch` receives and decodes, and plays the sound. */

import { pending, webTransport } from "./media.js";
import { openSink } from "./picture-sink.js";

/** @typedef {import("./types.js").OpenEngine} OpenEngine */

/** The versions that understand each other. The drafts change each month. */
export const VERSIONS = "@moq/watch 0.4.6, moq-rs 0.5.1";

/** @type {string | null}  the feature that this browser lacks; null: none */
export const unsupported = ["WebTransport", "VideoDecoder", "AudioDecoder"].find((name) => !(name in globalThis))
  ?? (webTransport ? null : "complete WebTransport");

/** What the gateway's refusal means for the page. @param {number} status @returns {import("./types.js").Outcome["why"]} */
function meaning(status) {
  if (status === 401 || status === 403) return "denied";
  return status === 404 ? "ended" : "lost";
}

/** @type {OpenEngine} */
export function moqEngine(video, url) {
  const { outcome, settle } = pending();
  const leaving = new AbortController();
  /** @type {Playback | null} */
  let playback = null;

  async function open() {
    const [{ MoqWatch }, answer] = await Promise.all([
      import("./moq-watch.min.js"), fetch(url, { method: "POST", signal: leaving.signal }),
    ]);
    if (!answer.ok) return settle(meaning(answer.status), await answer.text());
    /** @type {Access} */
    const access = await answer.json();
    if (!leaving.signal.aborted) playback = new Playback(new MoqWatch(), video, access, settle);
  }

  open().catch((error) => settle("lost", String(error)));
  return {
    outcome,
    delay: () => playback?.delay ?? null,
    times: () => playback?.times ?? null,
    dropped: () => null,
    decoder: () => `WebCodecs, ${VERSIONS}`,
    close() {
      leaving.abort();
      playback?.close();
      playback = null;
    },
  };
}

/** The answer of `POST /<id>/moq`. @typedef {{url: string, name: string, hashes: string[]}} Access */

/** One session. The element of the library is in the page, but shows nothing: pictures go to the page's own element. */
class Playback {
  #element;
  #video;
  #sink;
  #stop = new AbortController();
  /** Seconds of the media timeline. */
  #shown = 0;

  /**
   * @param {import("./moq-watch.min.js").MoqWatch} element
   * @param {HTMLVideoElement} video
   * @param {Access} access
   * @param {(why: import("./types.js").Outcome["why"], detail?: string) => void} settle
   */
  constructor(element, video, access, settle) {
    this.#element = element;
    this.#video = video;
    this.#sink = openSink(video);
    element.hidden = true;
    const { connection } = element;
    // A ticket is valid for a short time, so the page opens each connection.
    connection.delay = { initial: 1, multiplier: 1, max: 1, timeout: 1 };
    connection.websocket = { enabled: false };
    if (access.hashes.length) {
      connection.webtransport = { serverCertificateHashes: access.hashes.map((value) => ({ value })) };
    }
    let connected = false;
    element.signals.subscribe(connection.status, (status) => {
      if (status === "connected") connected = true;
      else if (status === "disconnected" && connected) settle("lost", "the session ended");
    });
    connection.closed.catch((error) => settle("lost", String(error)));
    element.signals.subscribe(element.video.out.frame, (frame) => {
      if (!frame) return;
      this.#shown = frame.timestamp / 1e6;
      this.#sink.show(frame.clone());
    });
    element.setAttribute("visible", "always");
    element.setAttribute("name", access.name);
    element.setAttribute("url", access.url);
    for (const event of ["volumechange", "play", "pause"]) {
      video.addEventListener(event, () => this.#follow(), { signal: this.#stop.signal });
    }
    this.#follow();
    document.body.append(element);
  }

  /** Seconds that media wait before they are shown. The protocol has no time of the publisher. */
  get delay() { return this.#element.sync.out.buffer.peek() / 1000; }

  get times() { return { shown: this.#shown, newest: null }; }

  /** Plays as loud as the page's element, and pauses with it. */
  #follow() {
    this.#element.volume = this.#video.volume;
    this.#element.muted = this.#video.muted;
    this.#element.paused = this.#video.paused && this.#shown > 0;
  }

  close() {
    this.#stop.abort();
    this.#element.remove();
    this.#element.signals.close();
    this.#sink.close();
  }
}
