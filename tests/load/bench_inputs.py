"""A publisher that drops again and again: what relays, recordings and players notice of it.

    python -m tests.load.bench_inputs [--drops 200] [--push 4] [--slate 2.5] [--pages flv,hls,dash] [--vlc]

A channel with a push and a slate is relayed to nginx-rtmp, recorded and watched. Each round pushes a film for `--push`
seconds after it is on air, kills the encoder, and leaves the slate on air for `--slate` seconds.

switch: from the arrival of the last picture of one input at an HTTP-FLV viewer to that of the first of the next one.
sync: how differently sound and picture of the film are moved, in each push. relay: connections that the target saw.
pages: milliseconds for which the picture stood, at all and at the longest, and how often its source changed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import statistics
import threading
import time
import urllib.request
from dataclasses import dataclass, field
from typing import Any

from gateway.formats.flv.tag import TrackStart
from gateway.media.track import Kind, MediaTrack
from gateway.media.unit import AccessUnit
from tests.support.browser import chromium
from tests.support.clients import probe, push, until, vlc
from tests.support.flv_reader import FlvFileDemuxer
from tests.support.gateway import Channel, running
from tests.support.media import Film
from tests.support.nginx_rtmp import nginx_rtmp

FILM = Film("bench-inputs", seconds=600)
_SETTLE = 8.0  # seconds until the players play
_PAGE = """() => {
  let last = -1, since = performance.now(), source = null;
  window.begin = () => { window.seen = { stood: 0, longest: 0, loads: 0, errors: [] }; };
  begin();
  addEventListener("error", (event) => seen.errors.push(String(event.message)));
  setInterval(() => {
    const video = document.querySelector("video"), now = performance.now();
    if (!video) return;
    if (video.src !== source) { seen.loads += 1; source = video.src; }
    if (video.currentTime !== last) { last = video.currentTime; since = now; return; }
    seen.longest = Math.max(seen.longest, now - since);
    seen.stood += 50;
  }, 50);
}"""


@dataclass
class Viewer:
    """An HTTP-FLV viewer. Each picture and sound: arrival in monotonic seconds, time in ms, payload."""

    pictures: list[tuple[float, int, bytes]] = field(default_factory=list)
    sounds: list[tuple[float, int, bytes]] = field(default_factory=list)
    tracks: int = 0
    ended: bool = False

    def run(self, url: str, stop: threading.Event) -> None:
        reader = FlvFileDemuxer()
        with urllib.request.urlopen(url, timeout=30) as reply:
            while not stop.is_set() and (data := reply.read1(65536)):
                now = time.monotonic()
                for event in reader.receive(data):
                    unit = event.unit if isinstance(event, TrackStart) else event
                    if isinstance(unit, AccessUnit):
                        kept = self.pictures if unit.track.kind is Kind.VIDEO else self.sounds
                        kept.append((now, unit.dts, unit.payload))
                    elif isinstance(event, MediaTrack):
                        self.tracks += 1
        self.ended = not stop.is_set()


@dataclass(frozen=True)
class Source:
    """The film's own pictures and sounds: time in ms by payload."""

    pictures: dict[bytes, int]
    sounds: dict[bytes, int]

    @classmethod
    def of(cls, film: Film) -> Source:
        viewer = FlvFileDemuxer()
        pictures: dict[bytes, int] = {}
        sounds: dict[bytes, int] = {}
        for event in viewer.receive(film.path().read_bytes()):
            unit = event.unit if isinstance(event, TrackStart) else event
            if isinstance(unit, AccessUnit):
                (pictures if unit.track.kind is Kind.VIDEO else sounds).setdefault(unit.payload, unit.dts)
        return cls(pictures, sounds)


def switches(viewer: Viewer, source: Source) -> list[float]:
    """Seconds from the last picture of one input to the first of the next one."""
    found = []
    for (before, _, one), (after, _, other) in itertools.pairwise(viewer.pictures):
        if (one in source.pictures) != (other in source.pictures):
            found.append(after - before)
    return found


def offsets(viewer: Viewer, source: Source) -> list[float]:
    """Milliseconds by which sound and picture of each push are moved differently."""
    pictures = [(at, dts - source.pictures[p]) for at, dts, p in viewer.pictures if p in source.pictures]
    moved = dict.fromkeys(shift for _, shift in pictures)
    found = []
    for shift in moved:
        times = [at for at, one in pictures if one == shift]
        if len(times) < 20:
            continue
        begin, end = times[0] + 0.5, times[-1]
        sounds = [dts - source.sounds[p] for at, dts, p in viewer.sounds if begin < at < end and p in source.sounds]
        if sounds:
            found.append(statistics.median(sounds) - shift)
    return found


def state_of(channel: Channel) -> str:
    return str(channel.session()["input"])


def rounds(channel: Channel, drops: int, on_air: float, slate: float) -> None:
    """Pushes and drops. Prints one line for every tenth drop."""
    begun = time.monotonic()
    for number in range(drops):
        with push(FILM, channel.push) as encoder:
            until(lambda: state_of(channel) == "main", "the push is on air", 30)
            time.sleep(on_air)
            encoder.kill()
        until(lambda: state_of(channel) == "slate", "the slate is on air", 5)
        time.sleep(slate)
        if number % 10 == 9:
            print(f"{number + 1} drops, {time.monotonic() - begun:.0f} s", flush=True)


async def watch(channel: Channel, pages: list[str], stop: threading.Event, result: dict[str, Any]) -> None:
    """Plays the pages until `stop`."""
    async with contextlib.AsyncExitStack() as stack:
        browser = await stack.enter_async_context(chromium("--autoplay-policy=no-user-gesture-required"))
        opened = {}
        for name in pages:
            page = opened[name] = await browser.new_page()
            await page.add_init_script(f"({_PAGE})()")
            await page.goto(channel.url(f"{name}.html"))
        await asyncio.sleep(_SETTLE)
        for page in opened.values():
            await page.evaluate("begin()")
        await asyncio.to_thread(stop.wait)
        for name, page in opened.items():
            result[name] = await page.evaluate(
                "() => ({...window.seen, says: document.querySelector('#state')?.innerText ?? ''})"
            )


def measure(drops: int, on_air: float, slate: float, pages: list[str], with_vlc: bool) -> dict[str, Any]:
    source = Source.of(FILM)
    result: dict[str, Any] = {}
    with contextlib.ExitStack() as stack:
        nginx = stack.enter_context(nginx_rtmp())
        gateway = stack.enter_context(running(MILLRACE_INPUTS__STEADY="1", MILLRACE_EGRESS__ALLOW="127.0.0.0/8"))
        channel = gateway.channel(isVideo=True, video_time="86400", isRelay=True, relayURL=[nginx.url("bench", "keep")])
        inputs = [{"name": "main", "kind": "push"}, {"name": "slate", "kind": "slate", "always": True}]
        assert gateway.api("PUT", f"/videostream/{channel.id}/inputs", inputs).status == 200
        channel.wait_live(30)
        with push(FILM, channel.push):
            until(lambda: state_of(channel) == "main", "the push is on air", 30)
            time.sleep(5)  # the slate is encoded anew, with the parameters of this push
        until(lambda: state_of(channel) == "slate", "the slate is on air", 5)
        stop, viewer, seen = threading.Event(), Viewer(), dict[str, Any]()
        threads = [threading.Thread(target=viewer.run, args=(channel.url("live.flv"), stop), daemon=True)]
        if pages:
            watching = watch(channel, pages, stop, seen)
            threads.append(threading.Thread(target=asyncio.run, args=(watching,), daemon=True))
        for thread in threads:
            thread.start()
        player = stack.enter_context(vlc(channel.url("live.m3u8"))) if with_vlc else None
        time.sleep(_SETTLE + 4)
        rounds(channel, drops, on_air, slate)
        if player is not None:
            result["vlc"] = {"running": player[0].running, "errors": player[0].errors[-300:]}
        stop.set()
        for thread in threads:
            thread.join(30)
        measured = sorted(switches(viewer, source))
        steps = [b - a for (_, a, _), (_, b, _) in itertools.pairwise(viewer.pictures)]
        sound_steps = [b - a for (_, a, _), (_, b, _) in itertools.pairwise(viewer.sounds)]
        moved = [abs(offset) for offset in offsets(viewer, source)]
        result |= {
            "switches": len(measured),
            "switch_s": {
                "p50": measured[len(measured) // 2], "p99": measured[int(len(measured) * 0.99)], "max": measured[-1]
            },
            "sync_ms": {"max": max(moved), "pushes": len(moved)},
            "viewer": {"ended": viewer.ended, "announced": viewer.tracks, "longest_ms": max(steps), "back": min(steps),
                       "sound_longest_ms": max(sound_steps), "sound_back": min(sound_steps)},
            "pages": seen,
            "session": [o for o in channel.session()["outputs"] if o["name"] in ("relay", "video")],
        }  # fmt: skip
        gateway.stop()
        result["relay_connections"] = len(nginx.kept("bench"))
        files = sorted(gateway.data.rglob("*.mp4"))
        result["recordings"] = [round(float(probe(path)["video"]["duration"]), 2) for path in files[:3]], len(files)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--drops", type=int, default=200)
    parser.add_argument("--push", type=float, default=4, help="seconds on air")
    parser.add_argument("--slate", type=float, default=2.5, help="seconds of the slate")
    parser.add_argument("--pages", default="flv,hls,dash", help="player pages in Chromium; empty: none")
    parser.add_argument("--vlc", action="store_true", help="play HLS in VLC too")
    arguments = parser.parse_args()
    pages = [name for name in arguments.pages.split(",") if name]
    result = measure(arguments.drops, arguments.push, arguments.slate, pages, arguments.vlc)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
