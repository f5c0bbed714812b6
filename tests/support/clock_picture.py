"""A live push whose pictures show the time as bars, and the delay of a page that plays it."""

from __future__ import annotations

import statistics
import time
from typing import Final

from playwright.async_api import Page

from tests.support.clients import Program

BITS: Final = 13
TICK: Final = 0.02  # seconds; the bars repeat after 164 s
# The bits of the time, the lowest first, as black or white squares in a row at the bottom.
READ: Final = """(bits) => { const v = document.querySelector("video");
  window.paper ??= new OffscreenCanvas(160, 90).getContext("2d", { willReadFrequently: true });
  window.paper.drawImage(v, 0, 0, 160, 90);
  const row = window.paper.getImageData(0, 83, 160, 1).data;
  let ticks = 0;
  for (let bit = 0; bit < bits; bit++) if (row[(bit * 10 + 5) * 4] > 128) ticks += 2 ** bit;
  const text = (id) => document.querySelector(id)?.textContent ?? "";
  return { ticks, now: Date.now() / 1000, shown: parseFloat(text("#delay")), width: v.videoWidth,
    state: document.querySelector("#stage").dataset.state, quality: text("#quality option:checked"),
    badge: text("#badge"), headline: text("#headline"), notice: text("#notice:not([hidden])") }; }"""


def clock_push(url: str, *, size: str = "320x180", kbps: int = 400, gop: int = 50, sound: bool = True) -> Program:
    """Pushes 25 pictures a second, with sound. A `with` block stops it."""
    bars = ",".join(
        f"drawbox=x=iw*{bit}/16:y=ih*5/6:w=iw/16:h=ih/6:t=fill:color=white:"
        f"enable='gte(mod(time(0)/{TICK}/{2**bit}\\,2)\\,1)'"
        for bit in range(BITS)
    )
    video = f"testsrc2=size={size}:rate=25,drawbox=y=ih*5/6:w=iw:h=ih/6:t=fill:color=black,realtime,{bars}"
    rate = [f"{option} {kbps}k" for option in ("-b:v", "-maxrate", "-minrate")]
    return Program(
        [
            # Dates in playlists begin with the first picture, so a busy machine must not delay it.
            *("nice", "-n", "-10", "ffmpeg", "-nostdin", "-v", "error", "-f", "lavfi", "-i", video),
            *(("-f", "lavfi", "-i", "sine=frequency=330:sample_rate=48000,arealtime") if sound else ()),
            *("-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-pix_fmt", "yuv420p"),
            *("-g", str(gop), "-x264-params", "nal-hrd=cbr:scenecut=0", *" ".join(rate).split()),
            *("-bufsize", f"{kbps // 2}k", "-c:a", "aac", "-b:a", "64k", "-f", "flv", url),
        ]
    )


class Sample:
    """What a page showed at one moment. true: age of its picture, seconds. shown: its delay; None: none."""

    def __init__(self, read: dict[str, object]) -> None:
        self.at = time.monotonic()
        ticks, now, shown = (float(str(read[name])) for name in ("ticks", "now", "shown"))
        self.ticks = ticks
        self.true = (now / TICK - ticks) % 2**BITS * TICK
        self.shown = shown if shown == shown else None  # NaN: no number
        self.state, self.quality = str(read["state"]), str(read["quality"])
        self.width, self.notice, self.badge = int(str(read["width"])), str(read["notice"]), str(read["badge"])
        self.headline = str(read["headline"])

    def __repr__(self) -> str:
        return f"{self.true:.2f}/{self.shown} {self.state} {self.quality} {self.width} {self.headline} {self.notice}"


async def sampled(page: Page, seconds: float, every: float = 0.25) -> list[Sample]:
    """Reads the page again and again."""
    samples, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        samples.append(Sample(await page.evaluate(READ, BITS)))
        await page.wait_for_timeout(every * 1000)
    return samples


def difference(samples: list[Sample]) -> float:
    """The median of the true minus the shown delay, of the moments at which the page said Live with a delay."""
    return statistics.median(s.true - s.shown for s in samples if s.state == "live" and s.shown is not None)


def longest_still(samples: list[Sample]) -> float:
    """The longest time for which the page said Live over one and the same picture."""
    longest, since = 0.0, samples[0]
    for sample in samples:
        if sample.state != "live" or sample.ticks != since.ticks:
            since = sample
        longest = max(longest, sample.at - since.at)
    return longest


def stalls(samples: list[Sample]) -> int:
    """How often the picture stood still for at least 0.5 s after it had moved."""
    samples = samples[next((n for n, sample in enumerate(samples) if sample.state == "live"), len(samples) - 1) :]
    count, since, counted = 0, samples[0], False
    for sample in samples:
        if sample.ticks != since.ticks:
            since, counted = sample, False
        elif sample.at - since.at >= 0.5 and not counted:
            count, counted = count + 1, True
    return count
