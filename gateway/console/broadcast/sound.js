/** Mixes microphone and screen sound, measures the level, and provides the sound for sending. */

export const RATE = 48_000;
export const CHANNELS = 2;

/** The mixed sound. Its output stays the same for the whole broadcast, while inputs may change. */
export class Sound {
  /** The output for a MediaRecorder and for the monitor. */
  stream;
  #context; #mix; #limiter; #voice; #screen; #meter; #samples;

  /** @returns {Promise<Sound>} */
  static async open() {
    const context = await openContext();
    await context.audioWorklet.addModule(new URL("sound-tap.js", import.meta.url));
    return new Sound(context);
  }

  /** @param {AudioContext} context */
  constructor(context) {
    this.#context = context;
    const destination = context.createMediaStreamDestination();
    this.stream = destination.stream;
    this.#mix = new GainNode(context, { channelCount: CHANNELS, channelCountMode: "explicit" });
    // Voice and screen sound together may exceed full scale.
    const limiter = this.#limiter = new DynamicsCompressorNode(context, { threshold: -3, knee: 0, ratio: 20, attack: 0.002, release: 0.1 });
    this.#voice = new Input(context, this.#mix);
    this.#screen = new Input(context, this.#mix);
    this.#meter = new AnalyserNode(context, { fftSize: 1024 });
    this.#samples = new Float32Array(this.#meter.fftSize);
    this.#mix.connect(limiter).connect(destination);
    this.#mix.connect(this.#meter);
    // After a phone call the system returns the microphone, but does not resume the context.
    context.addEventListener("statechange", () => { if (context.state !== "closed") void this.resume(); });
  }

  /** Whether sound is processed; browsers may wait for the first click. */
  get running() { return this.#context.state === "running"; }

  /** Starts the processing; browsers require a click before. */
  async resume() {
    if (this.#context.state !== "running") await this.#context.resume();
  }

  /** @param {MediaStream | null} stream */
  set microphone(stream) { this.#voice.source = stream; }

  /** @param {MediaStream | null} stream */
  set screen(stream) { this.#screen.source = stream; }

  /** Mutes the microphone; screen sound stays. @param {boolean} on */
  set muted(on) { this.#voice.muted = on; }

  /** @returns {number} the loudest sample of the last moment, dBFS; -Infinity in silence */
  level() {
    this.#meter.getFloatTimeDomainData(this.#samples);
    let peak = 0;
    for (const sample of this.#samples) peak = Math.max(peak, Math.abs(sample));
    return 20 * Math.log10(peak);
  }

  /**
   * Returns a port with all sound from now on, as blocks of samples.
   * @returns {{port: MessagePort, close: () => void}}
   */
  tap() {
    const { port1, port2 } = new MessageChannel();
    const node = new AudioWorkletNode(this.#context, "sound-tap", {
      numberOfOutputs: 1, channelCount: CHANNELS, channelCountMode: "explicit",
    });
    node.port.postMessage(port1, [port1]);
    this.#limiter.connect(node);
    node.connect(this.#context.destination); // its output is silence; a node without a destination would not be processed
    return { port: port2, close: () => { this.#limiter.disconnect(node); node.disconnect(); port2.close(); } };
  }
}

/**
 * Returns a context of 48 kHz. Firefox gives a context no devices of another rate than its own (its bug 1674892), so
 * there the context has the rate of the hardware, and the tap converts it.
 */
async function openContext() {
  const latencyHint = /** @type {const} */ ("interactive");
  const [context, plain] = [new AudioContext({ sampleRate: RATE, latencyHint }), new AudioContext({ latencyHint })];
  let right = context;
  try {
    context.createMediaStreamSource(plain.createMediaStreamDestination().stream);
  } catch (error) {
    if (!(error instanceof DOMException) || error.name !== "NotSupportedError") throw error;
    right = plain;
  }
  await (right === plain ? context : plain).close();
  return right;
}

/** One input of the mix; its stream may change at any time. */
class Input {
  #context; #gain;
  /** @type {MediaStream | null} */
  #stream = null;
  /** @type {MediaStreamAudioSourceNode | null} */
  #node = null;

  /** @param {AudioContext} context @param {AudioNode} to */
  constructor(context, to) {
    this.#context = context;
    this.#gain = new GainNode(context);
    this.#gain.connect(to);
  }

  /** @param {MediaStream | null} stream */
  set source(stream) {
    if (stream === this.#stream) return;
    const node = stream?.getAudioTracks().length ? this.#context.createMediaStreamSource(stream) : null;
    this.#stream = stream; // not before: the next try must fail as well, and not send silence
    this.#node?.disconnect();
    this.#node = node;
    node?.connect(this.#gain);
  }

  /** @param {boolean} on */
  set muted(on) { this.#gain.gain.setTargetAtTime(on ? 0 : 1, this.#context.currentTime, 0.01); }
}
