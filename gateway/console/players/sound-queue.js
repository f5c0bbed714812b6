/** The sound that waits to be played. It keeps to the given times by skipping or repeating inaudible pieces. */

const CHANNELS = 2;
const CAPACITY = 2; // seconds that are stored; older sound is overwritten
const TOLERANCE = 0.03; // seconds between the times of two pieces that still count as continuous
const DEAD_BAND = 0.012; // seconds of error that are left alone: nobody sees or hears them
const JUMP = 0.15; // seconds of error from which it jumps instead of many small corrections
const PAUSE = 0.06; // seconds between two corrections
const SHORTEST = 0.0025; // seconds: the shortest and longest piece that one correction skips or repeats
const LONGEST = 0.02;
const FADE = 0.005; // seconds of the cross-fade

/** One queue for one sample rate, stereo. All times are seconds of the media timeline. */
export class SoundQueue {
  #rate;
  /** @type {Float32Array[]} */
  #ring;
  #size;
  #read = 0; // number of the next sample to play
  #write = 0; // number of the sample after the last one
  #origin = 0; // time of sample 0
  #playing = false;
  #fade = 0; // samples of a fade-in that are still to come
  #sinceCorrection = 0; // samples
  #gap = 0; // samples of silence because nothing was there
  #tail = new Float32Array(CHANNELS); // the last samples, which fade out when nothing follows

  /** @param {number} rate  samples a second */
  constructor(rate) {
    this.#rate = rate;
    this.#size = Math.ceil(rate * CAPACITY);
    this.#ring = Array.from({ length: CHANNELS }, () => new Float32Array(this.#size));
  }

  /** Time of the next sample. */
  get time() { return this.#origin + this.#read / this.#rate; }

  /** Seconds that are stored and not played yet. */
  get ahead() { return (this.#write - this.#read) / this.#rate; }

  get playing() { return this.#playing; }

  /** Seconds of silence so far because sound came late or not. */
  get missing() { return this.#gap / this.#rate; }

  /**
   * Appends a piece. A gap is filled with silence; a piece from elsewhere replaces everything.
   * @param {number} time
   * @param {Float32Array[]} samples  one array for each channel, equal lengths; mono goes to both
   */
  push(time, samples) {
    const [left] = samples;
    if (!left || !Number.isFinite(time) || left.length > this.#size / 2) return;
    const error = time - (this.#origin + this.#write / this.#rate);
    if (this.#write === 0 || error < -TOLERANCE || error > CAPACITY / 2) {
      this.#restart(time);
    } else if (error > TOLERANCE) this.#append(Math.round(error * this.#rate), null);
    else this.#origin += error * 0.02; // times are rounded to milliseconds; clocks drift
    this.#append(left.length, samples);
  }

  /** Forgets everything. */
  clear() {
    this.#restart(0);
    this.#write = 0;
  }

  /**
   * Fills a block.
   * @param {Float32Array[]} output  one array for each channel
   * @param {number} wanted  the time that the block's first sample should have
   */
  read(output, wanted) {
    const length = output[0]?.length ?? 0;
    const error = wanted - this.time;
    let from = 0;
    if (!this.#playing) from = this.#begin(length, error);
    else if (Math.abs(error) > JUMP) from = this.#jump(length, error);
    else if (Math.abs(error) > DEAD_BAND && this.#sinceCorrection > PAUSE * this.#rate) this.#correct(error);
    this.#sinceCorrection += length;
    const until = from + Math.min(length - from, this.#write - this.#read);
    this.#copy(output, from, until);
    if (until < length) this.#silence(output, until, length);
  }

  /**
   * Waits for the time of the first sample, or skips what is too late.
   * @returns {number} the first sample of the block to fill
   * @param {number} length @param {number} error
   */
  #begin(length, error) {
    const skip = Math.round(error * this.#rate);
    if (skip > 0) this.#read = Math.min(this.#write, this.#read + skip);
    const from = Math.min(length, Math.max(0, -skip));
    if (from < length && this.#write > this.#read) {
      this.#playing = true;
      this.#fade = Math.round(FADE * this.#rate);
    }
    return from;
  }

  /** @returns {number} the first sample of the block to fill @param {number} length @param {number} error */
  #jump(length, error) {
    const skip = Math.round(error * this.#rate);
    if (skip > 0 && this.#read + skip + FADE * this.#rate < this.#write) {
      this.#splice(skip);
      return 0;
    }
    this.#playing = false; // the sound goes on when its time has come
    return this.#begin(length, error);
  }

  /**
   * Skips or repeats a piece of about one period of the sound, so that both ends fit.
   * @param {number} error
   */
  #correct(error) {
    const fade = Math.round(FADE * this.#rate);
    const longest = Math.min(LONGEST, Math.abs(error)) * this.#rate;
    const sign = Math.sign(error);
    if (sign > 0 && this.#write - this.#read < longest + fade) return;
    if (sign < 0 && (this.#write - this.#read < fade || this.#read < longest)) return;
    const shift = this.#bestShift(Math.round(SHORTEST * this.#rate), Math.floor(longest), sign, fade);
    if (shift) this.#splice(shift * sign);
  }

  /**
   * @param {number} least @param {number} most @param {number} sign @param {number} length  samples
   * @returns {number} the shift at which the sound is most like that at the read position
   */
  #bestShift(least, most, sign, length) {
    const ring = /** @type {Float32Array} */ (this.#ring[0]);
    let best = 0, found = -Infinity;
    // Every second sample and shift: a quarter of the work, in a thread with 3 ms for each block.
    for (let shift = least; shift <= most; shift += 2) {
      let product = 0, energy = 1e-9;
      for (let i = 0; i < length; i += 2) {
        const a = ring[(this.#read + i) % this.#size] ?? 0;
        const b = ring[(this.#read + sign * shift + i) % this.#size] ?? 0;
        product += a * b;
        energy += b * b;
      }
      const likeness = product / Math.sqrt(energy);
      if (likeness > found) [best, found] = [shift, likeness];
    }
    return best;
  }

  /**
   * Moves the read position and fades from the old one to the new one.
   * @param {number} shift  samples
   */
  #splice(shift) {
    const fade = Math.round(FADE * this.#rate);
    for (const ring of this.#ring) {
      // A repeated piece overlaps the old position, so the old samples are copied first.
      const old = Array.from({ length: fade }, (_, i) => ring[(this.#read + i) % this.#size] ?? 0);
      for (let i = 0; i < fade; i++) {
        const at = (this.#read + shift + i) % this.#size;
        const weight = (i + 1) / (fade + 1);
        ring[at] = (old[i] ?? 0) * (1 - weight) + (ring[at] ?? 0) * weight;
      }
    }
    this.#read += shift;
    this.#sinceCorrection = 0;
  }

  /** @param {Float32Array[]} output @param {number} from @param {number} until */
  #copy(output, from, until) {
    const begin = Math.round(FADE * this.#rate);
    output.forEach((channel, c) => {
      const ring = /** @type {Float32Array} */ (this.#ring[c] ?? this.#ring[0]);
      channel.fill(0, 0, from);
      let fade = this.#fade;
      for (let i = from; i < until; i++) {
        const sample = ring[(this.#read + i - from) % this.#size] ?? 0;
        channel[i] = fade > 0 ? sample * (1 - fade-- / begin) : sample;
      }
      if (until > from) this.#tail[c] = channel[until - 1] ?? 0;
    });
    this.#fade = Math.max(0, this.#fade - (until - from));
    this.#read += until - from;
  }

  /** @param {Float32Array[]} output @param {number} from @param {number} until */
  #silence(output, from, until) {
    if (this.#playing) this.#gap += until - from;
    this.#playing = false;
    output.forEach((channel, c) => {
      let value = this.#tail[c] ?? 0;
      for (let i = from; i < until; i++) channel[i] = value *= 0.97; // a step would click
      this.#tail[c] = value;
    });
  }

  /** @param {number} time  of the next sample */
  #restart(time) {
    this.#read = this.#write = 0;
    this.#origin = time;
    this.#playing = false;
  }

  /** @param {number} count @param {Float32Array[] | null} samples  null: silence */
  #append(count, samples) {
    this.#ring.forEach((ring, c) => {
      const channel = samples?.[c] ?? samples?.[0];
      for (let i = 0; i < count; i++) ring[(this.#write + i) % this.#size] = channel?.[i] ?? 0;
    });
    this.#write += count;
    this.#read = Math.max(this.#read, this.#write - this.#size + Math.ceil(LONGEST * this.#rate));
  }
}
