"""A sink with a fault affects neither the publisher nor the other sinks."""

from collections.abc import Callable

import pytest

from gateway.live.sink import EndReason
from gateway.live.stream import Stream
from gateway.media.track import AccessUnit, TimedData, Tracks
from tests.support import builders
from tests.support.builders import AUDIO, VIDEO, picture


class Reader:
    """A sink that counts its units."""

    def __init__(self) -> None:
        self.units = 0
        self.ends: list[EndReason] = []

    def on_tracks(self, tracks: Tracks) -> None: ...

    def on_unit(self, unit: AccessUnit) -> None:
        self.units += 1

    def on_timed(self, timed: TimedData) -> None: ...

    def on_end(self, reason: EndReason) -> None:
        self.ends.append(reason)

    def on_failed(self, error: Exception) -> None:
        raise AssertionError(error)


class Faulty:
    """A sink whose every method raises, `on_failed` too."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        raise AttributeError(name)


def units(stream: Stream) -> None:
    stream.set_tracks(VIDEO, AUDIO, {}, True)
    stream.push(picture(0, True))
    stream.push(picture(40))


def end(stream: Stream) -> None:
    stream.end(EndReason.PUBLISHER_GONE)


@pytest.mark.parametrize("happens", [units, end])
def test_a_sink_that_also_fails_to_fail_is_detached_alone(happens: Callable[[Stream], None]) -> None:
    stream, before, after = builders.stream(), Reader(), Reader()
    stream.attach(before)
    stream.attach(Faulty())  # type: ignore[arg-type]
    stream.attach(after)
    happens(stream)
    assert (before.units, before.ends) == (after.units, after.ends)
    assert before.units or before.ends
