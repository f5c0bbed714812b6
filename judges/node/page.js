// The page of players.mjs: start(player, base) plays a channel with its first captions, state() tells how it goes.
"use strict";

const video = document.getElementById("video");
const errors = [];
let stalls = 0;
let playing = false;

video.addEventListener("waiting", () => {
  if (playing) stalls += 1;
});
video.addEventListener("playing", () => {
  playing = true;
});
video.addEventListener("error", () => errors.push(`media ${video.error.code} ${video.error.message}`));

/** The texts of the captions that were shown. */
const captions = new Set();
setInterval(() => {
  for (const track of video.textTracks) for (const cue of track.activeCues ?? []) captions.add(cue.text);
}, 50);

const short = (value) => (JSON.stringify(value) ?? "").slice(0, 300);

const starters = {
  async shaka(address) {
    shaka.polyfill.installAll();
    const player = new shaka.Player();
    await player.attach(video);
    player.addEventListener("error", (event) => {
      if (event.detail.severity === shaka.util.Error.Severity.CRITICAL) {
        errors.push(`shaka ${event.detail.code} ${short(event.detail.data)}`);
      }
    });
    player.configure({ streaming: { lowLatencyMode: true } });
    await player.load(address);
    const [text] = player.getTextTracks();
    if (text) {
      player.selectTextTrack(text);
      player.setTextTrackVisibility?.(true);
    }
    await video.play();
  },
  dashjs(address) {
    const player = dashjs.MediaPlayer().create();
    player.on("error", (event) => errors.push(`dash.js ${short(event.error)}`));
    player.on("allTextTracksAdded", () => player.enableText(true));
    player.initialize(video, address, true);
  },
  hlsjs(address) {
    const player = new Hls({ lowLatencyMode: true });
    player.on(Hls.Events.ERROR, (_name, data) => {
      if (data.fatal) errors.push(`hls.js ${data.type} ${data.details} ${data.error?.message ?? ""}`);
    });
    player.on(Hls.Events.SUBTITLE_TRACKS_UPDATED, () => {
      player.subtitleTrack = 0;
    });
    player.loadSource(address);
    player.attachMedia(video);
    video.play().catch((error) => errors.push(`play ${error.message}`));
  },
  mpegts(address) {
    const player = mpegts.createPlayer({ type: "flv", isLive: true, url: address }, { liveBufferLatencyChasing: true });
    player.on("error", (type, detail, info) => errors.push(`mpegts.js ${type} ${detail} ${short(info)}`));
    player.attachMediaElement(video);
    player.load();
    player.play();
  },
};

const outputs = {
  "shaka-dash": ["shaka", "manifest.mpd"],
  "shaka-hls": ["shaka", "master.m3u8"],
  "shaka-ts": ["shaka", "live.m3u8"],
  dashjs: ["dashjs", "manifest.mpd"],
  hlsjs: ["hlsjs", "master.m3u8"],
  "hlsjs-ts": ["hlsjs", "live.m3u8"],
  "hlsjs-index": ["hlsjs", "index.m3u8"],
  mpegts: ["mpegts", "live.flv"],
  "mpegts-ws": ["mpegts", "live.flv"],
};

window.start = (player, base) => {
  const [library, file] = outputs[player];
  const address = `${player === "mpegts-ws" ? base.replace("http", "ws") : base}/${file}`;
  Promise.resolve(starters[library](address)).catch((error) =>
    errors.push(`load ${error.code ?? ""} ${error.message} ${short(error.data)}`),
  );
};

window.state = () => ({
  time: video.currentTime,
  stalls,
  errors,
  captions: captions.size,
  width: video.videoWidth,
  height: video.videoHeight,
});
