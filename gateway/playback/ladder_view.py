"""Finds the rungs of a ladder that can be shown, from the transcoder's rungs and the existing streams."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias, runtime_checkable

from gateway.live.output import OutputState
from gateway.live.stream import Stream
from gateway.packaging.cmaf.packager import CmafPackager
from gateway.packaging.ladder_manifests import CmafRendition, TsRendition
from gateway.packaging.packager import Packager
from gateway.packaging.ts.packager import TsPackager
from gateway.playback.playlist_response import packager
from gateway.ports.errors import NoSuchStream

OUTPUT: Final = "codec"  # the transcoder's output name
_POLL_SECONDS: Final = 0.1  # seconds between two checks of a transcoder that does not know its rungs yet

LadderFormat: TypeAlias = tuple[str, type[Packager]]
TS: Final[LadderFormat] = ("hls", TsPackager)
CMAF: Final[LadderFormat] = ("cmaf", CmafPackager)


class PlannedRendition(Protocol):
    """The known properties of a rung: bits per second of its picture and sound.

    vbv: the factor by which the picture may exceed its bitrate for a second.
    """

    @property
    def name(self) -> str: ...

    @property
    def bitrate(self) -> int: ...

    @property
    def audio(self) -> int: ...

    @property
    def vbv(self) -> float: ...


@runtime_checkable
class LadderTranscoder(Protocol):
    """The output `codec`. rungs: those made of its source, the smallest first; empty while that is not known."""

    @property
    def rungs(self) -> Sequence[PlannedRendition]: ...


class LadderStreams(Protocol):
    """The part of the hub that ladders need."""

    def find(self, name: str) -> Stream | None: ...

    def find_recent(self, name: str) -> Stream | None: ...

    async def wait(self, name: str, seconds: float) -> Stream: ...


@dataclass(frozen=True, slots=True)
class LadderView:
    """A ladder at one moment, in one format.

    steps: the rungs that can be shown, the smallest first. waits: the names of the rungs that are still to come.
    known: whether the transcoder knows its rungs.
    """

    steps: Sequence[tuple[PlannedRendition, Packager]]
    waits: Sequence[str]
    known: bool

    @property
    def whole(self) -> bool:
        return self.known and not self.waits

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(rung.name for rung, _ in self.steps)

    @property
    def ts(self) -> list[TsRendition]:
        return [TsRendition(r.name, output, _most(r)) for r, output in self.steps if isinstance(output, TsPackager)]

    @property
    def cmaf(self) -> list[CmafRendition]:
        return [CmafRendition(r.name, output, _most(r)) for r, output in self.steps if isinstance(output, CmafPackager)]


def _most(rung: PlannedRendition) -> int:
    return int(rung.bitrate * rung.vbv) + rung.audio


def form_of(stream: Stream) -> LadderFormat:
    """Returns the format of the ladder itself: browsers play HEVC only from CMAF."""
    return CMAF if stream.channel.codec == "libx265" else TS


def current_ladder(hub: LadderStreams, stream: Stream, form: LadderFormat) -> LadderView:
    """Returns a source's present ladder. A rung whose stream lingers is shown; one that has ended is left out."""
    transcoder = stream.outputs.get(OUTPUT) if stream.outputs is not None else None
    rungs: Sequence[PlannedRendition] = transcoder.rungs if isinstance(transcoder, LadderTranscoder) else ()
    find = hub.find if stream.ended is None else hub.find_recent
    steps: list[tuple[PlannedRendition, Packager]] = []
    waits: list[str] = []
    for rung in rungs:
        rendition = find(f"{stream.name}@{rung.name}")
        output = packager(rendition, *form) if rendition is not None else None
        if not isinstance(output, Packager):
            # 404: this format of the rung is off, or cannot be made of it.
            if output is None or output.status != 404:
                waits.append(rung.name)
        elif output.ready:
            steps.append((rung, output))
        else:
            waits.append(rung.name)
    return LadderView(steps, waits, bool(rungs))


def failure(stream: Stream) -> str | None:
    """Returns why this stream's transcoder will never make a rung; None if it may."""
    told = stream.outputs.status() if stream.outputs is not None else []
    for output in told:
        if output["name"] == OUTPUT and output["state"] == OutputState.FAILED:
            return str(output["error"])
    return None


async def wait_for_rendition(
    hub: LadderStreams, stream: Stream, form: LadderFormat, view: LadderView, seconds: float
) -> None:
    """Waits until the first missing rung has made progress, at most `seconds`. Raises AtCapacity."""
    if not view.waits:
        await asyncio.sleep(min(_POLL_SECONDS, seconds))
        return
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    with contextlib.suppress(NoSuchStream):
        rendition = await hub.wait(f"{stream.name}@{view.waits[0]}", seconds)
        output = packager(rendition, *form)
        if isinstance(output, Packager):
            await output.changed.until(lambda: output.ready or output.stopped, end - loop.time())
        else:
            await asyncio.sleep(min(_POLL_SECONDS, seconds))  # between two tries
