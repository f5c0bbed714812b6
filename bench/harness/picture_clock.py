"""A source whose pictures carry the time at which they were made, and a sampler that reads it from a page's video.

The time is a bar code: milliseconds since 1970, its bits from left to right over the upper half of the picture, and
their complement in the lower half.
"""

from __future__ import annotations

import subprocess
import threading
import time
from typing import Any

from playwright.async_api import Page

BITS = 44  # of the time, milliseconds since 1970
MARGIN = 1  # bars at each side, so that no bit touches the edge

# Reads each picture when the browser presents it. `expectedDisplayTime` is when the screen shows it.
SAMPLER = (
    """() => {
  const video = document.querySelector("video");
  const paper = new OffscreenCanvas(BARS * 4, 8).getContext("2d", { willReadFrequently: true, alpha: false });
  window.ages = [];
  const look = (_, { expectedDisplayTime }) => {
    video.requestVideoFrameCallback(look);
    paper.drawImage(video, 0, 0, BARS * 4, 8);
    const { data } = paper.getImageData(0, 0, BARS * 4, 8);
    let stamp = 0n;
    for (let bit = 0; bit < BITS; bit++) {
      const at = (row) => data[(row * BARS * 4 + (bit + MARGIN) * 4 + 2) * 4];
      const difference = at(2) - at(6);
      if (Math.abs(difference) < 60) return;
      stamp = stamp << 1n | (difference > 0 ? 1n : 0n);
    }
    window.ages.push(performance.timeOrigin + expectedDisplayTime - Number(stamp));
  };
  video.requestVideoFrameCallback(look);
}""".replace("BARS", str(BITS + 2 * MARGIN))
    .replace("BITS", str(BITS))
    .replace("MARGIN", str(MARGIN))
)


class PictureClock:
    """ffmpeg that encodes such pictures without delay, with a tone, and pushes them. A context manager."""

    def __init__(self, url: str, *, width: int = 1280, height: int = 720, rate: int = 30) -> None:
        self._width, self._height, self._rate = width, height, rate
        size = ["-f", "rawvideo", "-pix_fmt", "gray", "-s", f"{width}x{height}", "-framerate", str(rate)]
        command = ["ffmpeg", "-nostdin", "-v", "error", "-probesize", "32", "-fflags", "nobuffer"]
        command += [*size, "-i", "/dev/stdin"]
        command += ["-f", "lavfi", "-i", "sine=440:r=48000", "-pix_fmt", "yuv420p", "-c:v", "libx264"]
        command += ["-preset", "superfast", "-tune", "zerolatency", "-b:v", "2500k", "-g", str(2 * rate)]
        command += ["-c:a", "aac", "-b:a", "96k", "-shortest", "-flush_packets", "1", "-f", "flv", url]
        self._ffmpeg = subprocess.Popen(command, stdin=subprocess.PIPE)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._draw, daemon=True)

    def __enter__(self) -> PictureClock:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join(5)
        self._ffmpeg.kill()
        self._ffmpeg.wait()

    def _draw(self) -> None:
        pipe: Any = self._ffmpeg.stdin
        due = time.monotonic()
        while not self._done.is_set():
            try:
                pipe.write(picture(round(time.time() * 1000), self._width, self._height))
                pipe.flush()
            except BrokenPipeError:
                return
            due += 1 / self._rate
            time.sleep(max(0.0, due - time.monotonic()))


def picture(stamp: int, width: int, height: int) -> bytes:
    """The grey picture that carries this time."""
    step = width / (BITS + 2 * MARGIN)
    row = bytearray(width)
    for bit in range(BITS):
        if stamp >> (BITS - 1 - bit) & 1:
            begin, end = round((bit + MARGIN) * step), round((bit + MARGIN + 1) * step)
            row[begin:end] = b"\xff" * (end - begin)
    upper = bytes(row)
    lower = bytes(255 - value for value in upper)
    return upper * (height // 2) + lower * (height - height // 2)


async def ages(page: Page, seconds: float, warm: float) -> list[float]:
    """Milliseconds from making each picture until its presentation, for `seconds` after `warm` ones."""
    await page.evaluate(SAMPLER)
    await page.wait_for_timeout(warm * 1000)
    await page.evaluate("window.ages.length = 0")
    await page.wait_for_timeout(seconds * 1000)
    return [float(age) for age in await page.evaluate("window.ages")]
