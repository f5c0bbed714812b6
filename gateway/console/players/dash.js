/** One idea: DASH through dash.js, low latency where the manifest offers it. */

import { MediaPlayer } from "./dash.min.js";
import { empty, pending } from "./media.js";
import { start } from "./page.js";
import { neighbour } from "./status.js";

const SETTINGS = {
  debug: { logLevel: 0 },
  streaming: {
    applyServiceDescription: true,
    delay: { useSuggestedPresentationDelay: true },
    liveCatchup: { enabled: true, maxDrift: 4, playbackRate: { min: -0.05, max: 0.1 } },
    gaps: { jumpGaps: true, jumpLargeGaps: true },
    buffer: { bufferToKeep: 30, fastSwitchEnabled: true },
    utcSynchronization: { enabled: true, useManifestDateHeaderTimeSource: true },
    retryAttempts: { MPD: 0 }, // the page itself asks the status first
  },
};

const CODEC_ERRORS = /MANIFEST_ERROR_ID_NOSTREAMS|MEDIASOURCE_TYPE_UNSUPPORTED|MANIFEST_ERROR_ID_MULTIPLEXED|MEDIA_ERR_SRC_NOT_SUPPORTED/;

start({
  label: "DASH",
  output: "cmaf",
  media: "manifest.mpd",
  unsupported: "MediaSource" in globalThis || "ManagedMediaSource" in globalThis ? null
    : "DASH needs Media Source Extensions, which are missing here. The HLS player above does without.",

  open(video, url) {
    const { outcome, settle } = pending();
    const player = MediaPlayer().create();
    player.updateSettings(SETTINGS);
    // The manifest names its clock (UTCTiming). Without one, this page's own server is asked, never a stranger's.
    player.clearDefaultUTCTimingSources();
    player.addUTCTimingSource("urn:mpeg:dash:utc:http-head:2014", neighbour("status.json"));
    const on = (/** @type {string} */ event, /** @type {(e: any) => void} */ run) => player.on(event, run, null);
    on(MediaPlayer.events.ERROR, ({ error }) => {
      const status = error?.data?.response?.status;
      const words = String(error?.message ?? error?.code ?? error);
      if (status === 401 || status === 403) settle("denied");
      else settle(CODEC_ERRORS.test(words) || error?.code === MediaPlayer.errors.MANIFEST_ERROR_ID_NOSTREAMS_CODE ? "codec" : "lost", words);
    });
    on(MediaPlayer.events.PLAYBACK_ENDED, ({ isLast }) => { if (isLast !== false) settle("ended"); });
    player.initialize(video, url, true);
    let open = true;
    return {
      outcome,
      delay() {
        const seconds = player.isReady() ? player.getCurrentLiveLatency() : NaN;
        return Number.isFinite(seconds) && seconds > 0 ? seconds : null;
      },
      toLive() { if (player.isReady() && player.isDynamic()) player.seekToOriginalLive(); },
      close() {
        if (!open) return;
        open = false;
        // dash.js 5.2.1 leaves rate changes waiting for "canplay" on the element, and they throw once it is destroyed:
        // the element goes on to the next player, so they are let run now, while this one is whole.
        video.dispatchEvent(new Event("canplay"));
        player.destroy();
        empty(video);
      },
    };
  },
});
