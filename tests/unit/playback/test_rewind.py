"""Rewind lists the segments that can be fetched, whenever its first viewer comes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import pytest

from gateway.adapters.local.objects import LocalObjects
from gateway.http.response import Response
from gateway.lib.tasks import Tasks
from gateway.live.output import OutputSpec
from gateway.live.stream import Stream
from gateway.outputs.recording import recorded_pieces
from gateway.outputs.recording.on_demand_recording import OnDemandRecording
from gateway.packaging.packager import SegmentPlan
from gateway.packaging.ts.packager import TsPackager
from gateway.playback import playlist_response
from gateway.playback.rewind import Rewind
from tests.support import builders
from tests.support.hls_rules import Playlist, check, parse
from tests.support.http import request
from tests.support.recording import RunningArchive
from tests.support.segmented import WALL, Timetable, feed

SECOND = 90_000
SEGMENT_SECONDS = 2


class Recorded(OnDemandRecording):
    """A recording whose points the test adds."""

    def begin(self, stream: Stream) -> None:
        self.taken = stream

    async def run(self, stream: Stream) -> None:
        await stream.over()

    def add(self, first: int, end: int) -> None:
        """Adds the pieces from `first` to `end`, each as long as a segment, with a point in each second."""
        for piece in range(first, end):
            start = piece * SEGMENT_SECONDS * SECOND
            self.points.add(piece, [(start, 376), (start + SECOND, 1_376)])
            self.points.complete(piece, 2_376)


@dataclass
class Live:
    """A live stream with its packager, its recording and the rewinding under test."""

    stream: Stream
    packager: TsPackager
    recording: Recorded
    rewind: Rewind

    async def answer(self, query: str = "") -> Response:
        answer = self.rewind.hls(request(f"/c1/live.m3u8?rewind=3600{query}"), self.stream, "live.m3u8")
        return answer if isinstance(answer, Response) else await answer

    async def playlist(self) -> Playlist:
        answer = await self.answer()
        assert answer.status == 200 and isinstance(answer.body, bytes)
        return check(parse(answer.body.decode()))


@asynccontextmanager
async def live(folder: Path, segments: int, *, rewind: float, size: int = 5) -> AsyncIterator[Live]:
    """A stream that has so many complete segments before its first viewer. rewind: hours. size: listed segments."""
    packager = TsPackager("c1", SegmentPlan(SEGMENT_SECONDS, size), WALL)
    packager.begin_history(rewind * 3_600)
    studio = RunningArchive(folder)
    feed(
        packager,
        Timetable(seconds=SEGMENT_SECONDS * segments + 1, fps=Fraction(1), gop=(SEGMENT_SECONDS,), audio=None),
        end=False,
    )
    recordings: list[Recorded] = []

    def record(stream: Stream) -> Recorded:
        recordings.append(Recorded(stream, studio.archive, studio.finisher, studio.counts))
        return recordings[-1]

    hub = builders.hub(
        [
            OutputSpec("hls", lambda stream: packager, lambda stream: True),
            OutputSpec("ondemand", record, lambda s: True),
        ]
    )
    publisher = builders.publish(hub, rewind=rewind)
    async with Tasks("rewind") as tasks:
        yield Live(publisher.stream, packager, recordings[0], Rewind(LocalObjects(studio.media), tasks))
    hub.drain()
    await hub.drained()


async def test_the_first_viewer_may_come_after_old_segments_were_dropped(tmp_path: Path) -> None:
    async with live(tmp_path, 512, rewind=600 / 3_600) as channel:
        channel.recording.add(0, 512)
        history = channel.packager.history
        assert history is not None and history.first > history.own
        playlist = await channel.playlist()
        assert playlist.last - playlist.sequence + 1 >= 300
        assert channel.rewind.status(channel.stream)[1] == history[playlist.sequence].wall


async def test_a_live_playlist_may_be_longer_than_the_channel_keeps(tmp_path: Path) -> None:
    async with live(tmp_path, 256, rewind=60 / 3_600, size=100) as channel:
        history = channel.packager.history
        assert history is not None and history.first > channel.packager.window[0].number
        assert (await channel.playlist()).sequence == history.first


async def test_a_long_playlist_takes_only_a_query_whose_copies_are_small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(playlist_response, "_MAX_COPIES", 100_000)
    async with live(tmp_path, 512, rewind=600 / 3_600) as channel:
        channel.recording.add(0, 512)
        assert [(await channel.answer(f"&x={'y' * size}")).status for size in (100, 1_000)] == [200, 414]


async def test_stored_pieces_are_read_again_after_an_internal_error(tmp_path: Path) -> None:
    async with live(tmp_path, 20, rewind=1) as channel:
        objects = channel.rewind.objects
        assert isinstance(objects, LocalObjects)
        listing, objects.list = objects.list, None  # type: ignore[method-assign, assignment]
        with pytest.raises(TypeError):
            await channel.answer()
        objects.list = listing  # type: ignore[method-assign]
        assert (await channel.playlist()).segments


async def test_segments_leave_the_playlist_when_their_places_are_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with live(tmp_path, 200, rewind=1) as channel:
        recording, rewind, stream = channel.recording, channel.rewind, channel.stream
        recording.add(0, 200)
        before = await channel.playlist()
        monkeypatch.setattr(recorded_pieces, "_MAX_POINTS", 300)
        monkeypatch.setattr(recorded_pieces, "_TRIM", 100)
        recording.add(200, 201)
        channel.packager.cache.clear()  # as the next segment does
        after = await channel.playlist()
        forgotten = 50
        assert before.sequence + forgotten <= after.sequence < before.sequence + forgotten + 8
        first = after.segments[0]
        assert rewind.past(stream, int(first.uri.removesuffix(".ts"))) is not None
        oldest = rewind.status(stream)[1]
        assert oldest is not None and rewind.segment_at(stream, oldest) is not None


@pytest.mark.parametrize(("query", "is_rewind"), [("", False), ("?rewind=3600", True)])
async def test_captions_are_those_of_rewind_only_if_the_request_wants_it(
    query: str, is_rewind: bool, tmp_path: Path
) -> None:
    async with live(tmp_path, 20, rewind=1) as channel:
        answer = channel.rewind.captions(request(f"/c1/captions/en/live.m3u8{query}"), channel.stream)
        if answer is not None and not isinstance(answer, Response):
            answer = await answer
        assert (answer is not None) == is_rewind
