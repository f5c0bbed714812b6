/** Sends a track of pictures and one of sound by WHIP: reconnects until it is stopped, and reports figures. */

import { Refused, WebRtcSession } from "../players/webrtc-session.js";
import { withStereo } from "../players/whep-sdp.js";
import { whipPolicy } from "./close-policy.js";

/** @typedef {import("./types.js").Start} Start */
/** @typedef {import("./types.js").Progress} Progress */
/** @typedef {import("./types.js").Figures} Figures */

/**
 * The used members of reports on sent RTP and of their sources.
 * @typedef {{type: string, kind: string, bytesSent?: number, framesSent?: number, framesEncoded?: number, frames?: number,
 *   targetBitrate?: number, qualityLimitationReason?: string, fractionLost?: number, roundTripTime?: number}} Stats
 */

const FIRST_PAUSE = 0.5;      // seconds before the second try
const MAX_PAUSE = 8;
const STABLE_SECONDS = 5;     // seconds of live time after which the next failure starts with a short pause again
const RELOAD_SECONDS = 5;     // seconds in which a connection from before a reload of this page may occupy the channel
const UNDERWAY = 2;           // pictures that the encoder may have at once
const LIMITED = 0.9;          // share of the wanted bit rate below which the network counts as slow

/**
 * Callbacks of the owner.
 * @typedef {{progress: (progress: Progress) => void, figures: (figures: Figures) => void}} Listener
 */

export class Whip {
  #start; #tracks; #on; #server;
  /** @type {WebRtcSession | null} */
  #session = null;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  #pause = FIRST_PAUSE;
  #began = performance.now();
  #liveSince = 0;
  #accepted = false; // whether any session was accepted
  #closing = false;
  #ticks;
  #last = { time: 0, bytes: 0, frames: 0 };
  /** Pictures of this broadcast: sent, and left out because of the network and of this device. */
  #frames = 0;
  #late = 0;
  #busy = 0;
  #missed = 0; // pictures that this connection has left out

  /**
   * @param {Start} start
   * @param {{video: MediaStreamTrack, audio: MediaStreamTrack}} tracks
   * @param {Listener} on
   */
  constructor(start, tracks, on) {
    this.#start = start;
    this.#tracks = tracks;
    this.#on = on;
    this.#server = new URL(this.#url).host;
    this.#ticks = setInterval(() => void this.#second(), 1000);
    addEventListener("pagehide", this.#leave);
  }

  get #url() { return this.#start.urls[0] ?? ""; }

  /** Starts the first attempt; later ones follow automatically. */
  open() {
    this.#on.progress({ phase: "connecting", server: this.#server });
    const session = this.#session = new WebRtcSession(this.#url, {
      connected: () => this.#connected(),
      failed: () => this.#failed(session, "lost", true, 0, ""),
    });
    this.#last = { time: performance.now(), bytes: 0, frames: 0 };
    this.#missed = 0;
    const { video, audio } = this.#tracks;
    const stream = new MediaStream([video, audio]);
    const { picture, sound } = this.#start;
    const sending = session.connection.addTransceiver(video, { direction: "sendonly", streams: [stream] });
    sending.setCodecPreferences(preferred("video", "video/H264"));
    const speaking = session.connection.addTransceiver(audio, { direction: "sendonly", streams: [stream] });
    session.open(withStereo)
      .then(() => Promise.all([
        limit(sending.sender, { maxBitrate: picture.bitrate, maxFramerate: picture.frameRate }),
        limit(speaking.sender, { maxBitrate: sound.bitrate }),
      ]))
      .catch((error) => this.#refused(session, error));
  }

  /** Ends the broadcast, and the session at the server. */
  stop() {
    this.close();
    this.#on.progress({ phase: "over", why: null, code: 0, reason: "" });
  }

  close() {
    this.#closing = true;
    clearTimeout(this.#timer);
    clearInterval(this.#ticks);
    removeEventListener("pagehide", this.#leave);
    this.#session?.close();
    this.#session = null;
  }

  #connected() {
    this.#accepted = true;
    this.#on.progress({ phase: "accepted", server: this.#server });
  }

  #live() {
    this.#liveSince = performance.now();
    this.#on.progress({ phase: "live", server: this.#server });
  }

  /** @param {WebRtcSession} session @param {unknown} error */
  #refused(session, error) {
    const reason = error instanceof Error ? error.message : String(error);
    if (!(error instanceof Refused)) return this.#failed(session, "encoder", false, 0, reason);
    const early = performance.now() - this.#began < RELOAD_SECONDS * 1000;
    const secure = this.#url.startsWith("https:");
    const { why, again } = whipPolicy(error.status, { opened: false, accepted: this.#accepted, early, secure });
    this.#failed(session, why, again, error.status, reason);
  }

  /**
   * @param {WebRtcSession} session
   * @param {import("./types.js").Trouble} why
   * @param {boolean} again
   * @param {number} code  of HTTP; 0: none
   * @param {string} reason  of the server
   */
  #failed(session, why, again, code, reason) {
    if (session !== this.#session || this.#closing) return;
    session.close();
    this.#session = null;
    if (!again) {
      this.close();
      return this.#on.progress({ phase: "over", why, code, reason });
    }
    if (this.#liveSince && performance.now() - this.#liveSince > STABLE_SECONDS * 1000) this.#pause = FIRST_PAUSE;
    this.#liveSince = 0;
    const seconds = this.#pause * (0.75 + Math.random() / 2);
    this.#pause = Math.min(MAX_PAUSE, this.#pause * 2);
    this.#timer = setTimeout(() => this.open(), seconds * 1000);
    this.#on.progress({ phase: "waiting", why, code, reason, seconds });
  }

  async #second() {
    const session = this.#session;
    if (session === null) return;
    /** @type {Stats[]} */
    const all = [...(await session.connection.getStats()).values()];
    if (session !== this.#session) return;
    const find = (/** @type {string} */ type) => all.find((stats) => stats.type === type && stats.kind === "video");
    const sent = find("outbound-rtp");
    const bytes = all.reduce((sum, { type, bytesSent = 0 }) => type === "outbound-rtp" ? sum + bytesSent : sum, 0);
    const frames = sent?.framesSent ?? 0;
    const remote = find("remote-inbound-rtp"); // what the server reports
    if (!this.#liveSince) {
      if (!frames || !remote) return;
      this.#live();
    }
    const time = performance.now();
    const elapsed = Math.max(0.001, (time - this.#last.time) / 1000);
    const rate = (frames - this.#last.frames) / elapsed;
    const bitrate = (bytes - this.#last.bytes) * 8 / elapsed;
    this.#frames += frames - this.#last.frames;
    this.#last = { time, bytes, frames };
    const why = sent?.qualityLimitationReason;
    const missed = Math.max(this.#missed, (find("media-source")?.frames ?? 0) - (sent?.framesEncoded ?? 0) - UNDERWAY);
    if (why === "bandwidth") this.#late += missed - this.#missed;
    else if (why === "cpu") this.#busy += missed - this.#missed; // else the encoder had not begun
    this.#missed = missed;
    const wanted = this.#start.picture.bitrate;
    const target = Math.min(wanted, sent?.targetBitrate ?? wanted);
    const { fractionLost = 0, roundTripTime = 0 } = remote ?? {};
    this.#on.figures({
      bitrate, wanted: target + this.#start.sound.bitrate, rate, frames: this.#frames, late: this.#late, busy: this.#busy, queued: 0,
      slow: why === "bandwidth" && target < wanted * LIMITED, loss: fractionLost, roundTrip: roundTripTime,
    });
  }

  /** The page is left. */
  #leave = () => this.#session?.close();
}

/** Whether this browser can send by WHIP. */
export const sendsWebRtc = () => "RTCPeerConnection" in globalThis && "setCodecPreferences" in RTCRtpTransceiver.prototype;

/** @param {string} kind @param {string} first  its type @returns {RTCRtpCodec[]}  all codecs of the browser, this one first */
function preferred(kind, first) {
  const codecs = RTCRtpSender.getCapabilities(kind)?.codecs ?? [];
  const is = (/** @type {RTCRtpCodec} */ { mimeType }) => Number(mimeType.toLowerCase() === first.toLowerCase());
  return codecs.sort((a, b) => is(b) - is(a));
}

/**
 * @param {RTCRtpSender} sender
 * @param {RTCRtpEncodingParameters} limits
 */
async function limit(sender, limits) {
  const parameters = sender.getParameters();
  Object.assign(parameters.encodings[0] ?? {}, limits);
  // Another picture size in a broadcast disturbs players more than fewer pictures.
  await sender.setParameters({ ...parameters, degradationPreference: "maintain-resolution" });
}
