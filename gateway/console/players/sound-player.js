/** Decodes sound and plays it. While it plays, its clock leads the picture. */

/** @typedef {import("./flv-demuxer.js").Frame} Frame */
/** @typedef {import("./sound-worklet.js").FromWorklet} FromWorklet */
/** @typedef {import("./sound-worklet.js").ToWorklet} ToWorklet */

const DECODING = 16; // frames in the decoder; beyond, new ones are left out
const TRANSPORT = 12; // ms from this thread into the worklet, and one of its blocks
const SMOOTH = 0.1; // share of a new measurement of the clocks
const FRESH = 500; // ms for which a report of the worklet counts

/**
 * What the player asks its owner, in ms.
 * - `ready`: sound could be heard at once; arguments are its time and the moment
 * - `delay`: the delay that the sound shall have
 * - `failed`: the decoder failed; `broken`: no sound can be played at all
 * @typedef {{ready: (time: number, at: number) => void, delay: () => number, failed: (error: DOMException) => void,
 *   broken: (error: Error) => void}} Owner
 */

/** Plays the frames of one track while it is wanted. The context exists only then, because a browser may forbid it before. */
export class SoundPlayer {
  #owner;
  /** @type {AudioDecoderConfig | null} */
  #config = null;
  /** @type {AudioDecoder | null} */
  #decoder = null;
  /** @type {Output | null} */
  #output = null;
  #volume = 0;

  /** @param {Owner} owner */
  constructor(owner) { this.#owner = owner; }

  /** @param {AudioDecoderConfig} config  a supported one */
  configure(config) {
    this.#config = config;
    this.#closeDecoder();
    this.#output?.clear();
  }

  /** @param {number} volume  0 to 1; 0: nothing is decoded */
  volume(volume) {
    if (volume === this.#volume) return;
    this.#volume = volume;
    if (volume === 0) this.#closeDecoder();
    this.#output?.volume(volume);
  }

  /**
   * The delay that the heard sound has; null while none is heard.
   * @param {number} now  ms
   */
  delay(now) { return this.#volume > 0 ? this.#output?.delay(now) ?? null : null; }

  /** @param {Frame} frame */
  push(frame) {
    if (this.#config === null || this.#volume === 0) return;
    try {
      this.#decoder ??= this.#open(this.#config);
      if (this.#decoder.decodeQueueSize >= DECODING) return;
      this.#decoder.decode(new EncodedAudioChunk({ type: "key", timestamp: frame.pts * 1000, data: frame.data }));
    } catch (error) {
      this.#fail(/** @type {DOMException} */ (error));
    }
  }

  close() {
    this.#config = null;
    this.#closeDecoder();
    this.#output?.close();
    this.#output = null;
  }

  #closeDecoder() {
    if (this.#decoder && this.#decoder.state !== "closed") this.#decoder.close();
    this.#decoder = null;
  }

  /** @param {AudioDecoderConfig} config */
  #open(config) {
    const decoder = new AudioDecoder({
      output: (sound) => {
        if (this.#decoder === decoder) this.#decoded(sound);
        sound.close();
      },
      error: (error) => { if (this.#decoder === decoder) this.#fail(error); },
    });
    decoder.configure(config);
    return decoder;
  }

  /** @param {DOMException} error */
  #fail(error) {
    this.#closeDecoder();
    if (error.name !== "QuotaExceededError") this.#owner.failed(error);
  }

  /** @param {AudioData} sound */
  #decoded(sound) {
    let samples;
    try {
      samples = stereo(sound);
      // The decoder knows the real sample rate: HE-AAC has twice that of its header.
      if (this.#output?.rate !== sound.sampleRate) {
        this.#output?.close();
        this.#output = null;
        this.#output = new Output(sound.sampleRate, this.#volume, this.#owner.broken);
      }
    } catch (error) { // a form or a sample rate that this browser does not have
      return this.#owner.broken(/** @type {DOMException} */ (error));
    }
    const output = this.#output;
    if (!output?.runs) return;
    const now = performance.now();
    const time = sound.timestamp / 1000;
    this.#owner.ready(time, now + output.latency + TRANSPORT);
    output.push(time, samples, this.#owner.delay());
  }
}

/** A context with the worklet, for one sample rate. */
class Output {
  #context; #gain;
  /** @type {AudioWorkletNode | null} */
  #node = null;
  #clocks = NaN;  // performance.now() at which the context's time 0 would have been heard
  /** @type {FromWorklet | null} */
  #report = null;
  #reported = 0;  // performance.now() of the report
  #gestures = new AbortController();
  #volume;

  /** @param {number} rate @param {number} volume @param {(error: Error) => void} broken */
  constructor(rate, volume, broken) {
    this.rate = rate;
    this.#context = new AudioContext({ sampleRate: rate, latencyHint: "interactive" });
    this.#gain = new GainNode(this.#context, { gain: volume });
    this.#gain.connect(this.#context.destination);
    // A browser that forbids sound allows it after a gesture.
    for (const event of ["pointerdown", "keydown"]) {
      document.addEventListener(event, () => this.volume(this.#volume), { signal: this.#gestures.signal });
    }
    this.#volume = volume;
    this.#load().catch(broken);
  }

  async #load() {
    await this.#context.audioWorklet.addModule(new URL("sound-worklet.js", import.meta.url));
    if (this.#context.state === "closed") return;
    const node = new AudioWorkletNode(this.#context, "sound", { numberOfInputs: 0, outputChannelCount: [2] });
    node.port.onmessage = (/** @type {MessageEvent<FromWorklet>} */ { data }) => {
      this.#report = data;
      this.#reported = performance.now();
    };
    node.connect(this.#gain);
    this.#node = node;
  }

  get runs() { return this.#node !== null && this.#context.state === "running"; }

  /** Milliseconds from a block's time of the context until it is heard, as far as known. */
  get latency() { return (this.#context.outputLatency || this.#context.baseLatency || 0) * 1000; }

  /** @param {number} volume */
  volume(volume) {
    this.#volume = volume;
    this.#gain.gain.setTargetAtTime(volume, this.#context.currentTime, 0.01);
    if (volume > 0 && this.#context.state !== "running") this.#context.resume().catch(() => undefined); // after the next gesture
    if (volume === 0) {
      this.clear();
      if (this.#context.state === "running") void this.#context.suspend();
    }
  }

  /**
   * @param {number} time     ms
   * @param {Float32Array<ArrayBuffer>[]} samples
   * @param {number} delay    ms
   */
  push(time, samples, delay) {
    if (!this.#node || Number.isNaN(delay)) return;
    const { contextTime = 0, performanceTime = 0 } = this.#context.getOutputTimestamp();
    const clocks = contextTime > 0 ? performanceTime - contextTime * 1000
      : performance.now() + this.latency - this.#context.currentTime * 1000;
    const error = clocks - this.#clocks;
    this.#clocks = Math.abs(error) < 100 ? this.#clocks + error * SMOOTH : clocks;
    const message = { offset: (this.#clocks - delay) / 1000, time: time / 1000, samples };
    this.#node.port.postMessage(/** @type {ToWorklet} */ (message), samples.map(({ buffer }) => buffer));
  }

  /** @param {number} now @returns {number | null} */
  delay(now) {
    if (!this.#report?.playing || now - this.#reported > FRESH) return null;
    return this.#clocks + (this.#report.at - this.#report.time) * 1000;
  }

  clear() {
    this.#report = null;
    this.#node?.port.postMessage(/** @type {ToWorklet} */ ({ clear: true }));
  }

  close() {
    this.#gestures.abort();
    if (this.#context.state !== "closed") void this.#context.close();
  }
}

let converts = true; // whether this browser reads decoded sound as another kind of samples

/** @param {AudioData} sound @returns {Float32Array<ArrayBuffer>[]}  one or two channels; the centre of more goes to both */
export function stereo(sound) {
  const [left, right, centre] = (converts && converted(sound)) || planes(sound);
  if (!left) return [];
  if (!right) return [left];
  if (centre) {
    for (let i = 0; i < left.length; i++) {
      left[i] = (left[i] ?? 0) + 0.7 * (centre[i] ?? 0);
      right[i] = (right[i] ?? 0) + 0.7 * (centre[i] ?? 0);
    }
  }
  return [left, right];
}

/**
 * The first three channels. WebKitGTK 2.50 crashes if copyTo has nothing to convert, so floats are read as integers, and all
 * others as floats.
 * @param {AudioData} sound
 * @returns {Float32Array<ArrayBuffer>[] | null} null: this browser converts to f32-planar only, as WebCodecs demands
 */
function converted(sound) {
  const { format, numberOfChannels: count, numberOfFrames: frames } = sound;
  const whole = format?.startsWith("f32") ?? false;
  const mixed = new (whole ? Int32Array : Float32Array)(count * frames);
  try {
    sound.copyTo(mixed, { planeIndex: 0, format: whole ? "s32" : "f32" });
  } catch {
    converts = false;
    return null;
  }
  return Array.from({ length: Math.min(3, count) }, (_, channel) => {
    const samples = new Float32Array(frames);
    for (let i = 0; i < frames; i++) samples[i] = (mixed[i * count + channel] ?? 0) / (whole ? 2 ** 31 : 1);
    return samples;
  });
}

/** @param {AudioData} sound @returns {Float32Array<ArrayBuffer>[]}  the first three channels */
function planes(sound) {
  return Array.from({ length: Math.min(3, sound.numberOfChannels) }, (_, planeIndex) => {
    const samples = new Float32Array(sound.numberOfFrames);
    sound.copyTo(samples, { planeIndex, format: "f32-planar" });
    return samples;
  });
}
