/** The DASH engine with dash.js; low latency if the manifest offers it. */

import { MediaPlayer } from "./dash.min.js";
import { CueList, plain } from "./cues.js";
import { id3Texts } from "./id3.js";
import { empty, failure, MSE, newest, pending, spread } from "./media.js";
import { AUTO, SOURCE } from "./quality.js";

/** @typedef {import("./cues.js").Metadata} Metadata */
/** @typedef {import("./types.js").CaptionTrack} CaptionTrack */
/** @typedef {import("./types.js").Engine} Engine */
/** @typedef {import("./types.js").OpenEngine} OpenEngine */

const SETTINGS = {
  debug: { logLevel: 0 },
  streaming: {
    applyServiceDescription: true,
    delay: { useSuggestedPresentationDelay: true },
    liveCatchup: { enabled: true, maxDrift: 4, playbackRate: { min: -0.05, max: 0.1 } },
    gaps: { jumpGaps: true, jumpLargeGaps: true },
    buffer: { bufferToKeep: 30, fastSwitchEnabled: true },
    utcSynchronization: { enabled: true, useManifestDateHeaderTimeSource: true },
    text: { defaultEnabled: false, dispatchForManualRendering: true }, // the page shows the captions itself
    retryAttempts: { MPD: 0 }, // the page itself checks the status before
  },
};

const HEADROOM = 1.1; // of the link above the smallest bitrate; less is too slow

const CODEC_ERRORS = /MANIFEST_ERROR_ID_NOSTREAMS|MEDIASOURCE_TYPE_UNSUPPORTED|MANIFEST_ERROR_ID_MULTIPLEXED/;

// dash.js 5.2.1 throws where it looks for closed captions in parts. The manifest has them as texts, too.
const IN_PICTURES = /<Accessibility schemeIdUri="urn:scte:dash:cc:cea-608:2015"[^>]*>/g;

/** @type {string | null}  the feature that this browser lacks; null: none */
export const unsupported = "MediaSource" in globalThis || "ManagedMediaSource" in globalThis ? null : MSE;

/** @type {OpenEngine} */
export function dashEngine(video, url) {
  const { outcome, settle } = pending();
  const player = MediaPlayer().create();
  player.updateSettings(SETTINGS);
  // Without a clock in the manifest (UTCTiming), that of the stream's server is used, never another one.
  player.clearDefaultUTCTimingSources();
  const clock = new URL(url);
  clock.pathname = clock.pathname.replace(/[^/]*$/, "status.json");
  player.addUTCTimingSource("urn:mpeg:dash:utc:http-head:2014", clock.href);
  player.addResponseInterceptor(async (response) => {
    if (typeof response.data === "string") response.data = response.data.replace(IN_PICTURES, "");
    return response;
  });
  const on = (/** @type {string} */ event, /** @type {(e: any) => void} */ run) => player.on(event, run);
  on(MediaPlayer.events.ERROR, ({ error }) => {
    const status = error?.data?.response?.status;
    const words = String(error?.message ?? error?.code ?? error);
    if (status === 401 || status === 403) settle("denied");
    else if (CODEC_ERRORS.test(words) || error?.code === MediaPlayer.errors.MANIFEST_ERROR_ID_NOSTREAMS_CODE) settle("codec", words);
    else settle(failure(video), words);
  });
  // dash.js would play the sound alone.
  on(MediaPlayer.events.ADAPTATION_SET_REMOVED_NO_CAPABILITIES, ({ adaptationSet: { contentType }, remainingAdaptationSets: others }) => {
    if (contentType === "video" && !others.length) settle("codec");
  });
  on(MediaPlayer.events.PLAYBACK_ENDED, ({ isLast }) => { if (isLast !== false) settle("ended"); });
  // dash.js never plays a kind of track, such as sound, that its first Period does not have.
  let played = "";
  on(MediaPlayer.events.PERIOD_SWITCH_COMPLETED, () => {
    const kinds = ["audio", "video"].filter((kind) => player.getTracksFor(/** @type {"audio"} */ (kind)).length).join();
    if (played && kinds && kinds !== played) void spread().then(() => settle("tracks"));
    played ||= kinds;
  });
  // dash.js keeps the first delay: where key frames become rarer, it jumped to later pictures.
  let due = NaN;
  on(MediaPlayer.events.STREAM_UPDATED, () => {
    const liveDelay = Number(player.getDashAdapter().getSuggestedPresentationDelay());
    if (Math.abs(liveDelay - due) > 0.5) player.updateSettings({ streaming: { delay: { liveDelay } } });
    due = liveDelay;
  });
  // dash.js 5.2.1 stays where a Period's pictures end before its sound, and in one that it entered too early.
  let stood = NaN;
  on(MediaPlayer.events.MANIFEST_LOADED, ({ data }) => {
    const begin = Number(data?.Period?.at(-1)?.start), { currentTime: at } = video;
    const stands = video.played.length && !video.paused && video.readyState < 3;
    if (stands && (at < begin || (at === stood && Number(newest(video)) < begin))) player.seekToOriginalLive();
    stood = video.currentTime;
  });
  let wanted = AUTO;
  const levels = () => player.isReady() ? player.getRepresentationsByType("video") : [];
  /** Fixes the wanted quality if it exists, else lets dash.js choose. */
  function apply() {
    const level = levels().find(({ id }) => nameOf(id) === wanted);
    player.updateSettings({ streaming: { abr: { autoSwitchBitrate: { video: level === undefined } } } });
    if (level) player.setRepresentationForTypeById("video", level.id);
  }
  let heard = "";
  const tracks = () => player.isReady() ? player.getTracksFor("audio") : [];
  const nameOfTrack = (/** @type {{labels?: {text?: string}[]}} */ track) => track.labels?.[0]?.text ?? "";
  /** Sets the wanted audio track if it exists. */
  function speak() {
    const track = tracks().find((one) => nameOfTrack(one) === heard);
    if (track && player.getCurrentTrackFor("audio") !== track) player.setCurrentTrack(track);
  }
  on(MediaPlayer.events.STREAM_INITIALIZED, () => {
    if (wanted !== AUTO) apply();
    if (heard) speak();
  });
  const texts = textsOf(player, video);
  video.pause(); // else there is no "play" event after a click, and dash.js never loads the manifest again
  player.initialize(video, url, true);
  let open = true;
  return {
    outcome,
    ...texts,
    delay() {
      const seconds = player.isReady() ? player.getCurrentLiveLatency() : NaN;
      return Number.isFinite(seconds) && seconds > 0 ? seconds : null;
    },
    toLive() { if (player.isReady() && player.isDynamic()) player.seekToOriginalLive(); },
    qualities: () => levels().map(({ id, width, height, bandwidth }) =>
      ({ id: nameOf(id), width: width ?? 0, height: height ?? 0, bitrate: bandwidth ?? 0 })),
    quality(id) {
      if (id === wanted) return;
      wanted = id;
      if (player.isReady()) apply();
    },
    shown() {
      const level = player.isReady() ? player.getCurrentRepresentationForType("video") : null;
      return level ? nameOf(level.id) : null;
    },
    slow() {
      const least = Math.min(...levels().map(({ bandwidth }) => bandwidth ?? 0));
      return player.isReady() && player.getAverageThroughput("video") * 1000 < least * HEADROOM ? "maybe" : "no";
    },
    sounds: () => tracks().map(nameOfTrack),
    sound(name) {
      heard = name;
      speak();
    },
    close() {
      if (!open) return;
      open = false;
      // dash.js 5.2.1 leaves rate changes that wait for "canplay" on the element. They would throw in the next player, so
      // they are run now.
      video.dispatchEvent(new Event("canplay"));
      player.destroy();
      empty(video);
    },
  };
}

const ID3 = "https://aomedia.org/emsg/ID3"; // "Carriage of ID3 Timed Metadata in CMAF" §2
const MOST = 64; // captions or metadata that are kept

/**
 * The captions and metadata of a stream.
 * @param {import("./dash.min.js").MediaPlayerClass} player
 * @param {HTMLVideoElement} video
 * @returns {Required<Pick<Engine, "caption" | "cues" | "metadata">>}
 */
function textsOf(player, video) {
  /** dash.js changes the end of a caption that goes on in the next segment. @type {Map<string, VTTCue>} */
  const active = new Map();
  /** @type {Metadata[]} */
  let came = [];
  /** @type {CaptionTrack | null} */
  let wanted = null;
  const on = (/** @type {string} */ event, /** @type {(e: any) => void} */ run) => player.on(event, run);
  const apply = () => {
    if (!player.isReady()) return;
    const at = player.getTracksFor("text").findIndex(({ lang, labels }) => wanted !== null
      && labels?.[0]?.text === wanted.label && (lang ?? "") === wanted.language);
    if (player.getCurrentTextTrackIndex() !== at) player.setTextTrack(at);
  };
  on(MediaPlayer.events.TEXT_TRACKS_ADDED, apply);
  on(MediaPlayer.events.CUE_ENTER, (cue) => {
    active.set(cue.cueID, cue);
    const [oldest] = active.keys();
    if (active.size > MOST && oldest !== undefined) active.delete(oldest);
  });
  on(MediaPlayer.events.CUE_EXIT, ({ cueID }) => active.delete(cueID));
  on(ID3, ({ event }) => {
    const time = event.calculatedPresentationTime;
    if (!(event.messageData instanceof Uint8Array)) return; // an empty message
    came = [...came, ...id3Texts(event.messageData).map((text) => ({ text, time }))].slice(-MOST);
  });
  return {
    caption(track) {
      wanted = track;
      active.clear();
      apply();
    },
    cues() {
      const list = new CueList();
      for (const cue of active.values()) list.add({ ...plain(cue), start: cue.startTime, end: cue.endTime });
      return list.at(video.currentTime);
    },
    metadata() {
      const due = came;
      came = [];
      return due;
    },
  };
}

/**
 * @param {string} id  of a Representation; for renditions it is the name
 * @returns {string} which quality it is
 */
function nameOf(id) { return id === "video" ? SOURCE : id; }
