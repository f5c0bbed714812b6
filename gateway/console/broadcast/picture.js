/** One idea: the pictures of the present camera or screen on their way to the worker, by the best way that there is. */

import { within } from "./formats.js";

/** @typedef {import("./types.js").Order} Order */
/** @typedef {import("./types.js").TrackProcessor} TrackProcessor */
/** @typedef {import("./types.js").TrackGenerator} TrackGenerator */

/** @type {{MediaStreamTrackProcessor?: new (init: {track: MediaStreamTrack, maxBufferSize?: number}) => TrackProcessor,
 *   MediaStreamTrackGenerator?: new (init: {kind: "video"}) => TrackGenerator}} */
const offered = /** @type {any} */ (globalThis);

/** Chromium: streams of pictures that a worker reads and writes. */
export const hasStreams = () => offered.MediaStreamTrackProcessor !== undefined && offered.MediaStreamTrackGenerator !== undefined;

/**
 * A track that plays what the worker composes.
 * @returns {TrackGenerator}
 */
export function generator() {
  if (offered.MediaStreamTrackGenerator === undefined) throw new Error("this browser cannot make tracks");
  return new offered.MediaStreamTrackGenerator({ kind: "video" });
}

/** Gives the worker a stream of pictures. */
export class Streamed {
  #post;

  /** @param {(order: Order, transfer?: Transferable[]) => void} post */
  constructor(post) { this.#post = post; }

  /** @param {MediaStreamTrack | null} track */
  show(track) {
    if (track === null || offered.MediaStreamTrackProcessor === undefined) {
      this.#post({ do: "source", readable: null });
      return;
    }
    // One waiting picture: a worker that was busy goes on with the newest.
    const { readable } = new offered.MediaStreamTrackProcessor({ track, maxBufferSize: 1 });
    this.#post({ do: "source", readable }, [readable]);
  }

  close() { this.show(null); }
}

/** Gives the worker one picture after the other, taken from a video element. */
export class Pulled {
  #video = document.createElement("video");
  #hasCallbacks = "requestVideoFrameCallback" in this.#video;
  #post;
  #open = true;

  /** @param {(order: Order, transfer?: Transferable[]) => void} post */
  constructor(post) {
    this.#post = post;
    this.#video.muted = true;
    this.#video.playsInline = true;
    document.addEventListener("visibilitychange", this.#pace);
    this.#pace();
    const next = () => {
      if (!this.#open) return;
      if (!document.hidden) this.grab();
      this.#video.requestVideoFrameCallback(next);
    };
    if (this.#hasCallbacks) this.#video.requestVideoFrameCallback(next);
  }

  /** @param {MediaStreamTrack | null} track */
  show(track) {
    this.#video.srcObject = track && new MediaStream([track]);
    // AbortError: another source overtook this one.
    if (track) this.#video.play().catch((error) => { if (error.name !== "AbortError") throw error; });
  }

  /** It is time for a picture. */
  grab() {
    if (this.#video.readyState < HTMLMediaElement.HAVE_CURRENT_DATA || !this.#video.videoWidth) return;
    const frame = new VideoFrame(this.#video, { timestamp: Math.round(performance.now() * 1000) });
    this.#post({ do: "frame", frame }, [frame]);
  }

  close() {
    this.#open = false;
    document.removeEventListener("visibilitychange", this.#pace);
    this.#video.srcObject = null;
    this.#post({ do: "pull", on: false });
  }

  #pace = () => this.#post({ do: "pull", on: document.hidden || !this.#hasCallbacks });
}

/** Draws pictures on a canvas whose track a MediaRecorder records: for browsers that have nothing better. */
export class Drawn {
  track;
  mirror = false;
  blank = false;
  #video = document.createElement("video");
  #canvas = document.createElement("canvas");
  #draw;
  #open = true;

  /** @param {{width: number, height: number, frameRate: number}} format */
  constructor({ width, height, frameRate }) {
    const draw = this.#canvas.getContext("2d", { alpha: false });
    if (draw === null) throw new Error("this browser cannot draw");
    this.#draw = draw;
    [this.#canvas.width, this.#canvas.height] = [width, height];
    this.#video.muted = true;
    this.#video.playsInline = true;
    const [track] = this.#canvas.captureStream(frameRate).getVideoTracks();
    if (track === undefined) throw new Error("this browser cannot record a canvas");
    this.track = track;
    const next = () => {
      if (!this.#open) return;
      this.grab();
      requestAnimationFrame(next);
    };
    next();
  }

  /** @param {MediaStreamTrack | null} track */
  show(track) {
    this.#video.srcObject = track && new MediaStream([track]);
    if (track) this.#video.play().catch((error) => { if (error.name !== "AbortError") throw error; });
  }

  grab() {
    const { videoWidth, videoHeight } = this.#video;
    const { width, height } = this.#canvas;
    this.#draw.fillStyle = this.blank ? "#0b1318" : "#000";
    this.#draw.fillRect(0, 0, width, height);
    if (this.blank || !videoWidth) return;
    const scale = Math.min(width / videoWidth, height / videoHeight);
    const [w, h] = [videoWidth * scale, videoHeight * scale];
    this.#draw.setTransform(this.mirror ? -1 : 1, 0, 0, 1, this.mirror ? width : 0, 0);
    this.#draw.drawImage(this.#video, (width - w) / 2, (height - h) / 2, w, h);
    this.#draw.resetTransform();
  }

  close() {
    this.#open = false;
    this.#video.srcObject = null;
    this.track.stop();
  }
}

/**
 * @param {MediaStreamTrack | null} track
 * @param {readonly [number, number]} chosen
 * @returns {[number, number]} what is sent of it
 */
export function sizeOf(track, chosen) { return within(track?.getSettings() ?? {}, chosen); }
