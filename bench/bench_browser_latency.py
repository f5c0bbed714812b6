"""How old a picture of a browser's camera is when an HTTP-FLV viewer has it, and when a player page shows it.

    .venv/bin/python -m bench.bench_browser_latency [seconds] [--size 720p] [--way frames,container]
    .venv/bin/python -m bench.bench_browser_latency [seconds] --way instant,instant-sound,flv,hls

Chromium broadcasts a canvas instead of a camera: each picture carries the time at which it was drawn as a bar code. A
viewer on loopback notes when the last byte of each picture came, decodes it afterwards and reads the code. Prints the
median and the 95th percentile for both ways of sending, and how far the sound is from the picture: the canvas flashes
and the microphone beeps in the same moment, once a second.

The ways `instant`, `instant-sound`, `flv` and `hls` measure glass to glass: ffmpeg pushes pictures with such a code,
720p30 in x264's zerolatency, and Chromium tells when it presents each picture of the page. `instant` is muted, as at a
first visit.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import shutil
import statistics
import threading
import time
import urllib.request
from array import array
from collections.abc import Iterator
from typing import Any

import av
from playwright.async_api import async_playwright

from bench.harness.picture_clock import BITS, PictureClock, ages
from gateway.formats.flv.demuxer import MediaDemuxer
from gateway.formats.flv.tag import AUDIO, VIDEO
from gateway.media.track import AccessUnit, Kind, MediaTrack
from tests.support.browser import chromium, opened
from tests.support.flv_reader import FlvReader
from tests.support.gateway import Channel, running

WANTED = {"frames": 400, "container": 1500, "instant": 200, "instant-sound": 200, "flv": 900, "hls": 1700}  # ms, median
PAGES = {"instant": "instant.html", "instant-sound": "instant.html", "flv": "flv.html", "hls": "hls.html"}
WARM = 5.0  # seconds that are not measured: encoders begin, the viewer gets what it missed at once

# Bits from left to right over the upper half, each as wide as the picture allows; their complement in the lower half.
_SOURCE = """
navigator.mediaDevices.getUserMedia = async (wish) => {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [wish.video?.width?.ideal ?? 1280, wish.video?.height?.ideal ?? 720];
  const draw = canvas.getContext("2d", { alpha: false });
  const audio = new AudioContext({ sampleRate: 48000 });
  await audio.resume();
  const out = audio.createMediaStreamDestination();
  const beep = new OscillatorNode(audio, { frequency: 1000 });
  const gate = new GainNode(audio, { gain: 0 });
  beep.connect(gate).connect(out);
  beep.start();
  const video = canvas.captureStream(30);
  let second = 0;
  const paint = () => {
    const now = performance.timeOrigin + performance.now();
    const on = now % 1000 < 100;
    if (Math.floor(now / 1000) !== second) {
      second = Math.floor(now / 1000);
      gate.gain.setValueAtTime(1, audio.currentTime);
      gate.gain.setValueAtTime(0, audio.currentTime + 0.1);
    }
    const width = canvas.width / (BITS + 2);
    const stamp = BigInt(Math.round(now));
    draw.fillStyle = on ? "#fff" : "#000";
    draw.fillRect(0, 0, canvas.width, canvas.height);
    for (let i = 0; i < BITS; i++) {
      const bit = (stamp >> BigInt(BITS - 1 - i)) & 1n;
      for (const half of [0, 1]) {
        draw.fillStyle = (bit === 1n) === (half === 0) ? "#fff" : "#000";
        draw.fillRect((i + 1) * width, canvas.height * (0.2 + half * 0.3), width + 1, canvas.height * 0.3);
      }
    }
  };
  paint();
  setInterval(paint, 1000 / 30);
  const tracks = [...(wish.video ? video.getVideoTracks() : []), ...(wish.audio ? out.stream.getAudioTracks() : [])];
  return new MediaStream(tracks);
};
""".replace("BITS", str(BITS))


class Viewer(threading.Thread):
    """An HTTP-FLV viewer; `units` with the wall time at which each was complete."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self.units: list[tuple[float, AccessUnit]] = []
        self._url = url
        self._done = threading.Event()

    def run(self) -> None:
        reader, demuxer = FlvReader(), MediaDemuxer()
        with urllib.request.urlopen(self._url, timeout=30) as reply:
            while not self._done.is_set() and (data := reply.read1(65536)):
                now = time.time()
                for tag in reader.receive(data):
                    if tag.type_id in (AUDIO, VIDEO):
                        take = demuxer.read_video if tag.type_id == VIDEO else demuxer.read_audio
                        said = take(tag.timestamp, tag.payload)
                        if isinstance(said, AccessUnit):
                            self.units.append((now, said))

    def stop(self) -> None:
        self._done.set()


def stamp(picture: av.VideoFrame) -> int | None:
    """The time in a picture's bar code, milliseconds; None where it is not readable."""
    plane = picture.planes[0]
    luma, stride = memoryview(plane), plane.line_size  # the first plane of YUV is the brightness
    step, value = picture.width / (BITS + 2), 0
    upper, lower = stride * int(picture.height * 0.35), stride * int(picture.height * 0.65)
    for i in range(BITS):
        x = int((i + 1.5) * step)
        difference = luma[upper + x] - luma[lower + x]
        if abs(difference) < 60:
            return None
        value = value << 1 | int(difference > 0)
    return value


def decoder(track: MediaTrack) -> Any:
    """A decoder that gives each picture or sound with the packet that it came in."""
    context: Any = av.CodecContext.create("h264" if track.kind is Kind.VIDEO else "aac", "r")
    context.extradata = track.config
    if track.kind is Kind.VIDEO:
        context.thread_count = 1  # several threads hold pictures back
        context.flags |= 0x80000  # AV_CODEC_FLAG_LOW_DELAY
    return context


def decoded(units: list[tuple[float, AccessUnit]], kind: Kind) -> Iterator[tuple[float, int, Any]]:
    """(when it came, its time in milliseconds, the frame) of every picture or sound."""
    context: Any = None
    track: MediaTrack | None = None
    for came, unit in units:
        if unit.track.kind is not kind:
            continue
        if unit.track is not track:
            if kind is Kind.VIDEO and not unit.key:
                continue
            track = unit.track
            context = decoder(track)
        packet = av.Packet(unit.payload)
        packet.pts = packet.dts = unit.dts + unit.cts
        for frame in context.decode(packet):
            yield came, unit.dts + unit.cts, frame


def percentile(values: list[float], share: float) -> int:
    return round(sorted(values)[min(len(values) - 1, int(len(values) * share))])


def judge(viewer: Viewer, since: float) -> dict[str, Any]:
    """Ages of pictures in milliseconds; how much later than its picture the sound is presented."""
    ages: list[float] = []
    offsets: list[float] = []  # of the presentation time from the time of drawing
    unreadable = 0
    for came, pts, picture in decoded(viewer.units, Kind.VIDEO):
        drawn = stamp(picture)
        if drawn is None:
            unreadable += 1
        elif came > since:
            ages.append(came * 1000 - drawn)
            offsets.append(pts - drawn)
    if not ages:
        return {"error": f"no picture with a readable code, {unreadable} without"}
    offset = statistics.median(offsets)
    beeps = [onset - offset for onset in onsets(viewer.units)]
    leads = [(beep + 500) % 1000 - 500 for beep in beeps]
    return {
        "pictures": len(ages),
        "unreadable": unreadable,
        "age ms, median": percentile(ages, 0.5),
        "age ms, 95 of 100": percentile(ages, 0.95),
        "age ms, most": percentile(ages, 1),
        "pictures a second": round(len(ages) / max(0.001, viewer.units[-1][0] - since), 1),
        "sound after picture ms, median": round(statistics.median(leads)) if leads else None,
    }


def onsets(units: list[tuple[float, AccessUnit]]) -> Iterator[float]:
    """Presentation times at which a beep begins, milliseconds."""
    quiet = 0.0
    for _, pts, frame in decoded(units, Kind.AUDIO):
        samples = array("f", bytes(frame.planes[0]))
        for at, sample in enumerate(samples[: frame.samples]):
            if abs(sample) < 0.1:
                quiet += 1
            elif quiet > frame.sample_rate * 0.3:
                quiet = 0
                yield pts + at * 1000 / frame.sample_rate
            else:
                quiet = 0


async def measure(channel: Channel, way: str, size: str, seconds: float) -> dict[str, Any]:
    """One broadcast of `seconds`, watched from its begin."""
    ports = channel.gateway.ports
    async with async_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-gpu", "--autoplay-policy=no-user-gesture-required"]
        browser = await playwright.chromium.launch(executable_path=shutil.which("chromium"), args=flags)
        context = await browser.new_context(viewport={"width": 1280, "height": 900})
        await context.add_init_script(_SOURCE)
        page = await context.new_page()
        await page.goto(f"http://127.0.0.1:{ports['http']}/broadcast.html#{channel.obs_key}")
        await page.locator("#size").select_option(size)
        await page.locator("#advanced-card summary").click()
        await page.locator("#way").select_option(way)
        await page.get_by_role("button", name="Go live").click()
        await page.locator("#state", has_text=re.compile("^Live$")).wait_for()
        viewer = Viewer(channel.url("live.flv"))
        viewer.start()
        await asyncio.sleep(WARM)
        since = time.time()
        await asyncio.sleep(seconds)
        viewer.stop()
        sent = {name: await page.locator(f"#{name}").inner_text() for name in ("sent", "rate", "dropped")}
        await page.get_by_role("button", name="Stop").click()
        await page.locator("#state", has_text="Not live").wait_for()
        await browser.close()
    viewer.join(10)
    return {"way": way, "size": size, "wanted, median": WANTED[way], **judge(viewer, since), **sent}


async def measure_page(channel: Channel, way: str, seconds: float) -> dict[str, Any]:
    """One player page for `seconds`, while ffmpeg pushes pictures with the time."""
    with PictureClock(channel.push):
        channel.wait_live()
        async with (
            chromium("--autoplay-policy=no-user-gesture-required") as browser,
            opened(browser, channel.url(PAGES[way])) as watched,
        ):
            await watched.comes_to_say("Live")
            if way.endswith("sound"):
                await watched.page.get_by_role("button", name="Sound is off").click()
            found = await ages(watched.page, seconds, WARM)
            dropped = await watched.page.locator("#dropped").inner_text()
    ms = {f"age ms, {share:.0%}": percentile(found, share) for share in (0.05, 0.5, 0.95, 1) if found}
    return {"way": way, "wanted, median": WANTED[way], "pictures": len(found), **ms, "dropped": dropped}


async def main(seconds: float, size: str, ways: list[str]) -> None:
    with running() as gateway:
        for way in ways:
            channel = gateway.channel(way, isHls=False, isCMAF=way == "hls")
            measured = measure_page(channel, way, seconds) if way in PAGES else measure(channel, way, size, seconds)
            print(json.dumps(await measured, indent=2), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("seconds", nargs="?", type=float, default=20)
    parser.add_argument("--size", default="720p")
    parser.add_argument("--way", default="frames,container")
    options = parser.parse_args()
    asyncio.run(main(options.seconds, options.size, options.way.split(",")))
