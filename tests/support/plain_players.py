"""hls.js and dash.js on an otherwise empty page of the gateway's origin. `window.player` controls either."""

from tests.support.browser import Watched

# errors: errors that end playback. holes: the times at which the player skipped a hole. `choose` changes with the next
# segment that is loaded, as hls.js does by itself: nextLevel removes the end of a segment too. On a busy machine it
# stayed a hole, because the next one was on its way.
HLS = """async (url) => {
  const { default: Hls } = await import("/_player/hls.min.js");
  const video = document.querySelector("video");
  const hls = new Hls({ workerPath: "/_player/hls.worker.js", lowLatencyMode: true });
  const errors = [], holes = [];
  hls.on(Hls.Events.ERROR, (_, d) => {
    if (d.fatal) errors.push(d.details);
    if (d.details === "bufferSeekOverHole") holes.push(video.currentTime);
  });
  window.player = { errors, holes, widths: () => hls.levels.map((l) => l.width),
    choose: (width) => { hls.loadLevel = hls.levels.findIndex((l) => l.width === width); },
    free: () => { hls.loadLevel = -1; },
    languages: () => hls.audioTracks.map((a) => [a.lang, a.name]),
    speak: (language) => { hls.audioTrack = hls.audioTracks.findIndex((a) => a.lang === language); } };
  hls.attachMedia(video);
  hls.loadSource(url);
}"""
DASH = """async (url) => {
  const { MediaPlayer } = await import("/_player/dash.min.js");
  const video = document.querySelector("video");
  const dash = MediaPlayer().create();
  dash.updateSettings({ debug: { logLevel: 0 }, streaming: { abr: { autoSwitchBitrate: { video: false } },
    delay: { useSuggestedPresentationDelay: true }, buffer: { fastSwitchEnabled: true },
    trackSwitchMode: { audio: "alwaysReplace" } } });
  const errors = [];
  dash.on(MediaPlayer.events.ERROR, ({ error }) => errors.push(`${error?.code} ${error?.message}`));
  const all = () => dash.getRepresentationsByType("video");
  const sounds = () => dash.getTracksFor("audio");
  window.player = { errors, holes: [], widths: () => all().map((r) => r.width),
    choose: (width) => dash.setRepresentationForTypeByIndex("video", all().findIndex((r) => r.width === width)),
    free: () => dash.updateSettings({ streaming: { abr: { autoSwitchBitrate: { video: true } } } }),
    languages: () => sounds().map((a) => [a.lang, a.labels[0]?.text]),
    speak: (language) => dash.setCurrentTrack(sounds().find((a) => a.lang === language)) };
  dash.initialize(video, url, true);
}"""


async def start(watched: Watched, script: str, url: str) -> None:
    """Adds a muted video to the page and starts the player `script`."""
    await watched.page.evaluate("() => { document.body.innerHTML = '<video muted autoplay playsinline></video>'; }")
    await watched.page.evaluate(script, url)
