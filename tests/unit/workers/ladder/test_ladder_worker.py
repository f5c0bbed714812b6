"""A source that loses its video has no renditions until the video returns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace

from gateway.media.track import Kind, Tracks
from gateway.protocols import wire
from gateway.protocols.wire import StreamMessage
from gateway.workers.ladder_plan import LadderPlan, LadderStep
from gateway.workers.messages import WorkerMessage
from gateway.workers.programs.ladder.ladder_worker import LadderWorker
from tests.support.recording_link import RecordingLink
from tests.support.sources import Source, h264

SMALL = LadderStep("small", 160, 90, 100_000, 64_000, 1.0, slot=2)
LARGE = LadderStep("large", 320, 180, 200_000, 64_000, 1.0, slot=5)
ERROR = "the source has no video to transcode"


def frames_of(source: Source, tracks: Tracks | None = None) -> Iterator[tuple[int, bytes]]:
    """Yields a source as frames. tracks: others than the source's."""
    yield StreamMessage.TRACKS, wire.encode_tracks(tracks or source.tracks)
    for unit in source.units:
        yield StreamMessage.UNIT, wire.encode_unit(unit)


def test_renditions_end_with_the_video_and_begin_again_with_it() -> None:
    film = h264("320x180", 2)
    sound = film.only(Kind.AUDIO).shifted(2000)
    again = film.shifted(4000, replace(film.tracks, epoch=1))

    def frames() -> Iterator[tuple[int, bytes]]:
        yield WorkerMessage.SETUP, wire.write_json(asdict(LadderPlan((SMALL, LARGE), "libx264", "ultrafast", 1)))
        yield from frames_of(film)
        yield from frames_of(sound, Tracks(None, film.tracks.audio))
        assert sorted(link.ends) == [1 << 2, 1 << 5]
        assert link.notes[-1] == {"rungs": [], "error": ERROR}
        assert len(link.tracks) == 2
        yield from frames_of(again)
        yield StreamMessage.END, wire.encode_end()

    link = RecordingLink(frames())
    LadderWorker(link).work()
    assert sorted(link.ends) == [1 << 2, 1 << 2, 1 << 5, 1 << 5]
    assert link.notes[-1] == {"rungs": ["small", "large"]}
    errors = [note["error"] for note in link.notes if "error" in note]
    assert errors == [None, ERROR, None]
    pictures = [unit for unit in link.units if unit.track.kind is Kind.VIDEO]
    assert len(pictures) == 4 * len(film.of(Kind.VIDEO))
