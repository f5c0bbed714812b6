/** A MediaRecorder whose files begin and end at the worker's command. */

const SLICE = 250; // ms

/** @typedef {(data: ArrayBuffer, take: number) => void} Use */

export class Recorder {
  #stream; #type; #use; #finished;
  /** @type {MediaRecorder | null} */
  #recorder = null;
  #sound;

  /**
   * @param {MediaStream} stream  its tracks must not change while it is recorded
   * @param {string} type
   * @param {number} sound  bit/s
   * @param {Use} use
   * @param {(take: number) => void} finished  called after the last data of a recording
   */
  constructor(stream, type, sound, use, finished) {
    this.#stream = stream;
    this.#type = type;
    this.#sound = sound;
    this.#use = use;
    this.#finished = finished;
  }

  /** @param {number} take @param {number} bitrate  of the picture, bit/s */
  begin(take, bitrate) {
    this.drop();
    /** @type {MediaRecorderOptions & {videoKeyFrameIntervalDuration?: number}} */
    const options = {
      mimeType: this.#type, videoBitsPerSecond: bitrate, audioBitsPerSecond: this.#sound, videoKeyFrameIntervalDuration: 2000,
    };
    const recorder = new MediaRecorder(this.#stream, options);
    let order = Promise.resolve(); // data are read asynchronously and have to stay in order
    recorder.ondataavailable = ({ data }) => {
      if (data.size) order = order.then(async () => this.#use(await data.arrayBuffer(), take));
    };
    recorder.onstop = () => void order.then(() => this.#finished(take));
    recorder.start(SLICE);
    this.#recorder = recorder;
  }

  /** @param {boolean} on */
  hold(on) {
    const recorder = this.#recorder;
    if (on && recorder?.state === "recording") recorder.pause();
    else if (!on && recorder?.state === "paused") recorder.resume();
  }

  /** Ends the recording: the rest of the data comes, then `finished` is called. */
  finish() { if (this.#recorder?.state !== "inactive") this.#recorder?.stop(); }

  /** Stops at once, without further data. */
  drop() {
    const recorder = this.#recorder;
    this.#recorder = null;
    if (recorder === null) return;
    recorder.ondataavailable = recorder.onstop = null;
    if (recorder.state !== "inactive") recorder.stop();
  }
}
