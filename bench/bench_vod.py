"""What making HLS of a film costs, beside the ffmpeg command line with the same settings: wall, CPU, memory.

Run: python -m bench.bench_vod [--film FILE] [--seconds 30] [--size 1280x720] [--rounds 3]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PRESET, CRF, BITS = "fast", 22, 5_000_000


@dataclass(frozen=True)
class Run:
    """One run: seconds of wall and CPU, the most memory of one process in MB, bits a second of what was made."""

    wall: float
    cpu: float
    rss: float
    bits: float


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--film", type=Path, help="instead of a test picture")
    options.add_argument("--seconds", type=int, default=30)
    options.add_argument("--size", default="1280x720")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--json", action="store_true")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="millrace-bench-") as name:
        folder = Path(name)
        film = chosen.film or make_film(folder, chosen.seconds, chosen.size)
        seconds = duration(film)
        rows: dict[str, list[Run]] = {"ffmpeg": [], "millrace": []}
        for _ in range(chosen.rounds):  # in turn: what else the machine does hits both
            rows["ffmpeg"].append(measure(ffmpeg_command(film, folder / "ffmpeg"), folder / "ffmpeg", seconds))
            rows["millrace"].append(measure(millrace_command(film, folder / "millrace"), folder / "millrace", seconds))
        median = {who: middle(runs) for who, runs in rows.items()}
    if chosen.json:
        print(json.dumps({who: asdict(run) for who, run in median.items()}))
        return
    print(
        f"{film.name}, {seconds:.0f} s, preset {PRESET}, crf {CRF}, {os.cpu_count()} cores, median of {chosen.rounds}"
    )
    for who, run in median.items():
        figures = f"wall {run.wall:6.2f} s  CPU {run.cpu:6.2f} s  memory {run.rss:5.0f} MB"
        print(f"{who:9} {figures}  {run.bits / 1e6:5.2f} Mbit/s")
    ours, theirs = median["millrace"], median["ffmpeg"]
    print(f"ratio     wall {ours.wall / theirs.wall:6.2f}    CPU {ours.cpu / theirs.cpu:6.2f}   (to reach: 1.1)")


def make_film(folder: Path, seconds: int, size: str) -> Path:
    """Moving shapes with grain, which costs an encoder about what a filmed scene does, and sound."""
    path = folder / "film.mp4"
    picture = f"testsrc2=size={size}:rate=30,noise=alls=8:allf=t"
    command = ["ffmpeg", "-nostdin", "-v", "error", "-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", "anoisesrc"]
    command += ["-t", str(seconds), "-c:v", "libx264", "-preset", "veryfast", "-b:v", "8M", "-pix_fmt", "yuv420p"]
    subprocess.run([*command, "-c:a", "aac", "-ac", "2", str(path)], check=True)
    return path


def duration(film: Path) -> float:
    told = subprocess.run(
        ["ffprobe", "-v", "error", "-show_entries", "format=duration", "-of", "csv=p=0", str(film)],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    return float(told)


def ffmpeg_command(film: Path, out: Path) -> list[str]:
    """The same pictures, key frames, cap, sound and stills."""
    return [
        "ffmpeg", "-nostdin", "-v", "error", "-y", "-i", str(film), "-map", "0:v:0", "-map", "0:a:0?",
        "-c:v", "libx264", "-preset", PRESET, "-crf", str(CRF), "-maxrate", str(BITS), "-bufsize", str(BITS),
        "-g", "120", "-force_key_frames", "expr:gte(t,n_forced*2)", "-forced-idr", "1", "-pix_fmt", "yuv420p",
        "-c:a", "copy", "-f", "hls", "-hls_time", "10", "-hls_playlist_type", "vod",
        "-hls_segment_filename", str(out / "stream_%05d.ts"), str(out / "stream.m3u8"),
        "-map", "0:v:0", "-frames:v", "1", "-q:v", "8", str(out / "poster.jpg"),
        "-map", "0:v:0", "-frames:v", "1", "-q:v", "31", str(out / "thumbnail.jpg"),
    ]  # fmt: skip


def millrace_command(film: Path, out: Path) -> list[str]:
    return [sys.executable, "-m", "gateway", "vod", str(film), "--out", str(out), "--set", "workers.nice=0"]


def measure(command: list[str], out: Path, seconds: float) -> Run:
    """With everything that the command starts."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MILLRACE_")}
    environment |= {"PYTHONPATH": str(ROOT), "MILLRACE_VOD__PRESET": PRESET, "MILLRACE_VOD__CRF": str(CRF)}
    begun = time.monotonic()
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{command[0]} failed with {process.returncode}")
    wall = time.monotonic() - begun
    made = sum(path.stat().st_size for path in out.rglob("*.ts"))
    return Run(wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, made * 8 / seconds)


def middle(runs: list[Run]) -> Run:
    return Run(*(statistics.median(getattr(run, name) for run in runs) for name in ("wall", "cpu", "rss", "bits")))


if __name__ == "__main__":
    main()
