"""Where things are: the project, what the bench builds, what it writes."""

from pathlib import Path

BENCH = Path(__file__).resolve().parents[1]
PROJECT = BENCH.parent
BUILD = PROJECT / "build" / "bench"
LOGS = BUILD / "logs"
RESULTS = BUILD / "results.jsonl"
PEERS = BENCH / "peers"

STREAM = BUILD / "720p30.flv"
SMALL_STREAM = BUILD / "360p30.flv"
VIDEO = BUILD / "720p30.h264"
SOUND = BUILD / "sound.ogg"
STREAM_BITS = 2_500_000
