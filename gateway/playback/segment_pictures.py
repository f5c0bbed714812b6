"""Makes pictures of stored segments: each once, from its first key frame, and caches them."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

from gateway.formats.ts.reader import TsReader
from gateway.http.response import Response, service_unavailable, text
from gateway.lib.bounded_dict import BoundedDict
from gateway.lib.tasks import Tasks
from gateway.media.errors import InvalidData
from gateway.media.track import AccessUnit, Kind
from gateway.playback.playlist_response import SEGMENT_CACHE
from gateway.ports.errors import NoSuchObject, OutputError, StoreUnavailable

_MAX_BYTES: Final = 4_000_000  # of a segment that are read until its first picture is complete
_BLOCK: Final = 16_384  # bytes that are read in one turn of the event loop
_MAX_WAITING: Final = 16  # pictures that are being made
_AGAIN_SECONDS: Final = 60.0  # until a segment without a picture is read again: a session that is recorded still grows
NO_PICTURE: Final = text(404, "there is no picture of that time")


class SegmentPictures:
    """Makes and caches pictures, one at a time.

    make_picture(unit, longest): returns a key frame as JPEG, or raises OutputError.
    longest: pixels of the longer side. most: cached pictures, and segments that are known to have none.
    cache: Cache-Control of the answers. clock: monotonic seconds.
    """

    def __init__(
        self,
        make_picture: Callable[[AccessUnit, int], Awaitable[bytes]],
        tasks: Tasks,
        longest: int,
        most: int,
        cache: str = SEGMENT_CACHE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._make_picture = make_picture
        self._tasks = tasks
        self._longest = longest
        self._control = cache
        self._clock = clock
        self._cache: BoundedDict[tuple[str, int], Response] = BoundedDict(most)
        self._without: BoundedDict[tuple[str, int], float] = BoundedDict(most)  # when they were read
        self._running: dict[tuple[str, int], asyncio.Task[Response]] = {}
        self._slot = asyncio.Semaphore(1)  # so that viewers who move over the time bar delay no other pictures

    def cached(self, key: tuple[str, int]) -> Response | None:
        """Returns the picture if it has been made. key: of the stream or channel, and a number of its picture."""
        cached = self._cache.get(key)
        if cached is not None:
            self._cache.move_to_end(key)
        return cached

    async def picture(self, key: tuple[str, int], read: Callable[[], AsyncIterator[bytes]]) -> Response:
        """Returns the picture of a segment. read: yields its bytes."""
        if (cached := self.cached(key)) is not None:
            return cached
        if self._clock() - self._without.get(key, -math.inf) < _AGAIN_SECONDS:
            return NO_PICTURE
        running = self._running.get(key)
        if running is None:
            if len(self._running) >= _MAX_WAITING:
                return service_unavailable("too many pictures are requested", 1)
            running = self._running[key] = self._tasks.start(self._make(key, read), key[0])
        return await asyncio.shield(running)

    async def _make(self, key: tuple[str, int], read: Callable[[], AsyncIterator[bytes]]) -> Response:
        try:
            async with self._slot:
                unit = await _first_picture(read())
                if unit is None:
                    return self._has_none(key)
                picture = await self._make_picture(unit, self._longest)
        except (NoSuchObject, InvalidData):
            return self._has_none(key)
        except (OutputError, StoreUnavailable, OSError):
            return service_unavailable("the picture cannot be made now", 1)
        finally:
            del self._running[key]
        answer = self._cache[key] = Response(200, picture, "image/jpeg", cache=self._control)
        return answer

    def _has_none(self, key: tuple[str, int]) -> Response:
        self._without[key] = self._clock()
        return NO_PICTURE


async def _first_picture(chunks: AsyncIterator[bytes]) -> AccessUnit | None:
    """Returns the first key frame of a segment. Raises InvalidData."""
    reader, size = TsReader(), 0
    async for chunk in chunks:
        for at in range(0, len(chunk), _BLOCK):
            for unit in reader.receive(chunk[at : at + _BLOCK]):
                if unit.track.kind is Kind.VIDEO and unit.key:
                    return unit
            await asyncio.sleep(0)
        size += len(chunk)
        if size > _MAX_BYTES:
            return None
    return next((u for u in reader.finish() if u.track.kind is Kind.VIDEO and u.key), None)
