"""The stored pieces of a time range: which segments and recordings are found, with which times."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.adapters.local.objects import LocalObjects
from gateway.formats.mp4.init import movie_header
from gateway.outputs.recording.on_demand_session import RecordedSegment, playlist
from gateway.outputs.storage.stored_pieces import StoredPieces, read_playlist
from gateway.ports import media_keys
from gateway.ports.media_keys import MediaKind

START = 1_800_000_000.0


@pytest.fixture
async def pieces(tmp_path: Path) -> AsyncIterator[StoredPieces]:
    yield StoredPieces(LocalObjects(tmp_path))


def write_session(root: Path, start: float, *segments: tuple[float, bool, float]) -> None:
    """Writes a playlist. segments: seconds, discontinuity, wall clock of each."""
    number = int(start * 1000)
    entries = [RecordedSegment(number + n, s, 1, fresh, wall) for n, (s, fresh, wall) in enumerate(segments)]
    path = root / media_keys.playlist_key("a", number)
    path.parent.mkdir(exist_ok=True)
    path.write_text(playlist(entries))


def write_movie(root: Path, start: float, seconds: float) -> None:
    path = root / media_keys.video_key("a", int(start * 1000))
    path.parent.mkdir(parents=True, exist_ok=True)
    head = movie_header(1000, int(seconds * 1000), 2)
    path.write_bytes(struct.pack(">I4s", 8, b"ftyp") + struct.pack(">I4s", len(head) + 8, b"moov") + head)


async def test_segments_of_a_range_have_times_that_follow_the_dates(tmp_path: Path, pieces: StoredPieces) -> None:
    write_session(tmp_path, START, (2.0, True, START), (2.5, False, 0.0), (2.0, True, START + 60), (2.0, False, 0.0))
    found = await pieces.segments("a", START + 2.1, START + 61)
    assert [(p.start - START, p.seconds, p.discontinuity) for p in found] == [(2.0, 2.5, False), (60.0, 2.0, True)]
    assert [p.key for p in found] == [f"a/720p/{int(START * 1000) + n}.ts" for n in (1, 2)]


async def test_a_range_reaches_over_several_sessions(tmp_path: Path, pieces: StoredPieces) -> None:
    for n in range(4):
        write_session(tmp_path, START + 100 * n, (10.0, True, START + 100 * n))
    found = await pieces.segments("a", START + 105, START + 205)
    assert [p.start - START for p in found] == [100, 200]
    assert await pieces.segments("a", START + 150, START + 160) == []
    assert await pieces.segments("a", START - 50, START) == []


async def test_movies_of_a_range_include_one_that_began_before_it(tmp_path: Path, pieces: StoredPieces) -> None:
    for n in range(4):
        write_movie(tmp_path, START + 30 * n, 30)
    found = await pieces.movies("a", START + 35, START + 61)
    assert [(p.start - START, p.seconds) for p in found] == [(30, 30), (60, 30)]
    assert all(p.kind is MediaKind.VIDEO and p.discontinuity for p in found)


async def test_the_newest_piece_is_the_one_that_ends_last(tmp_path: Path, pieces: StoredPieces) -> None:
    assert await pieces.newest("a") is None
    write_movie(tmp_path, START, 30)
    newest = await pieces.newest("a")
    assert newest is not None and newest.end == START + 30
    write_session(tmp_path, START, (20.0, True, START), (20.0, False, 0.0))
    newest = await pieces.newest("a")
    assert newest is not None and newest.end == START + 40


def test_playlist_lines_of_other_programs_are_ignored() -> None:
    text = b"#EXTM3U\n720p/1800000000000.ts\n#EXT-X-PROGRAM-DATE-TIME:9999-99-99T00:00:00Z\n#EXTINF:2,\nhttp://b/c.ts\n"
    assert list(read_playlist("a", text)) == []


async def test_the_playlist_of_mp4_recordings_is_not_a_recording(tmp_path: Path, pieces: StoredPieces) -> None:
    write_movie(tmp_path, START, 30)
    (folder,) = {path.parent for path in tmp_path.rglob("*.mp4")}
    (folder / "vod-index.m3u8").write_text("#EXTM3U\n")
    assert [piece.start for piece in await pieces.movies("a", 0, START + 60)] == [START]
    newest = await pieces.newest("a")
    assert newest is not None and newest.start == START
