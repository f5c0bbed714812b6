"""Closed captions in the pictures of a source stay in pictures that are encoded again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict

import pytest

from gateway.media.closed_captions import ClosedCaptions
from gateway.media.track import AccessUnit, Kind, Tracks
from gateway.protocols import wire
from gateway.protocols.wire import StreamMessage
from gateway.workers.ladder_plan import LadderPlan, LadderStep
from gateway.workers.messages import WorkerMessage
from gateway.workers.programs import match_worker
from gateway.workers.programs.ladder.ladder_worker import LadderWorker
from gateway.workers.stream_form import StreamForm
from tests.support import sources
from tests.support.caption_writer import captioned
from tests.support.media import Film
from tests.support.recording_link import RecordingLink
from tests.support.sources import Source

STEP = LadderStep("small", 160, 90, 100_000, 64_000, 1.0)


def source() -> Source:
    return sources.read(captioned(Film("captions", seconds=3, audio=None), [(10, "HELLO"), (50, "WORLD")]))


def frames(film: Source, *head: tuple[int, bytes]) -> Iterator[tuple[int, bytes]]:
    yield from head
    yield StreamMessage.TRACKS, wire.encode_tracks(film.tracks)
    for unit in film.units:
        yield StreamMessage.UNIT, wire.encode_unit(unit)
    yield StreamMessage.END, wire.encode_end()


def pairs(units: Iterable[AccessUnit]) -> list[tuple[int, bytes]]:
    """The presentation times of pictures with captions, and their pairs."""
    captions = ClosedCaptions()
    shown = sorted((u.dts + u.cts, captions.look(u)) for u in units if u.track.kind is Kind.VIDEO)
    return [(time, data[1:3]) for time, data in shown if data[1:3] != b"\x80\x80"]


@pytest.mark.parametrize("encoder", ["libx264", "libx265"])
def test_renditions_keep_closed_captions(encoder: str) -> None:
    film = source()
    plan = LadderPlan((STEP,), encoder, "ultrafast")
    link = RecordingLink(frames(film, (WorkerMessage.SETUP, wire.write_json(asdict(plan)))))
    LadderWorker(link).work()
    assert len(pairs(film.units)) > 15
    assert pairs(link.units) == pairs(film.units)


def test_a_matched_input_keeps_its_closed_captions() -> None:
    film, form = source(), StreamForm.of(sources.h264("160x90", 1, audio=False).tracks)
    setup = wire.write_json({**form.to_json(), "preset": "ultrafast", "threads": 1})
    reference = StreamMessage.TRACKS, wire.encode_tracks(Tracks(form.video, None))
    link = RecordingLink(frames(film, (WorkerMessage.SETUP, setup), reference))
    match_worker.work(link)
    assert [tracks.video for tracks in link.tracks] == [form.video]
    assert pairs(link.units) == pairs(film.units)
