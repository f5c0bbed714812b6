"""Which rungs of a ladder can be shown: what the transcoder makes, held against the streams that there are."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias, runtime_checkable

from gateway.hub.errors import NoSuchStream
from gateway.hub.output import OutputState
from gateway.hub.stream import Stream
from gateway.packagers.cmaf import CmafPackager
from gateway.packagers.ladder import CmafStep, TsStep
from gateway.packagers.run import Packager
from gateway.packagers.ts import TsPackager
from gateway.servers.segmented import packager

OUTPUT: Final = "codec"  # the transcoder's name
_LOOK: Final = 0.1  # seconds between two looks at a transcoder that does not know its rungs yet

Form: TypeAlias = tuple[str, type[Packager]]
TS: Final[Form] = ("hls", TsPackager)
CMAF: Final[Form] = ("cmaf", CmafPackager)


class Rung(Protocol):
    """What is known of a rung beforehand: bits a second of its picture and sound, and by how much the picture may
    exceed them for a second."""

    @property
    def name(self) -> str: ...

    @property
    def bitrate(self) -> int: ...

    @property
    def audio(self) -> int: ...

    @property
    def vbv(self) -> float: ...


@runtime_checkable
class Transcoder(Protocol):
    """The output `codec`. rungs: those it makes of its source, the smallest first; none while it does not know."""

    @property
    def rungs(self) -> Sequence[Rung]: ...


class Streams(Protocol):
    """The hub, as far as ladders go."""

    def find(self, name: str) -> Stream | None: ...

    def find_recent(self, name: str) -> Stream | None: ...

    async def wait(self, name: str, seconds: float) -> Stream: ...


@dataclass(frozen=True, slots=True)
class View:
    """A ladder at one moment, in one form. steps: the rungs that can be shown, the smallest first; waits: the names of
    those still to come; known: the transcoder has said which there are."""

    steps: Sequence[tuple[Rung, Packager]]
    waits: Sequence[str]
    known: bool

    @property
    def whole(self) -> bool:
        return self.known and not self.waits

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(rung.name for rung, _ in self.steps)

    @property
    def ts(self) -> list[TsStep]:
        return [TsStep(r.name, output, _most(r)) for r, output in self.steps if isinstance(output, TsPackager)]

    @property
    def cmaf(self) -> list[CmafStep]:
        return [CmafStep(r.name, output, _most(r)) for r, output in self.steps if isinstance(output, CmafPackager)]


def _most(rung: Rung) -> int:
    return int(rung.bitrate * rung.vbv) + rung.audio


def form_of(stream: Stream) -> Form:
    """How the ladder itself is packaged: browsers play HEVC from CMAF only."""
    return CMAF if stream.channel.codec == "libx265" else TS


def look(hub: Streams, stream: Stream, form: Form) -> View:
    """The ladder of a source as it is now. A rung whose stream lingers is shown, one that has ended is missing."""
    transcoder = stream.outputs.get(OUTPUT) if stream.outputs is not None else None
    rungs: Sequence[Rung] = transcoder.rungs if isinstance(transcoder, Transcoder) else ()
    find = hub.find if stream.ended is None else hub.find_recent
    steps: list[tuple[Rung, Packager]] = []
    waits: list[str] = []
    for rung in rungs:
        rendition = find(f"{stream.name}@{rung.name}")
        output = packager(rendition, *form) if rendition is not None else None
        if not isinstance(output, Packager):
            # 404: this form of it is off, or cannot be made of it.
            if output is None or output.status != 404:
                waits.append(rung.name)
        elif output.ready:
            steps.append((rung, output))
        else:
            waits.append(rung.name)
    return View(steps, waits, bool(rungs))


def failure(stream: Stream) -> str | None:
    """Why the transcoder of this stream will never give a rung, None where it may."""
    told = stream.outputs.status() if stream.outputs is not None else []
    for output in told:
        if output["name"] == OUTPUT and output["state"] == OutputState.FAILED:
            return str(output["error"])
    return None


async def nearer(hub: Streams, stream: Stream, form: Form, view: View, seconds: float) -> None:
    """Waits until the first missing rung has come nearer, at most so long. Raises AtCapacity."""
    if not view.waits:
        await asyncio.sleep(min(_LOOK, seconds))
        return
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    with contextlib.suppress(NoSuchStream):
        rendition = await hub.wait(f"{stream.name}@{view.waits[0]}", seconds)
        output = packager(rendition, *form)
        if isinstance(output, Packager):
            await output.changed.until(lambda: output.ready or output.stopped, end - loop.time())
        else:
            await asyncio.sleep(min(_LOOK, seconds))  # between two tries
