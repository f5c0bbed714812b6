/** One idea: an audio worklet that gives what passes through it to the worker, in blocks of 10 ms. */

/**
 * The audio worklet's own globals, which the type checker's library does not know.
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
        this.#samples[c * BLOCK + this.#filled] = (input[c] ?? input[0])?.[i] ?? 0; // mono is both; nothing is silence
      }
      if (++this.#filled === BLOCK) this.#give(scope.currentFrame + i + 1 - BLOCK);
    }
    return true;
  }

  /** @param {number} at  where the block's first sample stands */
  #give(at) {
    this.#filled = 0;
    if (this.#to === null) return;
    const samples = this.#samples.slice();
    this.#to.postMessage({ at, samples }, [samples.buffer]);
  }
}

scope.registerProcessor("sound-tap", SoundTap);
