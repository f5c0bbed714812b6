"""Where things are: the project, what the bench builds, what it writes."""

from pathlib import Path

LOAD = Path(__file__).resolve().parents[1]
PROJECT = LOAD.parents[1]
BUILD = PROJECT / "build" / "load"
LOGS = BUILD / "logs"
RESULTS = BUILD / "results.jsonl"
PEERS = LOAD / "peers"

STREAM = BUILD / "720p30.flv"
SMALL_STREAM = BUILD / "360p30.flv"
VIDEO = BUILD / "720p30.h264"
SOUND = BUILD / "sound.ogg"
STREAM_BITS = 2_500_000
