"""Rows of results: kept as JSON lines, shown as tables, medians taken over rounds."""

from __future__ import annotations

import json
import platform
import statistics
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

Row = dict[str, Any]

# What the gateway is to reach, beside what it did (docs and README quote the same figures).
GOALS = {
    ("flv", "millrace:50"): "≤ 1.15 × floor, ≤ 0.45 × srs:50, p50 ≤ 45 ms, p99 ≤ 100 ms",
    ("flv", "millrace:200"): "≤ 0.25 CPU-s/GB",
    ("ws", "millrace:50"): "≤ 0.65 CPU-s/GB",
    ("rtmp", "millrace:50"): "≤ 0.65 CPU-s/GB",
    ("ingest", "millrace"): "≤ 1.4 × nginx-rtmp",
    ("ingest-packaged", "millrace"): "≤ 0.13 CPU-s per publisher-minute",
    ("join", "millrace"): "p50 ≤ 5 ms, p99 ≤ 40 ms",
    ("llhls", "millrace"): "≤ 30 ms",
    ("hls", "millrace"): "playlist ≤ 25 µs; 100 kB segment ≥ 35,000 requests per CPU-second",
    ("memory", "millrace"): "viewer ≤ 12 kB, publisher ≤ 1,500 kB, stalled ≤ 1,000 kB, idle ≤ 70,000 kB",
    ("start", "millrace"): "≤ 1.5 s",
    ("whep", "millrace"): "≥ 400 viewers a core without a lost packet; ≤ 6.5 CPU-s/GB at 300; ≤ 60 kB a viewer",
    ("whep-join", "millrace"): "≤ 300 ms",
    ("webrtc-latency", "millrace"): "p50 ≤ 120 ms, p95 ≤ 180 ms; RTMP in: p50 ≤ 100 ms",
    ("webrtc-loss", "millrace"): "no freeze > 500 ms in 5 minutes",
    ("whip-ingest", "millrace"): "WHIP ≤ 4 × RTMP",
}

COLUMNS: dict[str, list[str]] = {
    "view": [
        "viewers", "lost", "cpu_s_per_gb", "times_floor", "user_s_per_gb", "cpu_pct", "latency_p50_ms",
        "latency_p99_ms", "join_p50_ms", "join_p99_ms", "rss_kb_per_viewer", "viewer_mbps", "slow_viewers",
        "other_cpu_pct",
    ],
    "ingest": [
        "publishers", "live_at_end", "cpu_s_per_publisher_minute", "times_floor", "cpu_pct", "rss_kb_per_publisher",
        "unsent", "other_cpu_pct",
    ],
    "join": [
        "viewers", "joined", "lost", "key_frame_p50_ms", "key_frame_p99_ms", "key_frame_max_ms", "first_byte_p50_ms",
    ],
    "hls": [
        "what", "body_bytes", "cpu_us_per_request", "requests_per_cpu_s", "cpu_s_per_gb", "p50_ms", "p99_ms",
        "other_cpu_pct",
    ],
    "llhls": [
        "parts", "part_frames", "part_bytes", "listed_p50_ms", "listed_p99_ms", "fetched_p50_ms", "fetched_p99_ms",
        "fetched_max_ms",
    ],
    "memory": ["what", "kb", "with_gop_kb", "gop_kb", "closed_by_server"],
    "start": ["ready_p50_s", "ready_max_s"],
    "whep": [
        "viewers", "connected", "cpu_s_per_gb", "cpu_pct", "viewers_per_core", "lost", "missing_frames", "client_drops",
        "freezes", "latency_p50_ms", "latency_p99_ms", "rss_kb_per_viewer", "viewer_mbps", "client_cpu_pct",
        "other_cpu_pct",
    ],
    "whep-join": ["viewers", "joined", "answer_p50_ms", "picture_p50_ms", "picture_p95_ms", "picture_max_ms"],
    "webrtc-latency": ["what", "pictures", "p50_ms", "p95_ms", "p99_ms"],
    "webrtc-loss": [
        "what", "seconds", "frames", "shown_per_s", "decoded_per_s", "delay_ms", "freezes", "longest_ms", "holes",
        "recovered", "lost", "missing_frames", "forwarder_dropped",
    ],
    "whip-ingest": [
        "what", "publishers", "live_at_end", "cpu_s_per_publisher_minute", "main_cpu_s_per_publisher_minute",
        "whip_is_times", "rss_kb_per_publisher", "other_cpu_pct",
    ],
}  # fmt: skip
COSTS = {"view": "cpu_s_per_gb", "ingest": "cpu_s_per_publisher_minute"}  # what `times_floor` compares
SHAPE = {"flv": "view", "ws": "view", "rtmp": "view", "ingest-packaged": "ingest"}


def save(file: Path, kind: str, server: str, row: Row) -> Row:
    """Appends one row to the JSON lines, with what it is and when; returns it so."""
    full = {"kind": kind, "server": server, **row, "when": time.strftime("%F %T"), "kernel": platform.release()}
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a") as f:
        f.write(json.dumps(full) + "\n")
    return full


def brief(row: Row) -> str:
    """One line for the terminal as soon as a row is there."""
    kind: str = row["kind"]
    shown = [f"{c}={row[c]}" for c in COLUMNS[SHAPE.get(kind, kind)] if row.get(c) is not None]
    return f"{kind:16} {row['server']:14} " + " ".join(shown)


def middle(rows: list[Row]) -> Row:
    """The median, column by column, of rows that measured the same thing in several rounds."""
    out = dict(rows[0])
    for key, value in rows[0].items():
        numbers = [r[key] for r in rows if isinstance(r.get(key), int | float)]
        if isinstance(value, int | float) and numbers:
            out[key] = round(statistics.median(numbers), 4)
    return out


def above_floor(kind: str, rows: list[Row]) -> None:
    """Adds `times_floor` to rows of one kind: their cost by that of the floor with as many viewers or publishers."""
    cost = COSTS.get(SHAPE.get(kind, kind), "")

    def size(row: Row) -> tuple[Any, ...]:
        return row.get("viewers"), row.get("publishers")

    floors = {size(row): row[cost] for row in rows if row["server"].partition(":")[0] == "floor" and row.get(cost)}
    for row in rows:
        if floor := floors.get(size(row)):
            row["times_floor"] = round(row[cost] / floor, 2)


def tables(rows: Iterable[Row]) -> str:
    """Markdown: a table per kind, its rows the medians over rounds, the gateway's goals below."""
    kinds: dict[str, dict[tuple[Any, ...], list[Row]]] = {}
    for row in rows:
        same = (row["server"], row.get("viewers"), row.get("publishers"), row.get("what"))
        kinds.setdefault(row["kind"], {}).setdefault(same, []).append(row)
    out: list[str] = []
    for kind, groups in kinds.items():
        most = max(len(g) for g in groups.values())
        columns = COLUMNS[SHAPE.get(kind, kind)]
        out += ["", f"### {kind}" + (f" (medians of {most} rounds)" if most > 1 else ""), ""]
        out += ["| server | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
        medians = [middle(group) for group in groups.values()]
        above_floor(kind, medians)
        for row in medians:
            cells = ["" if row.get(c) is None else str(row[c]) for c in columns]
            out.append(f"| {row['server']} | " + " | ".join(cells) + " |")
        goals = [f"{s}: {goal}" for (k, s), goal in GOALS.items() if k == kind]
        out += [f"\nwanted: {'; '.join(goals)}"] if goals else []
    return "\n".join(out)
