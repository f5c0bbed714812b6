/** An audio worklet that sends the sound to the worker, in blocks of 10 ms. */

/**
 * The globals of audio worklets, which are missing in the type checker's library.
 * @typedef {{port: MessagePort}} Processor
 * @typedef {{AudioWorkletProcessor: new () => Processor, registerProcessor: (name: string, kind: new () => Processor) => void,
 *   currentFrame: number}} WorkletScope
 */
const scope = /** @type {WorkletScope} */ (/** @type {unknown} */ (globalThis));

const BLOCK = 480;
const CHANNELS = 2;

class SoundTap extends scope.AudioWorkletProcessor {
  /** @type {MessagePort | null} */
  #to = null;
  #samples = new Float32Array(BLOCK * CHANNELS);
  #filled = 0;

  constructor() {
    super();
    this.port.onmessage = (event) => { this.#to = event.data; };
  }

  /** @param {Float32Array[][]} inputs */
  process(inputs) {
    const [input = []] = inputs;
    const length = input[0]?.length ?? 128;
    for (let i = 0; i < length; i++) {
      for (let c = 0; c < CHANNELS; c++) {
        this.#samples[c * BLOCK + this.#filled] = (input[c] ?? input[0])?.[i] ?? 0; // mono goes to both channels; no input is silence
      }
      if (++this.#filled === BLOCK) this.#give(scope.currentFrame + i + 1 - BLOCK);
    }
    return true;
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
