/** The audio worklet of the instant player: plays the queue, and tells which time is played. */

import { SoundQueue } from "./sound-queue.js";

/**
 * The globals of audio worklets, which are missing in the type checker's library.
 * @typedef {{port: MessagePort}} Processor
 * @typedef {{AudioWorkletProcessor: new () => Processor, registerProcessor: (name: string, kind: new () => Processor) => void,
 *   currentTime: number, sampleRate: number}} WorkletScope
 */
const scope = /** @type {WorkletScope} */ (/** @type {unknown} */ (globalThis));

/**
 * A message to the worklet. offset: media time minus the context's time at which it is due, seconds. time and samples: a piece
 * of sound. clear: forget everything.
 * @typedef {{offset: number, time: number, samples: Float32Array[]} | {clear: true}} ToWorklet
 */

/**
 * A message from the worklet. at: time of the context; time: media time that is played at it.
 * @typedef {{at: number, time: number, playing: boolean}} FromWorklet
 */

const REPORT = 0.05; // seconds between two reports

class Sound extends scope.AudioWorkletProcessor {
  #queue = new SoundQueue(scope.sampleRate);
  #offset = NaN;
  #reported = 0;

  constructor() {
    super();
    this.port.onmessage = (/** @type {MessageEvent<ToWorklet>} */ { data }) => {
      if ("clear" in data) return this.#queue.clear();
      this.#offset = data.offset;
      this.#queue.push(data.time, data.samples);
    };
  }

  /** @param {Float32Array[][]} _inputs @param {Float32Array[][]} outputs */
  process(_inputs, [output = []]) {
    const at = scope.currentTime;
    if (Number.isNaN(this.#offset)) return true;
    const { time } = this.#queue;
    this.#queue.read(output, at + this.#offset);
    if (at - this.#reported >= REPORT) {
      this.#reported = at;
      this.port.postMessage(/** @type {FromWorklet} */ ({ at, time, playing: this.#queue.playing }));
    }
    return true;
  }
}

scope.registerProcessor("sound", Sound);
