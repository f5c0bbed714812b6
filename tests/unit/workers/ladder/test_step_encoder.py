"""A rendition whose pictures cannot be encoded for a while continues afterwards."""

from __future__ import annotations

from fractions import Fraction

import av
import pytest

from gateway.workers.ladder_plan import LadderStep
from gateway.workers.programs.codec import DecodedPicture, VideoRecipe
from gateway.workers.programs.filters import Scaler
from gateway.workers.programs.ladder import step_encoder
from gateway.workers.programs.ladder.step_encoder import StepEncoder, StepSettings
from tests.support.builders import AUDIO, sound
from tests.support.recording_link import RecordingLink

STEP = LadderStep("small", 160, 90, 100_000, 64_000, 1.0)
RECIPE = VideoRecipe("libx264", 160, 90, 100_000, 100_000, Fraction(25), 1000, preset="ultrafast")


def failing(monkeypatch: pytest.MonkeyPatch, fails: set[int]) -> list[int]:
    """Lets scalers fail for these calls. Returns a list that gets the number of each call."""
    calls: list[int] = []

    class FailingScaler(Scaler):
        def scale(self, frame: av.VideoFrame) -> av.VideoFrame:
            calls.append(len(calls))
            if calls[-1] in fails:
                raise av.error.MemoryError(12, "Cannot allocate memory")
            return super().scale(frame)

    monkeypatch.setattr(step_encoder, "Scaler", FailingScaler)
    return calls


def encoded(pictures: int, gop: int) -> tuple[RecordingLink, list[str | None]]:
    """Encodes pictures and sound at 25 Hz. Returns the messages and the reported errors."""
    link, errors = RecordingLink(), list[str | None]()
    step = StepEncoder(StepSettings(STEP, RECIPE, 0, AUDIO), link, errors.append)
    for n in range(pictures):
        step.put(DecodedPicture(av.VideoFrame(320, 180, "yuv420p"), n * 40, n % gop == 0, 0, 0.0))
        step.put(sound(n * 40))
    step.finish()
    step.join()
    return link, errors


def test_a_picture_that_cannot_be_encoded_stops_the_pictures_until_the_next_key_picture(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    failing(monkeypatch, {3})
    link, errors = encoded(30, 10)
    shown = [unit.dts for unit in link.units if unit.track is not AUDIO]
    assert [time for time in shown if time >= 400] == list(range(400, 1200, 40))
    assert [time for time in shown if time < 400] == [0, 40], "the encoder delays one picture"
    assert len([unit for unit in link.units if unit.track is AUDIO]) == 30
    assert [tracks.epoch for tracks in link.tracks] == [0, 0]
    assert link.tracks[0].video == link.tracks[1].video, "players continue with the same decoder"
    assert errors == ["small: its pictures cannot be scaled or encoded", None]
    assert link.ends == [1]


def test_attempts_are_10_s_apart_if_every_picture_is_a_key_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = failing(monkeypatch, set(range(1000)))
    link, _ = encoded(600, 1)
    assert len(calls) == 4, "at 0.00, 0.04, 10.04 and 20.04 s"
    assert link.units == []
