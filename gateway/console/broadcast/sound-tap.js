/** An audio worklet that sends the sound to the worker, in blocks of 10 ms at 48 kHz. */

/**
 * The globals of audio worklets, which are missing in the type checker's library.
 * @typedef {{port: MessagePort}} Processor
 * @typedef {{AudioWorkletProcessor: new () => Processor, registerProcessor: (name: string, kind: new () => Processor) => void,
 *   currentFrame: number, sampleRate: number}} WorkletScope
 */
const scope = /** @type {WorkletScope} */ (/** @type {unknown} */ (globalThis));

const RATE = 48_000;
const BLOCK = 480;
const CHANNELS = 2;

class SoundTap extends scope.AudioWorkletProcessor {
  /** @type {MessagePort | null} */
  #to = null;
  #samples = new Float32Array(BLOCK * CHANNELS);
  #filled = 0;
  #now = new Float32Array(CHANNELS);
  // Only of a context with another rate:
  #step = scope.sampleRate / RATE; // its samples for one of ours
  #next = -1; // number of our next sample; -1: there was none
  #past = Array.from({ length: CHANNELS }, () => new Float32Array(3)); // its last samples, the newest last

  constructor() {
    super();
    this.port.onmessage = (event) => { this.#to = event.data; };
  }

  /** @param {Float32Array[][]} inputs */
  process(inputs) {
    const [input = []] = inputs;
    const length = input[0]?.length ?? 128;
    for (let i = 0; i < length; i++) {
      for (let c = 0; c < CHANNELS; c++) this.#now[c] = (input[c] ?? input[0])?.[i] ?? 0; // mono goes to both channels; no input is silence
      if (this.#step === 1) this.#add(this.#now, scope.currentFrame + i);
      else this.#convert(scope.currentFrame + i);
    }
    return true;
  }

  /** Adds our samples between the last two of the context, by cubic interpolation. @param {number} at  its sample number */
  #convert(at) {
    if (this.#next < 0) this.#next = Math.ceil(at / this.#step);
    const made = new Float32Array(CHANNELS);
    for (; this.#next * this.#step < at - 1; this.#next++) {
      const f = this.#next * this.#step - (at - 2);
      this.#past.forEach(([a = 0, b = 0, c = 0], n) => {
        const d = this.#now[n] ?? 0;
        made[n] = b + f / 2 * (c - a + f * (2 * a - 5 * b + 4 * c - d + f * (3 * (b - c) + d - a)));
      });
      this.#add(made, this.#next);
    }
    this.#past.forEach((past, n) => {
      past.copyWithin(0, 1);
      past[2] = this.#now[n] ?? 0;
    });
  }

  /** @param {Float32Array} sample  one of each channel @param {number} at  its number */
  #add(sample, at) {
    sample.forEach((value, c) => { this.#samples[c * BLOCK + this.#filled] = value; });
    if (++this.#filled === BLOCK) this.#give(at + 1 - BLOCK);
  }

  /** @param {number} at  number of the block's first sample */
  #give(at) {
    this.#filled = 0;
    if (this.#to === null) return;
    const samples = this.#samples.slice();
    this.#to.postMessage({ at, samples }, [samples.buffer]);
  }
}

scope.registerProcessor("sound-tap", SoundTap);
