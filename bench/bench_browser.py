"""What a browser's byte stream costs: copied H.264 and transcoded VP8 of 720p30, beside ffmpeg on the same bytes.

    .venv/bin/python -m bench.bench_browser [--seconds 30] [--slice 250] [--rounds 1] [--forms copy,vp8]

A recording of moving, noisy pictures and a tone arrives in slices, in real time, at an intake with its worker and at
ffmpeg's standard input, at once: CPU seconds per second of media of worker, of this process (intake and harness) and of
ffmpeg, which does the same work (copy, or libx264 with the gateway's preset and zerolatency; AAC; FLV to nowhere); how
long a slice's pictures take to be published; the worker's memory; bits of what came and what was made.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from bench.harness import paths
from bench.harness.procs import PAGE, TICK, BenchError
from gateway.formats.media_recorder import RecordingReader
from gateway.formats.recording import Packet
from gateway.media.track import AccessUnit, Kind
from tests.support.browser_push import BrowserPush, browser_push

SIZE, RATE = "1280x720", 30
NOISE = f"testsrc2=s={SIZE}:r={RATE},noise=alls=12:allf=t"
SOUND = ["-c:a", "libopus", "-b:a", "64k"]
LIVE = ["-f", "matroska", "-live", "1", "-cluster_time_limit", "250"]
X264 = ["-c:v", "libx264", "-preset", "superfast", "-tune", "zerolatency", "-b:v", "2500k", "-maxrate", "2500k"]
FORMS = {
    "copy": [*X264, "-bufsize", "2500k", "-g", "60", *SOUND, *LIVE],
    "vp8": ["-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8", "-b:v", "2500k", "-g", "100", *SOUND, *LIVE],
    "vp9": [
        "-c:v",
        "libvpx-vp9",
        "-deadline",
        "realtime",
        "-cpu-used",
        "8",
        "-b:v",
        "2000k",
        "-g",
        "100",
        *SOUND,
        *LIVE,
    ],
}
SETTLE = 4.0  # seconds of media before the measured window


@dataclass
class Result:
    """CPU seconds per second of media, seconds of delay, bytes."""

    worker: float = 0.0
    intake: float = 0.0
    ffmpeg: float = 0.0
    delays: list[float] = field(default_factory=list)
    memory: int = 0
    bits_in: float = 0.0
    bits_out: float = 0.0
    dropped: int = 0


def film(form: str, seconds: float) -> bytes:
    """The recording, made once."""
    path = paths.BUILD / f"browser-{form}-{seconds:.0f}.mkv"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        made = path.with_suffix(".part")
        command = ["ffmpeg", "-nostdin", "-v", "error", "-y", "-f", "lavfi", "-i", NOISE]
        command += ["-f", "lavfi", "-i", "sine=440:r=48000", "-t", str(seconds + SETTLE), "-pix_fmt", "yuv420p"]
        done = subprocess.run([*command, *FORMS[form], str(made)], capture_output=True, text=True, check=False)
        if done.returncode:
            raise BenchError(f"ffmpeg: {done.stderr.strip()[-200:]}")
        made.rename(path)
    return path.read_bytes()


def sliced(data: bytes, slice_seconds: float) -> list[bytes]:
    """Pieces that end with the first sample of each new slice, as a recorder hands them out."""
    reader, pieces, begin, edge = RecordingReader(), [], 0, slice_seconds
    for at in range(0, len(data), 512):
        events = reader.receive(data[at : at + 512])
        times = [e.time / e.track.timescale for e in events if isinstance(e, Packet)]
        if times and max(times) >= edge:
            pieces.append(data[begin : at + 512])
            begin = at + 512
            edge += slice_seconds
    return [*pieces, data[begin:]]


def reference(form: str, bits: float) -> list[str]:
    """The ffmpeg command line."""
    video = ["-c:v", "copy"]
    if form != "copy":
        kilobits = f"{bits / 1000:.0f}k"
        video = ["-c:v", "libx264", "-preset", "veryfast", "-tune", "zerolatency", "-threads", "1", "-g", str(2 * RATE)]
        video += ["-b:v", kilobits, "-maxrate", kilobits, "-bufsize", kilobits]
    sound = ["-c:a", "aac", "-b:a", "96k", "-ar", "48000"]
    return ["ffmpeg", "-v", "error", "-i", "pipe:0", *video, *sound, "-f", "flv", "-y", "/dev/null"]


def spent(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE


class Timed:
    """A sink beside the push's own: when each picture was published, and how large it was."""

    def __init__(self) -> None:
        self.pictures: list[tuple[float, int]] = []

    def on_unit(self, unit: AccessUnit) -> None:
        if unit.track.kind is Kind.VIDEO:
            self.pictures.append((time.monotonic(), len(unit.payload)))

    def on_tracks(self, tracks: object) -> None: ...

    def on_timed(self, timed: object) -> None: ...

    def on_end(self, reason: object) -> None: ...

    def on_failed(self, error: Exception) -> None:
        raise error


async def measure(form: str, seconds: float, slice_seconds: float) -> Result:
    """One run of both, side by side."""
    data = film(form, seconds)
    pieces = sliced(data, slice_seconds)
    result = Result(bits_in=8 * len(data) / (seconds + SETTLE))
    async with browser_push(spare=0.5, backlog=6) as push:
        push.publisher.stream.original.detach(push)  # it keeps everything
        times = Timed()
        push.publisher.stream.attach(times)
        ffmpeg = await asyncio.create_subprocess_exec(*reference(form, result.bits_in), stdin=subprocess.PIPE)
        try:
            await _play(push, ffmpeg, pieces, slice_seconds, times, result)
        finally:
            if ffmpeg.returncode is None:
                ffmpeg.kill()
            await ffmpeg.wait()
    return result


async def _play(
    push: BrowserPush,
    ffmpeg: asyncio.subprocess.Process,
    pieces: list[bytes],
    slice_seconds: float,
    times: Timed,
    result: Result,
) -> None:
    assert ffmpeg.stdin is not None
    worker = await asyncio.shield(push.intake._worker)
    began, sent = time.monotonic(), []
    before: list[float] = []
    first = 0
    for n, piece in enumerate(pieces):
        await asyncio.sleep(max(0.0, began + n * slice_seconds - time.monotonic()))
        if not before and n * slice_seconds >= SETTLE:
            before = [spent(worker.pid), time.process_time(), spent(ffmpeg.pid), time.monotonic()]
            first = len(times.pictures)
        sent.append(time.monotonic())
        ffmpeg.stdin.write(piece)
        await push.intake.feed(piece)
        await ffmpeg.stdin.drain()
        result.memory = max(result.memory, resident(worker.pid))
    await asyncio.sleep(slice_seconds)
    window = time.monotonic() - before[3]
    result.worker = (spent(worker.pid) - before[0]) / window
    result.intake = (time.process_time() - before[1]) / window
    result.ffmpeg = (spent(ffmpeg.pid) - before[2]) / window
    for came, _ in times.pictures[first:]:
        result.delays.append(came - max(at for at in sent if at <= came))
    result.bits_out = 8 * sum(size for _, size in times.pictures[first:]) / window
    ffmpeg.stdin.close()
    await push.end()
    if push.failure is not None:
        raise BenchError(str(push.failure))
    result.dropped = push.intake.stats.dropped


def report(form: str, results: list[Result]) -> None:
    """The figures, a line each; medians of the rounds."""

    def middle(name: str) -> float:
        return statistics.median(getattr(r, name) for r in results)

    delays = sorted(d for r in results for d in r.delays)
    ours, theirs = middle("worker") + middle("intake"), middle("ffmpeg")
    print(f"{form}: {SIZE} at {RATE} fps, {middle('bits_in') / 1e6:.1f} Mbit/s in, {middle('bits_out') / 1e6:.1f} out")
    print(f"  worker                 {1000 * middle('worker'):.1f} ms of CPU per second of media")
    print(f"  gateway, with harness  {1000 * middle('intake'):.1f}")
    print(f"  ffmpeg                 {1000 * theirs:.1f}")
    print(f"  ratio                  {ours / theirs:.2f} (worker alone {middle('worker') / theirs:.2f})")
    p50, p99 = 1000 * statistics.median(delays), 1000 * delays[int(0.99 * len(delays))]
    print(f"  slice to published     p50 {p50:.0f} ms, p99 {p99:.0f}")
    print(f"  worker's memory        {max(r.memory for r in results) / 1e6:.0f} MB at most")
    print(f"  dropped                {sum(r.dropped for r in results)}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--slice", type=float, default=250, metavar="MS")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--forms", default="copy,vp8", help=f"of {','.join(FORMS)}")
    arguments = parser.parse_args()
    try:
        for form in arguments.forms.split(","):
            if form not in FORMS:
                raise BenchError(f"no form {form}; there are {', '.join(FORMS)}")
            rounds = [
                asyncio.run(measure(form, arguments.seconds, arguments.slice / 1000)) for _ in range(arguments.rounds)
            ]
            report(form, rounds)
    except BenchError as error:
        print(f"bench_browser: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
