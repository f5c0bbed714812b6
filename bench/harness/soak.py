"""A long run: publishers are cut, viewers come, go and stall, clips are made; memory must stand still."""

from __future__ import annotations

import csv
import statistics
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, astuple, dataclass, fields
from pathlib import Path
from typing import Any

from bench.harness import growth, paths, plot
from bench.harness.clients import Publishers, Viewers
from bench.harness.measures import owned, running
from bench.harness.procs import Memory, memory
from bench.harness.servers import Gateway, Server
from bench.harness.soak_load import ClipMaker, Load, PlaylistWatcher, WhepGroups

Row = dict[str, Any]
WARM = 600.0  # seconds until windows of playlists and pools are full; a shorter run: its first quarter
JUDGED_FROM = 300.0  # a shorter run says nothing of memory
SAMPLE = 5.0
CUT_EVERY = 40


@dataclass(frozen=True, slots=True)
class Sample:
    """Memory in bytes, `at` seconds after the start. own: the gateway's process; children: its workers."""

    at: float
    own_resident: int
    own_private: int
    children_resident: int
    children_private: int
    children: int
    descriptors: int

    @classmethod
    def of(cls, at: float, seen: Memory) -> Sample:
        return cls(at, *astuple(seen))

    @property
    def resident(self) -> int:
        return self.own_resident + self.children_resident

    @property
    def private(self) -> int:
        return self.own_private + self.children_private


def slopes(samples: Sequence[Sample]) -> dict[str, tuple[float, float]]:
    """MB per hour and its standard error, by least squares, of each kind of memory."""
    kinds = ("own_resident", "own_private", "children_resident", "children_private", "resident", "private")
    found = {}
    for kind in kinds:
        slope, error = growth.line([(s.at / 3600, getattr(s, kind) / 1e6) for s in samples])
        found[kind] = (round(slope, 2), round(error, 2))
    return found


def soak(server: Server, minutes: float, publishers: int, viewers: int) -> Row:
    """Runs for `minutes`; the row says how memory moved and what went wrong, "ok" whether nothing did.

    Memory is judged by its medians, in runs of five minutes and more: the last quarter of the run against the first
    quarter after warming up; 10 % and 10 MB are let pass. Slopes are of the same time.
    """
    seconds = int(minutes * 60)
    shares = {"flv": viewers // 2, "ws": viewers // 4, "rtmp": viewers // 4}
    samples: list[Sample] = []
    if isinstance(server, Gateway):
        server.channel = {"rewind": "0.05", "isHls": True}  # clips need recordings; these have a bounded length
    with ExitStack() as stack:
        urls = stack.enter_context(running(server, publishers, packaged=True))
        push = stack.enter_context(owned(Publishers(urls.push, file=paths.SMALL_STREAM, cut_every=CUT_EVERY)))
        loads = {
            proto: stack.enter_context(
                owned(Viewers(urls.play(proto), n, seconds, "-x", 20, "-z", max(1, n // 10), "-p", 2, warm=1))
            )
            for proto, n in shares.items()
            if n and urls.play(proto)
        }
        watchers = [PlaylistWatcher(u) for u in (*urls.hls[:1], *urls.llhls[:1])]
        whep = [WhepGroups(urls.whep, 6), WhepGroups(urls.whep, 4, 120, lasts=True)] if urls.whep else []
        clips = [ClipMaker(server)] if isinstance(server, Gateway) else []
        threads: list[Load] = [*watchers, *whep, *clips]
        for t in threads:
            t.start()
            stack.callback(t.stop)
        begin = time.monotonic()
        cpu = server.usage().cpu
        while (at := time.monotonic() - begin) < seconds:
            samples.append(Sample.of(at, memory(server.pid)))
            if len(samples) % 12 == 1:
                now = samples[-1]
                print(
                    f"  {at / 60:5.1f} min  resident {now.resident / 1e6:7.1f} MB, private {now.private / 1e6:7.1f} MB"
                    f" (gateway {now.own_private / 1e6:.1f}), {now.children} children, {now.descriptors} descriptors",
                    flush=True,
                )
            time.sleep(min(SAMPLE, seconds - at))
        cpu = server.usage().cpu - cpu
        for t in threads:
            t.stop()
        seen = {proto: load.until({}) for proto, load in loads.items()}
        pushed = push.finish()
    warm = min(WARM, seconds / 4)
    settled = [s for s in samples if s.at >= warm]
    quarter = max(1, len(settled) // 4)
    first = statistics.median(s.resident for s in settled[:quarter])
    last = statistics.median(s.resident for s in settled[-quarter:])
    row: Row = {
        "minutes": minutes,
        "publishers": publishers,
        "viewers": sum(x["viewers"] for x in seen.values()),
        "rss_first_mb": round(first / 1e6, 1),
        "rss_last_mb": round(last / 1e6, 1),
        "rss_max_mb": round(max(s.resident for s in samples) / 1e6, 1),
        "mb_per_hour": slopes(settled),
        "cpu_pct": round(100 * cpu / seconds, 1),
        "publisher_cuts": pushed["cuts"],
        "publishers_lost": pushed["lost"],
        "publishers_refused": pushed["refused"],
        "viewers_rejoined": sum(x["rejoined"] for x in seen.values()),
        "viewers_refused": sum(x["refused"] for x in seen.values()),
        "viewers_closed": sum(x["closed_early"] for x in seen.values()),
        "stalled_closed": sum(x["stalled_closed"] for x in seen.values()),
        "bytes": sum(x["bytes"] for x in seen.values()),
        "whep_joined": sum(w.joined for w in whep),
        "whep_failed": sum(w.failed for w in whep),
        "whep_vanished": sum(w.vanished for w in whep),
        "whep_frames": sum(w.frames for w in whep),
        "clips": sum(c.made for c in clips),
        "clips_missed": sum(c.missed for c in clips),
        "clip_bytes": sum(c.bytes for c in clips),
        "playlist_answers": sum(w.answers for w in watchers),
        "playlist_misses": sum(w.misses for w in watchers),
        "sequence_went_back": sum(w.backwards for w in watchers),
    }
    faults = {
        "memory grows": seconds >= JUDGED_FROM and last > first + max(10e6, 0.1 * first),
        "publishers were refused": pushed["refused"] > 0,
        "publishers were cut off": pushed["lost"] > 0,
        "viewers were refused": row["viewers_refused"] > 0,
        "viewers were closed": row["viewers_closed"] > 0,
        "a media sequence went back": row["sequence_went_back"] > 0,
        "nothing was delivered": any(not x["bytes"] for x in seen.values()),
        "WHEP viewers failed": row["whep_failed"] > row["whep_joined"] / 10 or bool(whep and not row["whep_frames"]),
        "no clips were made": bool(clips) and row["clips"] <= row["clips_missed"],
    }
    row |= {"faults": [k for k, bad in faults.items() if bad], "ok": not any(faults.values())}
    write_report(paths.BUILD / "soak.html", samples, warm, row)
    return row


def write_report(file: Path, samples: Sequence[Sample], warm: float, row: Row) -> None:
    """Writes a page with the curves, the slopes and the figures, and all samples as CSV beside it."""
    with file.with_suffix(".csv").open("w", newline="") as f:
        out = csv.DictWriter(f, [x.name for x in fields(Sample)])
        out.writeheader()
        out.writerows(asdict(s) for s in samples)

    def curve(kind: str, unit: float = 1e6) -> list[tuple[float, float]]:
        return [(s.at / 60, getattr(s, kind) / unit) for s in samples]

    processes = {"all processes": "", "gateway": "own_", "children": "children_"}
    resident, private = ({x: curve(y + kind) for x, y in processes.items()} for kind in ("resident", "private"))
    counts = {"descriptors of the gateway": curve("descriptors", 1), "children": curve("children", 1)}
    slopes_found = [(k, *v) for k, v in row["mb_per_hour"].items()]
    figures = [(k, v) for k, v in row.items() if k != "mb_per_hour"]
    parts = [
        plot.chart("Resident memory", "minutes", "MB", resident),
        plot.chart("Private memory", "minutes", "MB", private),
        plot.chart("Descriptors and children", "minutes", "number", counts),
        f"<p>Slopes by least squares, after the first {warm / 60:.1f} minutes.</p>",
        plot.table(["memory", "MB per hour", "standard error"], slopes_found),
        plot.table(["figure", "value"], figures),
    ]
    plot.page(file, f"Soak of {row['minutes']:g} minutes, {time.strftime('%F %T')}", parts)
    print(f"report: {file}", flush=True)
