/** The WebRTC engine: receives sound and picture by WHEP. The browser decodes them and keeps the delay short. */

import { pending } from "./media.js";
import { ENDED, Refused, WebRtcSession } from "./webrtc-session.js";
import { withStereo } from "./whep-sdp.js";

/** @typedef {import("./types.js").OpenEngine} OpenEngine */

/**
 * The used members of a report on received RTP. Safari and Firefox lack some of them.
 * @typedef {{type: string, kind: string, packetsReceived?: number, framesReceived?: number, framesDropped?: number,
 *   nackCount?: number, jitterBufferDelay?: number, jitterBufferEmittedCount?: number,
 *   estimatedPlayoutTimestamp?: number, codecId?: string}} Inbound
 */

const LOOK = 500;                    // ms between two looks at the statistics
const NTP_EPOCH = 2_208_988_800_000; // ms from 1900 to 1970
const LEAST_DELAY = 0.05;            // seconds; pages round it to 0.1 s, and take less for an empty buffer
const MAX_DELAY = 300;               // seconds; more means that a clock is wrong

const CALM = 10;       // looks without a lost packet until media are held back no longer
const MORE_HOLD = 60;  // ms above one and a half round trips: for the request, and for jitter
const HOLD_STEP = 20;  // ms; small changes of the round trip change nothing
const MAX_HOLD = 1000; // ms

/** @type {string | null} */
export const unsupported = "RTCPeerConnection" in globalThis ? null : "WebRTC";

/** What the server's refusal means for the page. @param {number} status @returns {import("./types.js").Outcome["why"]} */
function meaning(status) {
  if (status === 401 || status === 403) return "denied";
  if (status === 406 || status === 400) return "codec";
  return status === 404 ? "ended" : "lost";
}

/** @type {OpenEngine} */
export function whepEngine(video, url, now) {
  const { outcome, settle } = pending();
  const session = new WebRtcSession(url, {
    connected: () => undefined, // the page sees the first picture
    failed: (reason) => settle(reason === ENDED ? "ended" : "lost", reason),
  });
  const { connection } = session;
  const media = new MediaStream();
  connection.addEventListener("track", ({ track }) => media.addTrack(track));
  connection.addTransceiver("video", { direction: "recvonly" });
  connection.addTransceiver("audio", { direction: "recvonly" });
  const measure = new Measure(connection, video);
  session.open(withStereo).then(() => { video.srcObject = media; }, (error) => {
    settle(error instanceof Refused ? meaning(error.status) : "lost", error.message);
  });
  let open = true;
  return {
    outcome,
    delay: () => measure.delay(now()),
    toLive: () => undefined, // it is always live
    times: () => ({ shown: measure.shown, newest: measure.newest }),
    dropped: () => measure.dropped,
    decoder: () => measure.codecs,
    close() {
      if (!open) return;
      open = false;
      measure.close();
      session.close();
      video.srcObject = null;
    },
  };
}

/**
 * Holds media back while packets are lost. A lost packet comes one round trip late, and the pictures behind it wait.
 * Chromium 156 holds them for less by itself: it gets them together, and skips all but the last.
 */
class HoldBack {
  #connection;
  #requests = 0; // for lost packets, so far
  #calm = CALM;  // looks since the last one

  /** @param {RTCPeerConnection} connection */
  constructor(connection) { this.#connection = connection; }

  /** To be called at each look. @param {number} requests  for lost packets, so far @param {number} trip  seconds */
  look(requests, trip) {
    const lost = requests > this.#requests;
    this.#requests = requests;
    // A single lost packet is no reason.
    if (lost && this.#calm < CALM) {
      this.#hold(Math.min(MAX_HOLD, Math.ceil((1500 * trip + MORE_HOLD) / HOLD_STEP) * HOLD_STEP));
    }
    this.#calm = lost ? 0 : this.#calm + 1;
    if (this.#calm === CALM) this.#hold(null);
  }

  /** @param {number | null} ms  null: the browser decides */
  #hold(ms) {
    for (const receiver of this.#connection.getReceivers()) {
      if ("jitterBufferTarget" in receiver) receiver.jitterBufferTarget = ms;
      else Object.assign(receiver, { playoutDelayHint: ms && ms / 1000 }); // Chromium before 124
    }
  }
}

/** Reads the statistics of a connection twice a second. */
class Measure {
  /** Seconds of the media timeline up to which media have arrived; null before the first. @type {number | null} */
  newest = null;
  /** Pictures that were decoded and not shown; null: unknown. @type {number | null} */
  dropped = null;
  /** The codecs in use. */
  codecs = "";
  #connection; #video; #timer; #holdBack;
  #picture = NaN; // time of the shown picture; the element's time goes on with the sound, and without both
  #received = 0;
  #buffer = 0;  // seconds that media wait in the browser
  #waited = { delay: 0, count: 0 };
  #ahead = NaN; // ms that the server's clock at the shown picture is behind the own one
  #trip = 0;    // seconds
  #looking = false;
  #open = true;

  /** @param {RTCPeerConnection} connection @param {HTMLVideoElement} video */
  constructor(connection, video) {
    this.#connection = connection;
    this.#video = video;
    this.#holdBack = new HoldBack(connection);
    this.#timer = setInterval(() => void this.#look(), LOOK);
    if ("requestVideoFrameCallback" in video) this.#follow();
  }

  /** Seconds of the media timeline: the shown picture, or the sound. */
  get shown() { return Number.isNaN(this.#picture) ? this.#video.currentTime : this.#picture; }

  /** @param {number} now  the server's clock, ms since 1970 @returns {number | null}  seconds */
  delay(now) {
    if (this.newest === null) return null;
    const behind = (now - Date.now() + this.#ahead) / 1000;
    return Math.max(LEAST_DELAY, behind > 0 && behind < MAX_DELAY ? behind : this.#buffer + this.#trip / 2);
  }

  close() {
    clearInterval(this.#timer);
    this.#open = false;
  }

  #follow() {
    this.#video.requestVideoFrameCallback((_, { mediaTime }) => {
      if (!this.#open) return;
      this.#picture = mediaTime || this.#video.currentTime; // Firefox 153: always 0 for received pictures
      this.#follow();
    });
  }

  async #look() {
    if (this.#looking || !this.#open) return;
    this.#looking = true;
    const report = await this.#connection.getStats();
    this.#looking = false;
    const codecs = [];
    let requests = 0;
    /** @type {Inbound | null} */
    let leading = null; // the picture, else the sound
    for (const stats of report.values()) {
      if (stats.type === "candidate-pair" && stats.nominated) this.#trip = stats.currentRoundTripTime ?? 0;
      if (stats.type !== "inbound-rtp") continue;
      requests += stats.nackCount ?? 0;
      if (stats.kind === "video" || leading === null) leading = stats;
      const codec = report.get(stats.codecId)?.mimeType?.split("/")[1];
      if (codec) codecs.push(codec);
    }
    this.#holdBack.look(requests, this.#trip);
    if (leading !== null) this.#read(leading);
    this.codecs = codecs.length ? `WebRTC, ${codecs.sort().join(", ")}` : "";
  }

  /** @param {Inbound} stats */
  #read({ kind, framesReceived, packetsReceived = 0, framesDropped, estimatedPlayoutTimestamp, ...stats }) {
    const { jitterBufferDelay: delay = 0, jitterBufferEmittedCount: count = 0 } = stats;
    if (count > this.#waited.count) this.#buffer = (delay - this.#waited.delay) / (count - this.#waited.count);
    this.#waited = { delay, count };
    const received = framesReceived ?? packetsReceived;
    if (received > this.#received) this.newest = this.shown + this.#buffer;
    this.#received = received;
    if (kind === "video") this.dropped = framesDropped ?? null;
    if (estimatedPlayoutTimestamp) {
      const behind = Date.now() - estimatedPlayoutTimestamp;
      this.#ahead = behind < -NTP_EPOCH / 2 ? behind + NTP_EPOCH : behind; // Firefox 153 counts from 1970
    }
  }
}
