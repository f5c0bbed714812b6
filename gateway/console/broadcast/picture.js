/** Sends the pictures of the current camera or screen to the worker, in the best way that the browser supports. */

import { within } from "./formats.js";
import { FrameLimiter } from "./frame-limiter.js";

/** @typedef {import("./types.js").Order} Order */
/** @typedef {import("./types.js").TrackProcessor} TrackProcessor */
/** @typedef {import("./types.js").TrackGenerator} TrackGenerator */

/** @type {{MediaStreamTrackProcessor?: new (init: {track: MediaStreamTrack, maxBufferSize?: number}) => TrackProcessor,
 *   MediaStreamTrackGenerator?: new (init: {kind: "video"}) => TrackGenerator}} */
const offered = /** @type {any} */ (globalThis);

/** Whether the browser has picture streams for workers (Chromium). */
export const hasStreams = () => offered.MediaStreamTrackProcessor !== undefined && offered.MediaStreamTrackGenerator !== undefined;

/**
 * Makes a track for the pictures that the worker composes.
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
    // Only one picture waits, so that a busy worker continues with the newest.
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
    // AbortError: another source has replaced this one.
    if (track) this.#video.play().catch((error) => { if (error.name !== "AbortError") throw error; });
  }

  /** Sends a picture now. */
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

/** Draws pictures on a canvas, whose track a MediaRecorder records. For browsers without a better way. */
export class Drawn {
  track;
  mirror = false;
  blank = false;
  #video = document.createElement("video");
  #canvas = document.createElement("canvas");
  #draw;
  #open = true;

  /** @param {{width: number, height: number, frameRate: number}} format @param {() => void} drawn  called for each picture */
  constructor({ width, height, frameRate }, drawn) {
    const draw = this.#canvas.getContext("2d", { alpha: false });
    if (draw === null) throw new Error("this browser cannot draw");
    this.#draw = draw;
    [this.#canvas.width, this.#canvas.height] = [width, height];
    this.#video.muted = true;
    this.#video.playsInline = true;
    const [track] = this.#canvas.captureStream(frameRate).getVideoTracks();
    if (track === undefined) throw new Error("this browser cannot record a canvas");
    this.track = track;
    const limiter = new FrameLimiter(frameRate);
    const next = () => {
      if (!this.#open) return;
      if (limiter.accepts(performance.now() * 1000)) {
        this.grab();
        drawn();
      }
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
 * @returns {[number, number]} the size that is sent
 */
export function sizeOf(track, chosen) { return within(track?.getSettings() ?? {}, chosen); }
