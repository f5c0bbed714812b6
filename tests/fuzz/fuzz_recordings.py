"""Texts of recordings: journals of sessions, keys, hours, playlists that get a query."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from gateway.channels.schedule import Schedule
from gateway.outputs.recording.mp4_finalizer import parse_unfinished
from gateway.outputs.recording.on_demand_session import parse_recording_name, playlist, read_journal
from gateway.outputs.storage.recording_index import movie_seconds
from gateway.playback.recording_files import with_query
from gateway.ports import media_keys

_LINES = (
    {"begin": 1700000000000, "fresh": True, "wall": 1.7e9},
    {"at": 188, "seconds": 1.0, "of": 1700000000000},
    {"done": 1700000000000, "seconds": 4.0, "bytes": 376},
    {"begin": 1700000000001, "fresh": False, "wall": 1.7e9},
    {"at": 188, "seconds": 1.0, "of": 1700000000001},
    {"trim": 1700000000000},
)
SEEDS = (
    b"".join(json.dumps(line).encode() + b"\n" for line in _LINES),
    b"mon-fri 08:00-18:00, sat 22:00-02:00 Europe/Berlin",
    b"c1/mp4/2026/1/2/capture-2026-01-02_03-04-05-1767323045678.mp4",
    b'#EXTM3U\n#EXT-X-MAP:URI="init.mp4"\n#EXTINF:4.0,\n720p/1700000000000.ts\n#EXT-X-ENDLIST\n',
    b"c1~1700000000000.fmp4",
)


def fuzz(data: bytes) -> None:
    """Oracle: documented answers only; a journal never tells more than it has lines; a key parses as one kind."""
    text = data.decode("utf-8", "replace")
    with tempfile.TemporaryDirectory() as folder:
        journal = Path(folder) / "journal"
        journal.write_bytes(data)
        told = read_journal(journal)
    assert len(told.entries) <= data.count(b"\n")
    told.confirmed(len(data))
    if told.entries and all(abs(e.wall_clock) < 1e11 and abs(e.seconds) < 1e9 for e in told.entries):
        assert playlist(told.entries).endswith("#EXT-X-ENDLIST\n")
    try:
        schedule = Schedule.parse(text)
    except ValueError:
        pass
    else:
        assert schedule.next_change(1.7e9) > 1.7e9
    named = media_keys.parse(text)
    assert named is None or text.startswith(named.channel + "/")
    parse_recording_name(text)
    parse_unfinished(text)
    movie_seconds(data)
    with_query(text, "?sign=1-ab")
