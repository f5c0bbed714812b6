"""ProgramSource: the pictures and the sound of a transport stream, read in this process."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from typing import Final

from gateway.channels.channel import Channel
from gateway.formats.ts.program_reader import ProgramReader, ProgramTracks, ProgramUnit
from gateway.formats.ts.program_tables import ENCRYPTED, StreamUse
from gateway.inputs.demux_client import Media
from gateway.inputs.pull.pull_parts import KEY_FRAME_SECONDS
from gateway.live.program_intake import lost_streams, must_be_converted
from gateway.media.clock import VIDEO_CLOCK
from gateway.media.track import AccessUnit, Kind, MediaTrack, Tracks
from gateway.ports.errors import OutputUnsupported

_SLICE: Final = 16_384  # bytes that are read in one turn of the event loop, at most a few milliseconds
_PROBE_SLICES: Final = 256  # that are read at most until all tracks are known


class ProgramSource:
    """Yields the units of the first pictures and the first sound, like DemuxedSource.

    It begins with a key frame. Bad media are left out, as ProgramReader says. What is read and not taken is at most
    what one slice completes.

    channel: whose input it is. unread: bytes of the last chunk that were not read yet.
    """

    def __init__(self, chunks: AsyncIterator[bytes], channel: Channel) -> None:
        self._chunks = chunks
        self._channel = channel
        self._reader = ProgramReader()
        self.unread = b""
        self._items: deque[Media] = deque()
        self._kinds: dict[int, Kind] = {}  # by PID
        self.left_out: dict[str, Kind] = {}
        self._tracks: dict[Kind, MediaTrack] = {}  # of the last units
        self._held: list[AccessUnit] = []  # until all tracks are known
        self._is_announced = False
        self._ended = False

    async def probe(self, seconds: float) -> list[bytes] | None:
        """Reads until pictures and sound are known. Returns what was read if this source cannot play it; None: it can.

        Then another reader may begin with these bytes. seconds: of media from the first key frame on, in which all
        tracks must come. Raises GatewayError of the chunks.
        """
        read: list[bytes] = []
        until = time.monotonic() + KEY_FRAME_SECONDS
        while not self._is_announced and not self._ended and len(read) < _PROBE_SLICES and time.monotonic() < until:
            data = await self._next_slice()
            read.append(data)
            if (data and read[0][:1] != b"\x47") or not self._take(self._events(data)):
                return read
            if self._held and self._held[-1].dts - self._held[0].dts > VIDEO_CLOCK * seconds:
                return read
        return None if self._is_announced else read

    async def next(self) -> Media | None:
        """Returns the next tracks or unit; None at the end. Raises GatewayError."""
        while not self._items and not self._ended:
            if not self._take(self._events(await self._next_slice())):
                raise OutputUnsupported("its tracks have changed")
        return self._items.popleft() if self._items else None

    async def close(self) -> None:
        """Does nothing: the owner of the chunks ends them."""

    async def _next_slice(self) -> bytes:
        """Returns the next bytes after a turn of the event loop; b"" at the end."""
        await asyncio.sleep(0)
        if not self.unread:
            self.unread = await anext(self._chunks, b"")
            self._ended = not self.unread
        data, self.unread = self.unread[:_SLICE], self.unread[_SLICE:]
        return data

    def _events(self, data: bytes) -> Sequence[object]:
        return self._reader.receive(data) if data else self._reader.finish()

    def _take(self, events: Iterable[object]) -> bool:
        """Takes events of the reader. Returns whether this source can play them. Hot path."""
        for event in events:
            if isinstance(event, ProgramUnit):
                kind = self._kinds.get(event.pid)
                if kind is not None:
                    if must_be_converted(event, self._channel):
                        return False
                    self._take_unit(kind, event.unit)
            elif isinstance(event, ProgramTracks) and not self._select(event):
                return False
        return True

    def _select(self, program: ProgramTracks) -> bool:
        """Chooses the streams. A program without pictures is left to a worker, which says what it has.

        Raises OutputUnsupported for encrypted pictures, because a worker would copy them.
        """
        found: dict[Kind, int] = {}
        for entry in program.streams:
            if entry.use in (StreamUse.VIDEO, StreamUse.AUDIO):
                found.setdefault(Kind.VIDEO if entry.use is StreamUse.VIDEO else Kind.AUDIO, entry.pid)
        self._kinds = {pid: kind for kind, pid in found.items()}
        self.left_out = lost_streams(program)
        for name, kind in self.left_out.items():
            if kind is Kind.VIDEO and name.startswith(ENCRYPTED):
                raise OutputUnsupported(f"its pictures are {name}")
        return Kind.VIDEO in found

    def _take_unit(self, kind: Kind, unit: AccessUnit) -> None:
        known = self._tracks.get(kind)
        if unit.track is not known:
            if unit.track == known:
                unit.track = known
            elif kind is Kind.VIDEO and not unit.key:
                return  # decoding cannot begin here
            else:
                self._tracks[kind] = unit.track
                self._announce()
        (self._items if self._is_announced else self._held).append(unit)

    def _announce(self) -> None:
        """Announces the tracks, if all are known."""
        if self._tracks.keys() >= set(self._kinds.values()):
            self._items.append(Tracks(self._tracks.get(Kind.VIDEO), self._tracks.get(Kind.AUDIO)))
            self._items += self._held
            self._held = []
            self._is_announced = True


async def chained(first: Iterable[bytes], chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    """Yields bytes that were read before, and those that follow."""
    for data in first:
        if data:
            yield data
    async for data in chunks:
        yield data
