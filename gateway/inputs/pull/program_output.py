"""ProgramOutput: publishes the program of a transport stream that arrives over SRT or UDP."""

from __future__ import annotations

import asyncio
import time
from contextlib import AbstractAsyncContextManager
from typing import Final

from gateway.inputs.descriptor import InputContext, InputServices
from gateway.inputs.pull.pull_parts import SILENCE_SECONDS, check_key_frame, check_usable
from gateway.lib.tasks import Tasks
from gateway.live.program_intake import ProgramIntake
from gateway.live.publisher import StreamPublisher
from gateway.media.errors import InvalidData
from gateway.media.framed_units import NO_START
from gateway.media.track import Kind
from gateway.ports.errors import OutputError
from gateway.workers.sound_converter import converters

_CHECK_SECONDS: Final = 1.0


class ProgramOutput(AbstractAsyncContextManager["ProgramOutput"]):
    """Takes the bytes of a transport stream. The first ones open the publisher.

    is_whole: set it if the sender has ended the stream. Otherwise the last picture may be cut, and is dropped.
    """

    def __init__(self, services: InputServices, context: InputContext, peer: str) -> None:
        self.is_whole = False
        self._workers = services.workers
        self._context = context
        self._peer = peer
        self._publisher: StreamPublisher | None = None
        self._intake: ProgramIntake | None = None
        self._tasks = Tasks("pull")
        self._first = 0.0  # monotonic time of the first bytes
        self._last = time.monotonic()
        self._lost: asyncio.Future[OutputError] = asyncio.get_running_loop().create_future()

    async def __aexit__(self, *error: object) -> None:
        if self._intake is not None:
            self._intake.finish(time.monotonic(), is_whole=self.is_whole)
        if self._publisher is not None:
            self._publisher.close()
        await self._tasks.close()

    async def until_lost(self) -> None:
        """Waits for the end. Raises OutputError with its reason, also that of `check`."""
        while not self._lost.done():
            self.check(time.monotonic())
            await asyncio.wait((self._lost,), timeout=_CHECK_SECONDS)
        raise self._lost.result()

    def lose(self, reason: str) -> None:
        """Ends `until_lost`. The first reason counts."""
        if not self._lost.done():
            self._lost.set_result(OutputError(reason))

    def receive(self, data: bytes, now: float) -> None:
        """Publishes what the bytes complete. Hot path."""
        if self._lost.done():
            return
        intake = self._intake
        if intake is None:
            intake = self._open()
            self._first = now
        self._last = now
        try:
            intake.receive(data, now)
        except InvalidData as error:
            self.lose(f"its media are damaged: {error}")

    def check(self, now: float) -> None:
        """Raises OutputError if no media, no program or no key frame arrives. now: monotonic seconds."""
        if now - self._last > SILENCE_SECONDS:
            raise OutputError(f"no media for {SILENCE_SECONDS:.0f} s")
        intake = self._intake
        if intake is None:
            return
        lacks = intake.tracks[0] is None and Kind.VIDEO in (intake.expected or ())
        if lacks and (intake.units or intake.explain() == NO_START):
            check_key_frame(self._context, now - self._first)
        else:
            self._context.report(None)
            check_usable(intake, self._first, now)

    def _open(self) -> ProgramIntake:
        name = self._context.channel.id
        self._publisher = self._context.publish(self._peer)
        self._intake = ProgramIntake(self._publisher, converters(self._workers, self._tasks, name))
        return self._intake
