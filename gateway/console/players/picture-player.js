/** Decodes pictures and shows each at its time. */

import { openSink } from "./picture-sink.js";

/** @typedef {import("./flv-demuxer.js").Frame} Frame */

const DECODING = 8; // frames in the decoder
const DECODED = 6; // pictures that wait for their time; decoders lend only a few
const WAITING = 1200; // frames that wait for the decoder; beyond, all are dropped up to the next key frame
const GROUP_BYTES = 32e6; // of the frames that are kept since the last key frame
const BEHIND = 250; // ms of waiting frames from which a key frame replaces them
const CATCHING_UP = 1000; // ms in which nothing is shown because frames from before the join are still decoded, at most

/**
 * What the player asks its owner.
 * - `ready`: a picture could be shown; arguments are its time and now, ms
 * - `delay`: the present delay, ms; NaN while unknown
 * - `failed`: the decoder failed
 * @typedef {{ready: (time: number, now: number) => void, delay: () => number, failed: (error: DOMException) => void}} Owner
 */

/**
 * Plays the frames of one track. A slow decoder loses frames up to the next key frame, never half a group of pictures.
 *
 * While it *rests* (paused, or nobody sees it), it decodes nothing, and keeps the frames since the last key frame.
 */
export class PicturePlayer {
  dropped = 0;
  /** Time of the shown picture, ms; NaN before the first one. */
  shown = NaN;

  #owner; #sink;
  /** @type {VideoDecoder | null} */
  #decoder = null;
  /** @type {VideoDecoderConfig | null} */
  #config = null;
  /** @type {Frame[]} */
  #waiting = [];
  /** The frames since the last key frame; empty if they are too many. @type {Frame[]} */
  #group = [];
  #bytes = 0; // in #group
  #needsKey = true; // whether frames are useless until the next key frame
  /** @type {VideoFrame[]} */
  #pictures = [];
  #rests = false;
  #joining = 0; // until then frames from before the join are decoded, of performance.now(); 0: it is over
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;

  /** @param {HTMLVideoElement} video @param {Owner} owner */
  constructor(video, owner) {
    this.#owner = owner;
    this.#sink = openSink(video);
    this.#join();
  }

  /** The next key frame begins with this configuration. @param {VideoDecoderConfig} config  a supported one */
  configure(config) {
    this.#config = config;
    this.#group = [];
    this.#bytes = 0;
    this.#reset();
  }

  /** @param {Frame} frame */
  push(frame) {
    this.#keep(frame);
    if (this.#rests || this.#config === null) return;
    const [first] = this.#waiting;
    if (frame.key && first && frame.pts - first.pts > BEHIND) this.#drop();
    if (this.#waiting.length >= WAITING) {
      this.#drop();
      this.#needsKey = true;
    }
    if (this.#needsKey && !frame.key) {
      this.dropped++;
      return;
    }
    this.#needsKey = false;
    this.#waiting.push(frame);
    this.#pump();
  }

  /** @param {boolean} rests */
  rest(rests) {
    if (rests === this.#rests) return;
    this.#rests = rests;
    if (rests) {
      // The decoder would need the frames between; so it begins again with a key frame.
      this.#reset();
      return;
    }
    this.#join();
    this.#waiting = [...this.#group];
    this.#needsKey = this.#waiting.length === 0;
    this.#pump();
  }

  close() {
    this.#config = null;
    this.#reset();
    this.#sink.close();
  }

  /** Frees the decoder and all pictures. The stream goes on with a key frame. */
  #reset() {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (this.#decoder && this.#decoder.state !== "closed") this.#decoder.close();
    this.#decoder = null;
    for (const picture of this.#pictures.splice(0)) picture.close();
    this.#drop();
    this.#needsKey = true;
  }

  #drop() {
    this.dropped += this.#rests ? 0 : this.#waiting.length;
    this.#waiting = [];
  }

  /** Keeps the frames since the last key frame. @param {Frame} frame */
  #keep(frame) {
    if (frame.key || this.#group.length >= WAITING || this.#bytes + frame.data.length > GROUP_BYTES) {
      this.#group = [];
      this.#bytes = 0;
    }
    if (!frame.key && !this.#group.length) return;
    this.#group.push(frame);
    this.#bytes += frame.data.length;
  }

  #join() { this.#joining = performance.now() + CATCHING_UP; }

  /** Gives the decoder as many frames as it may have. */
  #pump() {
    if (this.#rests || this.#config === null) return;
    for (;;) {
      const [frame] = this.#waiting;
      if (!frame || this.#pictures.length >= DECODED || (this.#decoder?.decodeQueueSize ?? 0) >= DECODING) return;
      this.#waiting.shift();
      try {
        this.#decoder ??= this.#open(this.#config);
        this.#decoder.decode(new EncodedVideoChunk({ type: frame.key ? "key" : "delta", timestamp: frame.pts * 1000, data: frame.data }));
      } catch (error) {
        this.#fail(/** @type {DOMException} */ (error));
        return;
      }
    }
  }

  /** @param {VideoDecoderConfig} config */
  #open(config) {
    const decoder = new VideoDecoder({
      output: (picture) => {
        if (this.#decoder === decoder) this.#decoded(picture);
        else picture.close();
      },
      error: (error) => { if (this.#decoder === decoder) this.#fail(error); },
    });
    decoder.configure(config);
    decoder.addEventListener("dequeue", () => this.#pump());
    return decoder;
  }

  /** @param {DOMException} error */
  #fail(error) {
    this.#reset();
    // A browser may take the decoder away from a page that does not use it; it gets a new one with the next key frame.
    if (error.name !== "QuotaExceededError") this.#owner.failed(error);
  }

  /** @param {VideoFrame} picture */
  #decoded(picture) {
    const now = performance.now();
    const time = picture.timestamp / 1000;
    if (this.#joining) {
      if (now < this.#joining && (this.#waiting.length || (this.#decoder?.decodeQueueSize ?? 0) > 0)) {
        picture.close(); // from before the join; newer ones are here already
        return this.#pump();
      }
      this.#joining = 0;
    }
    this.#owner.ready(time, now);
    this.#pictures.push(picture);
    this.#tick();
    this.#pump();
  }

  /** Shows the newest picture whose time has come, and waits for the next one. */
  #tick() {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const now = performance.now();
    const delay = this.#owner.delay();
    const due = (/** @type {VideoFrame | undefined} */ picture) => picture ? picture.timestamp / 1000 + delay - now : Infinity;
    while (due(this.#pictures[1]) <= 0) {
      this.#pictures.shift()?.close();
      this.dropped++;
    }
    const [first, second] = this.#pictures;
    let next = first;
    if (first && due(first) <= 0) {
      this.#pictures.shift();
      this.shown = first.timestamp / 1000;
      this.#sink.show(first);
      next = second;
    }
    if (next) {
      this.#timer = setTimeout(() => {
        this.#tick();
        this.#pump();
      }, Math.max(0, due(next)));
    }
  }
}
