/** Receives pictures from a stream or from the page, or makes blank ones. Passes them on at the chosen rate. */

import { FrameLimiter } from "./frame-limiter.js";
import { Stage } from "./stage.js";
import { Timeline } from "./timeline.js";

// A screen without movement and a camera that is off send no pictures. Then the last picture is repeated
// at this interval, so that players stay at the live edge.
const REPEAT = 200; // ms

const now = () => performance.now() * 1000;

/** Closes the frames that it reads; `use` has to close the composed ones. */
export class Source {
  #stage; #limiter; #use;
  #timeline = new Timeline();
  /** @type {ReadableStreamDefaultReader<VideoFrame> | null} */
  #reader = null;
  /** @type {VideoFrame | null} */
  #shown = null;
  #blank = false;
  #last = 0; // µs
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #timer;
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #ticks;
  #grab; #period;
  #open = true;

  /**
   * @param {import("./types.js").Start} start
   * @param {(frame: VideoFrame) => void} use
   * @param {() => void} grab  asks the page for a picture
   */
  constructor(start, use, grab) {
    const { width, height, frameRate } = start.picture;
    this.#stage = new Stage(width, height, start.exact);
    this.#stage.mirror = start.mirror;
    this.#limiter = new FrameLimiter(frameRate);
    this.#use = use;
    this.#grab = grab;
    this.#period = 1000 / frameRate;
    if (!start.drawn) this.#timer = setInterval(() => this.#repeat(), REPEAT / 2);
  }

  /** @param {boolean} on */
  set mirror(on) { this.#stage.mirror = on; }

  /** Draws pictures in RGB from now on, also the repeated one. */
  drawRgb() {
    this.#stage.drawsRgb = true;
    const shown = this.#shown;
    if (shown !== null && !this.#stage.mirror) this.#show(this.#stage.compose(shown, shown.timestamp)); // a mirrored one is drawn already
  }

  /** Hides the camera's picture while this is on. @param {boolean} on */
  set blank(on) {
    this.#blank = on;
    if (on) this.#show(null);
  }

  /** Asks the page for pictures by a timer, because timers of workers are not slowed down in a hidden page. @param {boolean} on */
  set pulls(on) {
    clearInterval(this.#ticks);
    if (on && this.#open) this.#ticks = setInterval(this.#grab, this.#period);
  }

  /**
   * Changes camera or screen; the times of the pictures continue those of the one before.
   * @param {ReadableStream<VideoFrame> | null} readable
   */
  async read(readable) {
    if (!this.#open) return void readable?.cancel();
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

  /** Takes one picture and closes it. The page sends pictures until it knows of the end. @param {VideoFrame} frame */
  take(frame) {
    if (!this.#open) return frame.close();
    const arrived = now();
    this.#timeline.learn(frame.timestamp, arrived);
    if (!this.#blank && this.#limiter.accepts(frame.timestamp)) {
      const composed = this.#stage.compose(frame, this.#timeline.at(frame.timestamp));
      this.#last = arrived;
      this.#show(composed.clone());
      this.#use(composed);
    }
    frame.close();
  }

  close() {
    this.#open = false;
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

  /** @param {VideoFrame | null} frame  kept for repetition */
  #show(frame) {
    this.#shown?.close();
    this.#shown = frame;
  }
}
