/** One idea: microphone and screen sound mixed into one, measured, muted, and given to whoever sends it. */

export const RATE = 48_000;
export const CHANNELS = 2;

/** What is heard has one source for the whole broadcast: inputs come and go before it. */
export class Sound {
  /** What a MediaRecorder records, and what may be listened to. */
  stream;
  #context; #mix; #limiter; #voice; #screen; #meter; #samples;

  /** @returns {Promise<Sound>} */
  static async open() {
    const context = new AudioContext({ sampleRate: RATE, latencyHint: "interactive" });
    await context.audioWorklet.addModule(new URL("sound-tap.js", import.meta.url));
    return new Sound(context);
  }

  /** @param {AudioContext} context */
  constructor(context) {
    this.#context = context;
    const destination = context.createMediaStreamDestination();
    this.stream = destination.stream;
    this.#mix = new GainNode(context, { channelCount: CHANNELS, channelCountMode: "explicit" });
    // Voice and a film's sound together may exceed full scale.
    const limiter = this.#limiter = new DynamicsCompressorNode(context, { threshold: -3, knee: 0, ratio: 20, attack: 0.002, release: 0.1 });
    this.#voice = new Input(context, this.#mix);
    this.#screen = new Input(context, this.#mix);
    this.#meter = new AnalyserNode(context, { fftSize: 1024 });
    this.#samples = new Float32Array(this.#meter.fftSize);
    this.#mix.connect(limiter).connect(destination);
    this.#mix.connect(this.#meter);
    // After a telephone call the system gives the microphone back, but leaves the context as it was.
    context.addEventListener("statechange", () => { if (context.state !== "closed") void this.resume(); });
  }

  /** Is it worked on? Before the first click it may not be. */
  get running() { return this.#context.state === "running"; }

  /** Browsers want a click before sound is worked on. */
  async resume() {
    if (this.#context.state !== "running") await this.#context.resume();
  }

  /** @param {MediaStream | null} stream */
  set microphone(stream) { this.#voice.source = stream; }

  /** @param {MediaStream | null} stream */
  set screen(stream) { this.#screen.source = stream; }

  /** The microphone's; a screen goes on to be heard. @param {boolean} on */
  set muted(on) { this.#voice.muted = on; }

  /** @returns {number} the loudest sample of the last moment, dBFS; -Infinity in silence */
  level() {
    this.#meter.getFloatTimeDomainData(this.#samples);
    let peak = 0;
    for (const sample of this.#samples) peak = Math.max(peak, Math.abs(sample));
    return 20 * Math.log10(peak);
  }

  /**
   * Everything that is heard from now on, as blocks of samples.
   * @returns {{port: MessagePort, close: () => void}}
   */
  tap() {
    const { port1, port2 } = new MessageChannel();
    const node = new AudioWorkletNode(this.#context, "sound-tap", {
      numberOfOutputs: 1, channelCount: CHANNELS, channelCountMode: "explicit",
    });
    node.port.postMessage(port1, [port1]);
    this.#limiter.connect(node);
    node.connect(this.#context.destination); // its output is silence; a node that leads nowhere is not asked for any
    return { port: port2, close: () => { this.#limiter.disconnect(node); node.disconnect(); port2.close(); } };
  }
}

/** One of the sounds that are mixed; the stream behind it may change at any time. */
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
    this.#stream = stream;
    this.#node?.disconnect();
    this.#node = stream?.getAudioTracks().length ? this.#context.createMediaStreamSource(stream) : null;
    this.#node?.connect(this.#gain);
  }

  /** @param {boolean} on */
  set muted(on) { this.#gain.gain.setTargetAtTime(on ? 0 : 1, this.#context.currentTime, 0.01); }
}
