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

const LOOK = 500; // ms between two looks at the statistics
const NTP_EPOCH = 2_208_988_800_000; // ms from 1900 to 1970
const VIDEO_RATE = 90_000; // RTP timestamps a second
const SILENCE = 1000; // ms; the time of the element goes on if no sound comes
const LEAST_DELAY = 0.05; // seconds; pages round it to 0.1 s, and take less for an empty buffer
const MAX_DELAY = 300; // seconds; more means that a clock is wrong

const LOSSY = 0.05; // share of lost packets from which the link may be too slow
const CALM = 10; // looks without a lost packet until media are held back no longer
const MORE_HOLD = 60;  // ms above one and a half round trips: for the request, and for jitter
const HOLD_STEP = 20;  // ms; small changes of the round trip change nothing
const MAX_HOLD = 1000; // ms

/** @type {string | null}  the feature that this browser lacks; null: none */
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
  const measure = new Measure(connection, video, now);
  let open = true;
  session.open(withStereo).then(() => {
    if (open) video.srcObject = media; // else the element belongs to the next engine, whose `src` would not count
  }, (error) => {
    settle(error instanceof Refused ? meaning(error.status) : "lost", error.message);
  });
  return {
    outcome,
    delay: () => measure.delay,
    times: () => ({ shown: measure.shown, newest: measure.newest }),
    slow: () => measure.lossy ? "maybe" : "no",
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
  /** Whether many packets were lost since the last look. */
  lossy = false;
  #packets = { lost: 0, received: 0 };
  #connection; #video; #now; #timer; #holdBack;
  #picture = NaN; // time of the shown picture; the element's time goes on with the sound, and without both
  #shownAt = NaN; // performance.now() at which it was shown
  #stamp = NaN; // its RTP timestamp, without wraps
  #looked = NaN;  // `shown` at the last look
  #date = NaN; // server's date of the media time 0, ms since 1970
  #received = 0;
  #arrived = -Infinity; // when the latest media came
  #heard = 0; // time of the sound, while it comes
  #buffer = 0;  // seconds that media wait in the browser
  #waited = { delay: 0, count: 0 };
  #trip = 0; // seconds
  #looking = false;
  #open = true;

  /** @param {RTCPeerConnection} connection @param {HTMLVideoElement} video @param {() => number} now  the server's clock */
  constructor(connection, video, now) {
    this.#connection = connection;
    this.#video = video;
    this.#now = now;
    this.#holdBack = new HoldBack(connection);
    this.#timer = setInterval(() => void this.#look(), LOOK);
    if ("requestVideoFrameCallback" in video) this.#follow();
  }

  /** Seconds of the media timeline: the shown picture, or the sound. */
  get shown() {
    if (!Number.isNaN(this.#picture)) return this.#picture;
    if (performance.now() - this.#arrived < SILENCE) this.#heard = this.#video.currentTime;
    return this.#heard;
  }

  /** Seconds since the shown picture was received by the server; it grows while the picture stands still. */
  get delay() {
    if (this.newest === null || Number.isNaN(this.#date)) return null;
    return Math.max(LEAST_DELAY, (this.#now() - this.#date) / 1000 - this.shown);
  }

  close() {
    clearInterval(this.#timer);
    this.#open = false;
  }

  #follow() {
    this.#video.requestVideoFrameCallback((_, { mediaTime, rtpTimestamp }) => {
      if (!this.#open) return;
      this.#shownAt = performance.now();
      if (rtpTimestamp !== undefined) {
        // A repeated picture has a new media time, but its old timestamp.
        this.#stamp = Number.isNaN(this.#stamp) ? rtpTimestamp : this.#stamp + ((rtpTimestamp - this.#stamp) | 0);
        this.#picture = this.#stamp / VIDEO_RATE;
      } else this.#picture = mediaTime || this.#video.currentTime; // Firefox 153: always 0 for received pictures
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
    const packets = { lost: 0, received: 0 };
    /** @type {Inbound | null} */
    let leading = null; // the picture, else the sound
    for (const stats of report.values()) {
      if (stats.type === "candidate-pair" && stats.nominated) this.#trip = stats.currentRoundTripTime ?? 0;
      if (stats.type !== "inbound-rtp") continue;
      requests += stats.nackCount ?? 0;
      packets.lost += stats.packetsLost ?? 0;
      packets.received += stats.packetsReceived ?? 0;
      if (stats.kind === "video" || leading === null) leading = stats;
      const codec = report.get(stats.codecId)?.mimeType?.split("/")[1];
      if (codec) codecs.push(codec);
    }
    this.#holdBack.look(requests, this.#trip);
    const lost = packets.lost - this.#packets.lost;
    this.lossy = lost > LOSSY * (lost + packets.received - this.#packets.received);
    this.#packets = packets;
    if (leading !== null) this.#read(leading);
    this.codecs = codecs.length ? `WebRTC, ${codecs.sort().join(", ")}` : "";
  }

  /** @param {Inbound} stats */
  #read({ kind, framesReceived, packetsReceived = 0, framesDropped, estimatedPlayoutTimestamp, ...stats }) {
    const { jitterBufferDelay: delay = 0, jitterBufferEmittedCount: count = 0 } = stats;
    if (count > this.#waited.count) this.#buffer = (delay - this.#waited.delay) / (count - this.#waited.count);
    this.#waited = { delay, count };
    const received = framesReceived ?? packetsReceived;
    if (received > this.#received) {
      this.#arrived = performance.now();
      this.newest = this.shown + this.#buffer;
    }
    this.#received = received;
    if (kind === "video") this.dropped = framesDropped ?? null;
    // Browsers let their estimate go on while no picture comes.
    if (this.shown === this.#looked) return;
    this.#looked = this.shown;
    let behind = NaN;
    if (estimatedPlayoutTimestamp) {
      const own = Date.now() - estimatedPlayoutTimestamp;
      behind = this.#now() - Date.now() + (own < -NTP_EPOCH / 2 ? own + NTP_EPOCH : own); // Firefox 153 counts from 1970
    }
    if (!(behind > 0 && behind < MAX_DELAY * 1000)) behind = (this.#buffer + this.#trip / 2) * 1000;
    // The estimate is for this moment, the picture may be older.
    const since = Number.isNaN(this.#shownAt) ? 0 : performance.now() - this.#shownAt;
    this.#date = this.#now() - behind - since - this.shown * 1000;
  }
}
