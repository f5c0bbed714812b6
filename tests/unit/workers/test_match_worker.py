"""An input with more pictures per second than declared is encoded at its real rate."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import av
import pytest

from gateway.media.track import Kind, Tracks
from gateway.protocols import wire
from gateway.protocols.wire import StreamMessage
from gateway.workers.messages import WorkerMessage
from gateway.workers.programs import match_worker
from gateway.workers.programs.continued_video import ContinuedEncoder, ContinuedForm
from gateway.workers.stream_form import StreamForm
from tests.support import sources
from tests.support.recording_link import RecordingLink


def test_a_source_of_twice_the_declared_rate_gets_a_new_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    push = sources.h264("320x180", 2)
    backup = sources.h264("160x90", 16, bframes=0, audio=False)
    rates: list[Fraction] = []

    class CountedEncoder(ContinuedEncoder):
        def __init__(self, form: ContinuedForm, like: av.VideoFrame, bitrate: int, preset: str) -> None:
            rates.append(form.rate)
            super().__init__(form, like, bitrate, preset)

    monkeypatch.setattr(match_worker, "ContinuedEncoder", CountedEncoder)
    form = StreamForm.of(push.tracks)

    def frames() -> Iterator[tuple[int, bytes]]:
        yield WorkerMessage.SETUP, wire.write_json({**form.to_json(), "preset": "ultrafast", "threads": 1})
        yield StreamMessage.TRACKS, wire.encode_tracks(Tracks(form.video, form.audio))
        yield StreamMessage.TRACKS, wire.encode_tracks(backup.tracks)
        for unit in backup.units:
            yield StreamMessage.UNIT, wire.encode_unit(replace(unit, dts=unit.dts // 2, cts=0))
        yield StreamMessage.END, wire.encode_end()

    link = RecordingLink(frames())
    match_worker.work(link)
    assert rates == [30, 60]
    pictures = [unit for unit in link.units if unit.track.kind is Kind.VIDEO]
    assert [unit.dts for unit in pictures] == [unit.dts // 2 for unit in backup.units]
    assert all(before.dts < after.dts for before, after in pairwise(pictures))
    assert [tracks.video for tracks in link.tracks] == [push.tracks.video], "players continue with the same decoder"


@pytest.mark.parametrize("codec", ["-c:a aac -ac 6", "-c:a libopus -ar 48000", "-c:a flac"])
def test_sound_is_played_although_nothing_encodes_it_like_that_of_the_push(codec: str) -> None:
    push = sources.source(*sources.tone(48_000), "-t", "1", *codec.split(), "-b:a", "128k").tracks
    backup = sources.source(*sources.tone(), "-t", "1", *sources.AAC)
    form = StreamForm.of(push)

    def frames() -> Iterator[tuple[int, bytes]]:
        yield WorkerMessage.SETUP, wire.write_json({**form.to_json(), "preset": "ultrafast", "threads": 1})
        yield StreamMessage.TRACKS, wire.encode_tracks(Tracks(None, form.audio))
        yield StreamMessage.TRACKS, wire.encode_tracks(backup.tracks)
        for unit in backup.units:
            yield StreamMessage.UNIT, wire.encode_unit(unit)
        yield StreamMessage.END, wire.encode_end()

    link = RecordingLink(frames())
    match_worker.work(link)
    assert [unit.payload for unit in link.units] == [unit.payload for unit in backup.units]
    assert [tracks.audio for tracks in link.tracks] == [backup.tracks.audio]
