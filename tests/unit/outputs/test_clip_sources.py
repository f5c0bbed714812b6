"""The pieces of a clip: segments of a session, and MP4 recordings where segments are missing."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from gateway.outputs.clips.sources import ClipSources
from gateway.outputs.recording.on_demand_session import RecordedSegment, playlist
from gateway.ports import media_keys
from tests.support.recording import RunningArchive
from tests.unit.formats.mp4.test_movie_reader import movie

WALL = 1_700_000_000


@pytest.mark.parametrize(("returned", "expected"), [(True, ["ts", "ts", "mp4", "ts", "ts"]), (False, ["ts"] * 4)])
async def test_a_recording_fills_the_time_without_segments_but_no_pause_of_the_push(
    tmp_path: Path, returned: bool, expected: list[str]
) -> None:
    """In a pause, segments have all media: the last one before it may end later than its date says."""
    async with RunningArchive(tmp_path).open() as studio:
        arrivals = (0, 20, 80, 100)
        entries = [
            RecordedSegment(WALL * 1000 + n, 20.0, 188, at == 0 or (returned and at == 80), WALL + at)
            for n, at in enumerate(arrivals)
        ]
        file = tmp_path / "file"
        for key, data in (
            (media_keys.playlist_key("c1", WALL * 1000), playlist(entries).encode()),
            (media_keys.video_key("c1", (WALL + 60) * 1000), movie(10)),
        ):
            file.write_bytes(data)
            await studio.objects.put(key, file)
        sources = ClipSources(studio.objects, studio.archive, studio.finisher)
        with ExitStack() as files:
            found = await sources.find("c1", WALL, WALL + 120, None, files)
        assert [piece.piece.key.rpartition(".")[2] for piece in found] == expected
