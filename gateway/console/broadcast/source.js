/** One idea: pictures come from a stream, from the page, or from nowhere, and leave at the chosen pace. */

import { Rhythm } from "./rhythm.js";
import { Stage } from "./stage.js";
import { Timeline } from "./timeline.js";

// A screen on which nothing moves gives no pictures, a camera that is off gives none either: the last one is shown
// again this often, so that players stay at the live edge.
const REPEAT = 200; // ms

const now = () => performance.now() * 1000;

/** Owns the frames it reads; what it composes belongs to `use`. */
export class Source {
  #stage; #rhythm; #use;
  #timeline = new Timeline();
  /** @type {ReadableStreamDefaultReader<VideoFrame> | null} */
  #reader = null;
  /** @type {VideoFrame | null} */
  #shown = null;
  #blank = false;
  #last = 0; // µs
  #timer;
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #ticks;
  #grab; #period;

  /**
   * @param {import("./types.js").Start} start
   * @param {(frame: VideoFrame) => void} use
   * @param {() => void} grab  tells the page that it is time for a picture
   */
  constructor(start, use, grab) {
    const { width, height, frameRate } = start.picture;
    this.#stage = new Stage(width, height, start.exact);
    this.#stage.mirror = start.mirror;
    this.#rhythm = new Rhythm(frameRate);
    this.#use = use;
    this.#grab = grab;
    this.#period = 1000 / frameRate;
    this.#timer = setInterval(() => this.#repeat(), REPEAT / 2);
  }

  /** @param {boolean} on */
  set mirror(on) { this.#stage.mirror = on; }

  /** Nothing of the camera is shown while this is on. @param {boolean} on */
  set blank(on) {
    this.#blank = on;
    if (on) this.#show(null);
  }

  /** Timers of workers are not slowed down while the page is hidden. @param {boolean} on */
  set pulls(on) {
    clearInterval(this.#ticks);
    if (on) this.#ticks = setInterval(this.#grab, this.#period);
  }

  /**
   * Another camera or screen; its pictures go on in the time of the one before.
   * @param {ReadableStream<VideoFrame> | null} readable
   */
  async read(readable) {
    const reader = readable?.getReader() ?? null;
    void this.#reader?.cancel();
    this.#reader = reader;
    this.#timeline.renew();
    while (reader !== null) {
      const { value, done } = await reader.read();
      if (done) break;
      if (this.#reader === reader) this.take(value);
      else value.close();
    }
  }

  /** One picture; it is closed here. @param {VideoFrame} frame */
  take(frame) {
    const arrived = now();
    this.#timeline.learn(frame.timestamp, arrived);
    if (!this.#blank && this.#rhythm.takes(frame.timestamp)) {
      const composed = this.#stage.compose(frame, this.#timeline.at(frame.timestamp));
      this.#last = arrived;
      this.#show(composed.clone());
      this.#use(composed);
    }
    frame.close();
  }

  close() {
    clearInterval(this.#timer);
    clearInterval(this.#ticks);
    void this.#reader?.cancel();
    this.#reader = null;
    this.#show(null);
  }

  #repeat() {
    const time = now();
    if (time - this.#last < REPEAT * 1000) return;
    this.#last = time;
    const timestamp = this.#timeline.own(time);
    this.#use(this.#shown === null ? this.#stage.blank(timestamp) : new VideoFrame(this.#shown, { timestamp }));
  }

  /** @param {VideoFrame | null} frame  kept to be shown again */
  #show(frame) {
    this.#shown?.close();
    this.#shown = frame;
  }
}
