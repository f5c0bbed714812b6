"""What a stream and a viewer cost a node: the measured figures that everything else here is reckoned from.

All of them are CPU-seconds of two shared virtual cores over loopback. A real network card costs less in the receiving
direction and more in interrupts; nothing here was measured on the machines of `machines`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured cost. how: the command that measures it."""

    value: float
    unit: str
    how: str


_BENCH: Final = "-m bench"
_EDGE: Final = "-m bench.bench_edge"

# ---- holders ----
INGEST: Final = Figure(0.055, "CPU-s per publisher-minute", f"{_BENCH} ingest -m 50 --rounds 3")
PACKAGED: Final = Figure(0.110, "CPU-s per publisher-minute, HLS and CMAF offered", f"{_BENCH} ingest-packaged -m 50")
STREAM_MEMORY: Final = Figure(31.0, "MB per packaged 2.5 Mbit/s stream", f"{_BENCH} ingest-packaged -m 10 -t 120")
MEASURED_WINDOW: Final = 40.0  # seconds of playlist that those streams had (hls_list_size 20)
LADDER: Final = Figure(0.5, "cores for a ladder of three rungs from 720p30", "-m bench.bench_transcode")
WATERMARK: Final = Figure(0.33, "cores for a watermark on 720p30", "-m bench.bench_watermark")
RECORDING: Final = Figure(0.0014, "cores for an MP4 recording", "-m bench.bench_sinks")
PULL_OUT: Final = Figure(0.0009, "cores for each pull of a 2.5 Mbit/s stream by another node", f"{_EDGE} pulls")
HANDED: Final = Figure(0.0005, "CPU-s per file that another node fetches, made for it", f"{_EDGE} relay")

# ---- players, at a gateway or an edge ----
FANOUT: Final = Figure(0.47, "CPU-s per GB to FLV, WS-FLV, RTMP players, http.flush_ms = 50", f"{_BENCH} flv -n 1000")
FANOUT_SLOW: Final = Figure(0.21, "CPU-s per GB, http.flush_ms = 200", f"{_BENCH} flv -n 1000 --flush-ms 200")
PLAYLIST: Final = Figure(13.8e-6, "CPU-s per playlist request from memory", f"{_BENCH} hls")
SEGMENT: Final = Figure(1 / 38_500, "CPU-s per request of a 100 kB segment", f"{_BENCH} hls")
VIEWER_MEMORY: Final = Figure(0.003, "MB per FLV viewer, without the kernel's socket buffers", f"{_BENCH} flv -n 1000")
IDLE_MEMORY: Final = Figure(70.0, "MB of an idle process", f"{_BENCH} memory")
JOIN: Final = Figure(0.0001, "CPU-s per joining FLV viewer", f"{_EDGE} herd")

# ---- edges ----
PULL_IN: Final = Figure(0.0017, "cores for each 2.5 Mbit/s stream that an edge pulls", f"{_EDGE} pulls")
RELAYED: Final = Figure(0.0006, "CPU-s per file that an edge fetches from a holder, and gives", f"{_EDGE} relay")
