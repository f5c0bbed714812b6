/** The HLS engine: hls.js or, on Apple's devices, the browser itself. */

import Hls from "./hls.min.js";
import { CueList, Moments, plain } from "./cues.js";
import { keepPlaying } from "./hls-playing.js";
import { id3Texts } from "./id3.js";
import { empty, kinds, MSE, nativeHls as native, newest, pending, spread } from "./media.js";
import { AUTO, SOURCE } from "./quality.js";

/** @typedef {import("./types.js").CaptionTrack} CaptionTrack */
/** @typedef {import("./types.js").Engine} Engine */
/** @typedef {import("./types.js").OpenEngine} OpenEngine */
/** @typedef {import("./hls.min.js").PlaylistLoaderContext} PlaylistContext */
/** @typedef {import("./hls.min.js").LoaderConfiguration} LoaderConfiguration */

/** @type {string | null}  the feature that this browser lacks; null: none */
export const unsupported = native || Hls.isSupported() ? null : MSE;

/**
 * @param {boolean} lowLatency  load parts instead of whole segments
 * @returns {OpenEngine}
 */
export function hlsEngine(lowLatency) {
  return (video, url, now, live) => native ? openNative(video, url, now) : openHlsJs(video, url, now, lowLatency, live);
}

/**
 * Plays the live stream from a date on, and goes to other dates.
 * @param {number} date  ms since 1970
 * @returns {OpenEngine}
 */
export function rewindEngine(date) {
  return (video, url, now) => native ? openNative(video, url, now, date) : openRewound(video, url, date);
}

// Browsers start workers only from files of the page's own origin.
const WORKER_FILE = new URL("hls.worker.js", import.meta.url);
const MAX_HOLD = 2.5; // target durations; the gateway answers 503 after three (HLS §6.2.5.2)
const HEADROOM = 1.1; // of the link above the smallest bitrate; less is too slow
// The page shows the captions itself. Those of the pictures are in the text tracks of the gateway too.
// Errors of manifests are handled with the status.
const SETTINGS = {
  workerPath: WORKER_FILE.href, enableWorker: WORKER_FILE.origin === globalThis.location?.origin,
  renderTextTracksNatively: false, enableCEA708Captions: false, enableID3MetadataCues: false, enableEmsgMetadataCues: false,
  manifestLoadPolicy: { default: { maxTimeToFirstByteMs: 10000, maxLoadTimeMs: 20000, timeoutRetry: null, errorRetry: null } },
};
const HELD_TIMES = 30; // after so many, hls.js requests in its own way

/** @type {WeakMap<object, import("./hls.min.js").LevelDetails>}  by level: hls.js 1.7.4 requests again before it keeps them */
const newestDetails = new WeakMap();

/**
 * Waits for the next part as long as the gateway holds the request, and requests again at once.
 *
 * hls.js gives up after three parts. Requests for later parts, which it only guesses, keep its time-outs.
 */
class Patient extends /** @type {import("./hls.min.js").PlaylistLoaderConstructor} */ (/** @type {unknown} */ (Hls.DefaultConfig.loader)) {
  /**
   * @param {PlaylistContext} context
   * @param {LoaderConfiguration} config
   * @param {import("./hls.min.js").LoaderCallbacks<any>} callbacks
   */
  load(context, config, callbacks) {
    const details = context.levelOrTrack && (newestDetails.get(context.levelOrTrack) ?? context.levelOrTrack.details);
    const { msn, part } = context.deliveryDirectives ?? {};
    const isNext = details && ((msn === details.lastPartSn && part === details.lastPartIndex + 1)
      || (msn === details.lastPartSn + 1 && part === 0));
    if (isNext && details.targetduration) {
      const ms = MAX_HOLD * details.targetduration * 1000;
      const timeoutRetry = { maxNumRetry: HELD_TIMES, retryDelayMs: 0, maxRetryDelayMs: 0 };
      config = { ...config, loadPolicy: { ...config.loadPolicy, maxTimeToFirstByteMs: ms, maxLoadTimeMs: ms, timeoutRetry } };
    }
    super.load(context, config, callbacks);
  }
}

/**
 * Loads no sound before the times of its pictures are known, at a publisher's return.
 *
 * hls.js 1.7.4 does so only if it begins with the segment. Coming from parts of the one before, it never loads sound again.
 */
class LaterSound extends /** @type {NonNullable<import("./hls.min.js").HlsConfig["audioStreamController"]>} */ (Hls.DefaultConfig.audioStreamController) {
  /**
   * @param {import("./hls.min.js").MediaFragment} frag
   * @param {import("./hls.min.js").Level} track
   * @param {number} time  seconds of the media timeline, from which sound is needed
   */
  loadFragment(frag, track, time) {
    const parts = track.details?.partList ?? [];
    const next = parts[this.getNextPart(parts, frag, Math.max(frag.start, time))];
    if (next && this.initPTS[next.fragment.cc] === undefined) return; // it is called again in 100 ms
    super.loadFragment(frag, track, time);
  }
}

/**
 * Sees each update of a playlist before hls.js, notes it for `Patient`, and leaves some out.
 *
 * After the viewer has left a track, hls.js 1.7.4 keeps its update without the segments that it skips. When the viewer
 * returns, it throws and never loads the playlist again.
 * @param {Hls} hls
 */
function filterUpdates(hls) {
  const { trigger } = hls;
  hls.trigger = (event, /** @type {any} */ data) => {
    if (event === Hls.Events.LEVEL_LOADED) newestDetails.set(data.levelInfo, data.details);
    const chosen = event === Hls.Events.SUBTITLE_TRACK_LOADED ? hls.subtitleTrack
      : event === Hls.Events.AUDIO_TRACK_LOADED ? hls.audioTrack : data?.id;
    return chosen !== data?.id && data.deliveryDirectives?.skip ? false : trigger.call(hls, event, data);
  };
}

const PICTURES = /^(avc|av01|dvh|hev|hvc|vp)/;

/**
 * Begins to load a playlist.
 * @param {HTMLVideoElement} video
 * @param {string} url
 * @param {Partial<import("./hls.min.js").HlsConfig>} settings
 */
function load(video, url, settings) {
  const { outcome, settle } = pending();
  const closing = new AbortController();
  const { signal } = closing;
  const hls = new Hls({ ...SETTINGS, ...settings });
  filterUpdates(hls);
  let repairs = 0;
  hls.on(Hls.Events.ERROR, (_, data) => {
    const code = data.response?.code;
    if (code === 401 || code === 403) return settle("denied");
    if (!data.fatal) return;
    if (data.details === Hls.ErrorDetails.MANIFEST_INCOMPATIBLE_CODECS_ERROR || data.details === Hls.ErrorDetails.BUFFER_ADD_CODEC_ERROR
      || data.details === Hls.ErrorDetails.BUFFER_INCOMPATIBLE_CODECS_ERROR) return settle("codec", data.error?.message ?? data.details);
    // hls.js can recover from a decoder error. After more than two the media are broken.
    if (data.type === Hls.ErrorTypes.MEDIA_ERROR && repairs++ < 2) return hls.recoverMediaError();
    settle("lost", data.details);
  });
  keepPlaying(hls, video);
  video.addEventListener("ended", () => settle("ended"), { signal });
  const texts = textsOf(hls, video);
  hls.attachMedia(video);
  hls.loadSource(url);
  const close = () => {
    if (signal.aborted) return;
    closing.abort();
    hls.destroy();
    empty(video);
  };
  return { hls, settle, signal, engine: { outcome, ...texts, close } };
}

/**
 * @param {HTMLVideoElement} video
 * @param {string} url
 * @param {() => number} now
 * @param {boolean} lowLatency
 * @param {import("./types.js").Live} live
 * @returns {Engine}
 */
function openHlsJs(video, url, now, lowLatency, live) {
  const { hls, settle, engine } = load(video, url, {
    lowLatencyMode: lowLatency,
    // 1: HLS with whole segments is not sped up.
    maxLiveSyncPlaybackRate: lowLatency ? 1.1 : 1,
    liveSyncMode: "edge",
    // The browser removes old media itself. If hls.js does so during the first part of a segment, it pauses for seconds.
    backBufferLength: Infinity,
    pLoader: Patient,
    audioStreamController: LaterSound,
  });
  // hls.js shows nothing of a segment without a key frame, so it begins with one.
  let from = "";
  hls.on(Hls.Events.LEVEL_UPDATED, (_, { details: { partList } }) => {
    if (!partList || video.buffered.length) return;
    const at = hls.liveSyncPosition ?? 0;
    const own = partList.filter(({ fragment: { start, end } }) => start <= at && at < end);
    const key = partList.findLast((part) => part.independent);
    if (!key || !own.length || own.some((part) => part.independent) || key.relurl === from) return;
    from = key.relurl;
    queueMicrotask(() => hls.startLoad(key.start));
  });
  // hls.js never plays a kind of track that it did not find at first. A playlist lists a new one with its first segment.
  let { status } = live;
  let played = "";
  let part = NaN; // number of the discontinuity before the shown picture
  let goesOn = true; // no discontinuity was shown
  hls.on(Hls.Events.BUFFER_CREATED, (_, { tracks }) => { played = Object.keys(tracks).sort().join(); });
  hls.on(Hls.Events.FRAG_CHANGED, async (_, { frag: { cc } }) => {
    const isNext = cc > part;
    part = cc;
    if (isNext) {
      goesOn = false;
      await spread();
      status = await live.renew().catch(() => null) ?? status;
      return;
    }
    const has = kinds(status);
    if (!has || has === played) return;
    const playlist = await fetch(url).then((answer) => answer.text(), () => "");
    const codecs = [...playlist.matchAll(/CODECS="(.*?)"/g)].flatMap(([, list = ""]) => list.split(","));
    const listed = [...new Set(codecs.map((codec) => PICTURES.test(codec) ? "video" : "audio"))].sort().join();
    if (listed ? listed === has : !goesOn) settle("tracks");
  });
  let wanted = AUTO;
  const apply = () => { hls.nextLevel = hls.levels.findIndex((level) => nameOf(level, url) === wanted); };
  hls.on(Hls.Events.MANIFEST_PARSED, () => { if (wanted !== AUTO) apply(); });
  let heard = "";
  /** Sets the wanted audio track if it exists. */
  const speak = () => {
    const track = hls.audioTracks.findIndex(({ name }) => name === heard);
    if (track >= 0 && track !== hls.audioTrack) hls.audioTrack = track;
  };
  hls.on(Hls.Events.AUDIO_TRACKS_UPDATED, speak);
  return {
    ...engine,
    delay() {
      const shown = hls.playingDate?.getTime();
      const behind = shown === undefined ? NaN : (now() - shown) / 1000;
      // If the clock is wrong by hours, the playlist's own estimate is better.
      if (behind > -1 && behind < 300) return Math.max(0, behind);
      return hls.latency > 0 ? hls.latency : null;
    },
    toLive() {
      const edge = hls.liveSyncPosition;
      if (edge !== null && edge > video.currentTime + 0.5) video.currentTime = edge;
    },
    qualities: () => hls.levels.map(({ width = 0, height = 0, bitrate, url: at }) => ({ id: nameOf({ url: at }, url), width, height, bitrate })),
    quality(id) {
      if (id === wanted) return;
      wanted = id;
      if (hls.levels.length) apply(); // -1, if there is no level of that name: hls.js chooses
    },
    shown() {
      const level = hls.levels[hls.currentLevel];
      return level ? nameOf(level, url) : null;
    },
    slow() {
      const least = Math.min(...hls.levels.map(({ bitrate }) => bitrate));
      return hls.bandwidthEstimate < least * HEADROOM ? "maybe" : "no";
    },
    sounds: () => hls.audioTracks.map(({ name }) => name),
    sound(name) {
      heard = name;
      speak();
    },
  };
}

const LATE = 1; // seconds after which metadata do not count any more: the player joined after them

/**
 * The captions and metadata of a stream.
 * @param {Hls} hls
 * @param {HTMLVideoElement} video
 * @returns {Required<Pick<Engine, "caption" | "cues" | "metadata">>}
 */
function textsOf(hls, video) {
  const list = new CueList();
  const moments = new Moments(LATE);
  /** @type {CaptionTrack | null} */
  let wanted = null;
  const apply = () => {
    const id = wanted && `/captions/${encodeURIComponent(wanted.id)}/`;
    const at = hls.subtitleTracks.findIndex(({ url }) => id !== null && new URL(url, location.href).pathname.includes(id));
    if (at !== hls.subtitleTrack) hls.subtitleTrack = at;
  };
  // hls.js sets its own choice after this event.
  hls.on(Hls.Events.SUBTITLE_TRACKS_UPDATED, () => queueMicrotask(apply));
  hls.on(Hls.Events.CUES_PARSED, (_, { cues }) => {
    for (const cue of cues) list.add({ ...plain(cue), start: cue.startTime, end: cue.endTime });
  });
  hls.on(Hls.Events.FRAG_PARSING_METADATA, (_, { samples }) => {
    for (const { pts, data } of samples) for (const text of id3Texts(data)) moments.add(pts, text);
  });
  return {
    caption(track) {
      wanted = track;
      list.clear();
      apply();
    },
    cues: () => list.at(video.currentTime),
    metadata: () => moments.due(video.currentTime),
  };
}

/**
 * @param {import("./hls.min.js").LevelDetails} details
 * @param {number} date  ms since 1970
 * @returns {number} the nearest place on the media timeline, seconds
 */
function place({ fragments }, date) {
  const fragment = fragments.findLast(({ programDateTime }) => (programDateTime ?? Infinity) <= date) ?? fragments[0];
  if (!fragment) return 0;
  const into = (date - (fragment.programDateTime ?? date)) / 1000;
  return fragment.start + Math.min(Math.max(0, into), fragment.duration - 0.05);
}

/**
 * @param {HTMLVideoElement} video
 * @param {string} url
 * @param {number} date  ms since 1970
 * @returns {Engine}
 */
function openRewound(video, url, date) {
  const { hls, signal, engine } = load(video, url, { maxLiveSyncPlaybackRate: 1, backBufferLength: 60, maxBufferLength: 30 });
  hls.once(Hls.Events.LEVEL_UPDATED, (_, data) => {
    queueMicrotask(() => { if (!signal.aborted) hls.startLoad(place(data.details, date)); });
  });
  const seek = (/** @type {number} */ wanted) => {
    date = wanted; // also for a player that still opens
    const details = hls.levels[Math.max(0, hls.currentLevel)]?.details;
    if (details) video.currentTime = place(details, wanted);
  };
  // hls.js may have requested the newest segment before the place to begin was known.
  video.addEventListener("loadedmetadata", () => seek(date), { once: true, signal });
  return {
    ...engine,
    delay: () => null,
    toLive() { /* the page opens the live stream instead */ },
    date: () => hls.playingDate?.getTime() ?? null,
    seek,
    times() {
      // After jumps there are several pieces in the buffer.
      const { buffered, currentTime: shown } = video;
      let newest = null;
      for (let i = 0; i < buffered.length; i++) if (buffered.start(i) <= shown + 0.5 && buffered.end(i) >= shown) newest = buffered.end(i);
      return { shown, newest };
    },
  };
}

/**
 * Which quality a level is: a rendition's folder has its name.
 * @param {{url: string[]}} level
 * @param {string} manifest  address of the multivariant playlist
 */
function nameOf({ url: [level = ""] }, manifest) {
  const base = new URL(".", manifest).pathname;
  const path = new URL(level, manifest).pathname;
  const [folder, ...rest] = path.startsWith(base) ? path.slice(base.length).split("/") : [];
  return folder && rest.length && folder !== "video" ? decodeURIComponent(folder) : SOURCE;
}

/**
 * @param {HTMLVideoElement} video
 * @param {string} url
 * @param {() => number} now
 * @param {number | null} from  the date to begin with, ms since 1970; null: now
 * @returns {Engine}
 */
function openNative(video, url, now, from = null) {
  const { outcome, settle } = pending();
  const listening = new AbortController();
  const { signal } = listening;
  video.addEventListener("ended", () => settle("ended"), { signal });
  video.addEventListener("error", () => {
    if (video.error) settle(video.error.code === MediaError.MEDIA_ERR_DECODE ? "codec" : "lost", video.error.message);
  }, { signal });
  const startDate = () => /** @type {{getStartDate?: () => Date}} */ (/** @type {unknown} */ (video)).getStartDate?.().getTime() ?? NaN;
  const seek = (/** @type {number} */ date) => {
    from = date; // also for a player that still opens
    const at = (date - startDate()) / 1000;
    if (Number.isFinite(at)) video.currentTime = Math.max(0, at);
  };
  video.addEventListener("loadedmetadata", () => { if (from !== null) seek(from); }, { signal, once: true });
  video.src = url;
  /** @type {CaptionTrack | null} */
  let wanted = null;
  const seen = new Moments(LATE);
  return {
    outcome,
    caption(track) { wanted = track; },
    cues() {
      // Hidden: the browser reads the track, and the page shows it.
      for (const track of video.textTracks) {
        if (track.kind !== "metadata") track.mode = track.label === wanted?.label && track.language === wanted.language ? "hidden" : "disabled";
      }
      return [...video.textTracks].filter(({ kind, mode }) => kind !== "metadata" && mode === "hidden")
        .flatMap(({ activeCues }) => [...activeCues ?? []].map((cue) => plain(/** @type {VTTCue} */ (cue))));
    },
    metadata() {
      for (const track of video.textTracks) {
        if (track.kind !== "metadata") continue;
        track.mode = "hidden";
        for (const cue of track.activeCues ?? []) {
          const text = /** @type {{value?: {key?: string, data?: unknown}}} */ (/** @type {unknown} */ (cue)).value;
          if (text?.key === "TXXX" && typeof text.data === "string") seen.add(cue.startTime, text.data);
        }
      }
      return seen.due(video.currentTime);
    },
    ...(from !== null && { seek, date: () => startDate() + video.currentTime * 1000 }),
    delay() {
      const start = startDate();
      const behind = (now() - start) / 1000 - video.currentTime;
      if (behind > -1 && behind < 300) return Math.max(0, behind);
      const end = newest(video);
      return end === null ? null : end - video.currentTime;
    },
    toLive() {
      const { seekable } = video;
      if (seekable.length) video.currentTime = Math.max(0, seekable.end(seekable.length - 1) - 1);
    },
    close() {
      if (signal.aborted) return;
      listening.abort();
      empty(video);
    },
  };
}
