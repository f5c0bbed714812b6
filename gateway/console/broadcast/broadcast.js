/** One broadcast, from Go live to Stop: starts the worker that sends it, and passes pictures and sound to it.
 *
 * WebRTC belongs to the page, so the worker only composes its pictures.
 */

import { containerFormat } from "./formats.js";
import { Drawn, generator, hasStreams, Pulled, Streamed } from "./picture.js";
import { Recorder } from "./recorder.js";
import { Whip } from "./whip.js";

/** @typedef {import("./types.js").Order} Order */
/** @typedef {import("./types.js").Report} Report */

/**
 * Callbacks of the owner.
 * @typedef {object} Listener
 * @property {(progress: import("./types.js").Progress) => void} progress
 * @property {(figures: import("./types.js").Figures) => void} figures
 * @property {(line: import("./types.js").ServerLine) => void} line
 */

export class Broadcast {
  #worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
  #on; #tap;
  /** @type {Streamed | Pulled | Drawn} */
  #picture;
  /** @type {MediaStreamTrack | null | undefined} */
  #shown;
  /** @type {Recorder | null} */
  #recorder = null;
  /** @type {Whip | null} */
  #whip = null;

  /**
   * @param {import("./types.js").Start} start
   * @param {MediaStreamTrack | null} track  of camera or screen
   * @param {import("./sound.js").Sound} sound
   * @param {Listener} on
   */
  constructor(start, track, sound, on) {
    this.#on = on;
    this.#worker.onmessage = (/** @type {MessageEvent<Report>} */ event) => this.#hear(event.data);
    this.#worker.onerror = (event) => {
      event.preventDefault();
      const { message: reason = "" } = event; // none: its script was not loaded
      on.progress({ phase: "over", why: reason ? "encoder" : "unreachable", code: 0, reason });
    };
    const frames = start.transport === "frames";
    const tap = this.#tap = frames ? sound.tap() : null;
    this.#post({ do: "start", start, sound: tap?.port ?? null }, tap ? [tap.port] : []);
    this.#picture = this.#way(start);
    if (start.transport === "container") this.#recorder = this.#record(start, sound);
    else if (start.transport === "whip") this.#whip = this.#send(start, sound);
    this.show(track);
    this.#whip?.open();
  }

  /** Changes camera or screen without ending the broadcast. @param {MediaStreamTrack | null} track */
  show(track) {
    if (track === this.#shown) return;
    this.#shown = track;
    this.#picture.show(track);
  }

  /** Whether a hidden tab slows it down. */
  get needsSight() { return this.#picture instanceof Drawn; }

  /** @param {boolean} on */
  set mirror(on) {
    if (this.#picture instanceof Drawn) this.#picture.mirror = on;
    else this.#post({ do: "mirror", on });
  }

  /** @param {boolean} on */
  set blank(on) {
    if (this.#picture instanceof Drawn) this.#picture.blank = on;
    else this.#post({ do: "blank", on });
  }

  /** Ends the broadcast after all data are sent; `progress` reports the end. */
  stop() {
    this.#post({ do: "stop" });
    this.#whip?.stop();
  }

  /** Frees everything; called after the end. */
  close() {
    this.#recorder?.drop();
    this.#whip?.close();
    this.#picture.close();
    this.#tap?.close();
    this.#worker.terminate();
  }

  /** @param {import("./types.js").Start} start */
  #way(start) {
    const post = (/** @type {Order} */ order, /** @type {Transferable[]} */ transfer = []) => this.#post(order, transfer);
    if (!start.drawn) return hasStreams() ? new Streamed(post) : new Pulled(post);
    const drawn = new Drawn(start.picture, () => post({ do: "drawn" }));
    drawn.mirror = start.mirror;
    return drawn;
  }

  /** @param {import("./types.js").Start} start @param {import("./sound.js").Sound} sound */
  #record(start, sound) {
    const type = containerFormat();
    if (type === null) throw new Error("this browser cannot record");
    return new Recorder(
      new MediaStream([this.#composed(), ...sound.stream.getAudioTracks()]), type, start.sound.bitrate,
      (data, take) => this.#post({ do: "media", take, data }, [data]),
      (take) => this.#post({ do: "finished", take }),
    );
  }

  /** @param {import("./types.js").Start} start @param {import("./sound.js").Sound} sound */
  #send(start, sound) {
    const [audio] = sound.stream.getAudioTracks();
    if (audio === undefined) throw new Error("the sound has no track");
    return new Whip(start, { video: this.#composed(), audio }, this.#on);
  }

  /** @returns {MediaStreamTrack} the track of the composed pictures */
  #composed() {
    if (this.#picture instanceof Drawn) return this.#picture.track;
    const made = generator();
    this.#post({ do: "output", writable: made.writable }, [made.writable]);
    return made;
  }

  /** @param {Report} report */
  #hear(report) {
    switch (report.say) {
      case "progress": return this.#on.progress(report.progress);
      case "figures": return this.#on.figures(report.figures);
      case "server": return this.#on.line(report.line);
      case "record": return this.#recorder?.begin(report.take, report.bitrate);
      case "hold": return this.#recorder?.hold(report.on);
      case "finish": return this.#recorder?.finish();
      case "grab": if (this.#picture instanceof Pulled) this.#picture.grab();
    }
  }

  /** @param {Order} order @param {Transferable[]} [transfer] */
  #post(order, transfer = []) { this.#worker.postMessage(order, transfer); }
}
