"""A publisher that drops again and again: what relays, recordings and players notice of it.

    [BENCH_SRS=...] python -m bench.bench_inputs [--drops 200] [--push 4] [--slate 2.5] [--pages flv,hls,dash]
                                                      [--players vlc,ffplay,gstreamer]

A channel with a push and a slate is relayed to nginx-rtmp, and to SRS where BENCH_SRS names its executable. It is
recorded and watched. Each round pushes a film for `--push` seconds after it is on air, kills the encoder, and leaves
the slate on air for `--slate` seconds.

switch: from the arrival of the last picture of one input at an HTTP-FLV viewer to that of the first of the next one.
sync: how differently sound and picture of the film are moved, in each push. relay: connections that the target saw.
pages: milliseconds for which the picture stood, at all and at the longest, and how often its source changed.
players: VLC and GStreamer play HLS, ffplay plays RTMP. seconds: how long each was watched. shown: seconds of pictures
that GStreamer decoded, by its own times; seconds by which the clock of ffplay moved. late_ms: picture against sound in
ffplay. srs: segments that SRS made of its one push, and their seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import re
import statistics
import string
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.formats.flv.tag import TrackStart
from gateway.media.track import AccessUnit, Kind, MediaTrack
from tests.support.browser import chromium
from tests.support.clients import Program, checksums, ffplay, gst_play_hls, probe, push, until, vlc
from tests.support.flv_reader import FlvFileDemuxer
from tests.support.gateway import Channel, running
from tests.support.haproxy import free_ports
from tests.support.media import Film
from tests.support.nginx_rtmp import is_listening, nginx_rtmp

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


@contextlib.contextmanager
def srs() -> Iterator[tuple[str, Path]]:
    """SRS on free ports. Yields the RTMP address of a stream and the folder of its HLS segments."""
    with tempfile.TemporaryDirectory(prefix="millrace-srs-") as name:
        rtmp, http = free_ports(2, "127.0.0.1")
        template = string.Template((Path(__file__).parent / "peers" / "srs.conf").read_text())
        hls = f"hls {{ enabled on; hls_path {name}; hls_fragment 2; hls_window 86400; hls_dispose 0; }}"
        conf = Path(name) / "srs.conf"
        conf.write_text(template.substitute(rtmp=rtmp, http=http, connections=100, merge="", packaging=hls))
        with Program([os.environ["BENCH_SRS"], "-c", str(conf)], cwd=Path(name)) as server:
            until(lambda: server.running and is_listening(rtmp), "SRS listens")
            yield f"rtmp://127.0.0.1:{rtmp}/live/bench", Path(name)


def of_srs(folder: Path) -> dict[str, Any]:
    """What SRS made of the relay."""
    text = max((path.read_text() for path in folder.rglob("*.m3u8")), key=len)
    lengths = [float(found) for found in re.findall(r"#EXTINF:([0-9.]+)", text)]
    return {"segments": len(lengths), "seconds": round(sum(lengths), 1), "longest_s": max(lengths),
            "discontinuities": text.count("#EXT-X-DISCONTINUITY\n")}  # fmt: skip


def of_player(name: str, program: Program, seconds: float) -> dict[str, Any]:
    """What a player shows after it was watched for `seconds`."""
    found: dict[str, Any] = {"running": program.running, "seconds": round(seconds, 1)}
    if name == "gstreamer":
        times = [frame.time for frame in checksums(program.output)]
        found |= {"pictures": len(times), "shown": round(times[-1] - times[0], 1), "errors": program.errors[-300:]}
    elif name == "ffplay":
        lines = re.findall(r"([0-9.]+) A-V: *(-?[0-9.]+)", program.errors)
        late = sorted(abs(float(offset)) * 1000 for _, offset in lines)
        other = [line for line in re.split(r"[\r\n]+", program.errors) if line.strip() and "A-V:" not in line]
        found |= {"shown": round(float(lines[-1][0]) - float(lines[0][0]), 1), "errors": [len(other), *other[-3:]],
                  "late_ms": {"p50": late[len(late) // 2], "p99": late[int(len(late) * 0.99)]}}  # fmt: skip
    else:
        found["errors"] = program.errors[-300:]
    return found


def measure(drops: int, on_air: float, slate: float, pages: list[str], players: list[str]) -> dict[str, Any]:
    source = Source.of(FILM)
    result: dict[str, Any] = {}
    with contextlib.ExitStack() as stack:
        nginx = stack.enter_context(nginx_rtmp())
        gateway = stack.enter_context(running(MILLRACE_EGRESS__ALLOW="127.0.0.0/8"))
        targets = [nginx.url("bench", "keep")]
        folder = None
        if os.environ.get("BENCH_SRS"):
            url, folder = stack.enter_context(srs())
            targets.append(url)
        channel = gateway.channel(isVideo=True, video_time="86400", isRelay=True, relayURL=targets)
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
        time.sleep(_SETTLE)  # GStreamer waits for ever where it meets a playlist of one segment
        opened: dict[str, Program] = {}
        for name in players:
            if name == "vlc":
                opened[name] = stack.enter_context(vlc(channel.url("live.m3u8")))[0]
            else:
                player = (
                    ffplay(channel.rtmp) if name == "ffplay" else gst_play_hls(channel.url("live.m3u8"), paced=True)
                )
                opened[name] = stack.enter_context(player)
        begun = time.monotonic()
        time.sleep(4)
        rounds(channel, drops, on_air, slate)
        watched = time.monotonic() - begun
        result["players"] = {name: of_player(name, program, watched) for name, program in opened.items()}
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
        if folder is not None:
            result["srs"] = of_srs(folder)
        files = sorted(gateway.data.rglob("*.mp4"))
        result["recordings"] = [round(float(probe(path)["video"]["duration"]), 2) for path in files[:3]], len(files)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--drops", type=int, default=200)
    parser.add_argument("--push", type=float, default=4, help="seconds on air")
    parser.add_argument("--slate", type=float, default=2.5, help="seconds of the slate")
    parser.add_argument("--pages", default="flv,hls,dash", help="player pages in Chromium; empty: none")
    parser.add_argument("--players", default="", help="of vlc, ffplay, gstreamer; empty: none")
    arguments = parser.parse_args()
    pages, players = ([name for name in text.split(",") if name] for text in (arguments.pages, arguments.players))
    if unknown := set(players) - {"vlc", "ffplay", "gstreamer"}:
        parser.error(f"no such player: {', '.join(sorted(unknown))}")
    result = measure(arguments.drops, arguments.push, arguments.slate, pages, players)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
