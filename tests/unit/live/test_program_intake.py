"""Programs of transport streams whose sound changes while they are pushed."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from gateway.live.program_intake import ProgramIntake
from gateway.media.track import AccessUnit, Codec, Kind
from tests.support import builders
from tests.support.builders import Recorder
from tests.unit.formats.ts.test_program_reader import made
from tests.unit.live.test_unusual_bodies import Converter


class Rig:
    """A push of a transport stream. given: what its converters get."""

    def __init__(self) -> None:
        self.hub = builders.hub()
        self.publisher = builders.publish(self.hub)
        self.sink = Recorder()
        self.publisher.stream.attach(self.sink)
        self.converters: list[Converter] = []
        self.intake = ProgramIntake(self.publisher, self._make)

    def _make(self, deliver: Callable[[AccessUnit], None]) -> Converter:
        self.converters.append(Converter(deliver))
        return self.converters[-1]

    def receive(self, name: str) -> None:
        """Takes a stream of `RECIPES`. They all have the same PIDs."""
        self.intake.receive(made(name).read_bytes(), time.monotonic())

    def sound(self) -> list[AccessUnit]:
        return [unit for unit in self.sink.units if unit.track.kind is Kind.AUDIO]


@asynccontextmanager
async def rig() -> AsyncIterator[Rig]:
    one = Rig()
    yield one
    one.hub.drain()
    await one.hub.drained()


async def test_sound_that_needs_no_conversion_any_more_is_published_itself() -> None:
    async with rig() as push:
        push.receive("ac3")
        assert {unit.payload for unit in push.sound()} == {b"made"}
        converted = len(push.sound())
        push.receive("h264")
        push.intake.finish(time.monotonic())
        assert [converter.closed for converter in push.converters] == [1]
        later = push.sound()[converted:]
        assert len(later) > 100
        assert b"made" not in {unit.payload for unit in later[5:]}
        assert later[-1].track.codec is Codec.AAC
        assert push.sink.tracks[-1].audio == later[-1].track


async def test_late_sound_of_an_ended_conversion_is_not_published() -> None:
    async with rig() as push:
        push.receive("ac3")
        late = push.sound()[-1]
        push.receive("h264")
        before = len(push.sink.items)
        push.converters[0].deliver(late)
        assert len(push.sink.items) == before
        push.receive("ac3")
        late = push.sound()[-1]
        push.publisher.close()
        before = len(push.sink.items)
        push.converters[-1].deliver(late)
        assert len(push.sink.items) == before
