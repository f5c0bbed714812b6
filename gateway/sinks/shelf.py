"""Shelf: the recordings and pictures that a channel has, the newest first, and taking one away."""

from __future__ import annotations

import asyncio
import heapq
import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Final

from gateway.hub.errors import NoSuchObject
from gateway.hub.ports import Object, ObjectStore
from gateway.sinks import naming

_HEAD: Final = 256  # bytes in which a finished MP4 says how long it is
_MOST_PLAYLIST: Final = 32 << 20
_AT_ONCE: Final = 8
_DURATION = re.compile(rb"^#EXTINF:([0-9]{1,9}(?:\.[0-9]{1,9})?),", re.MULTILINE)
_SEGMENT = re.compile(rb"^(720p/[0-9]{13}\.ts)\s*$", re.MULTILINE)
# Where each kind lies below `<id>/`.
_PLACES: Final = {
    naming.KeptKind.VIDEO: "mp4/",
    naming.KeptKind.ONDEMAND: "vod-",
    naming.KeptKind.MOTION: "motion/mp4/",
    naming.KeptKind.IMAGE: "images/",
}
RECORDED: Final = (naming.KeptKind.VIDEO, naming.KeptKind.ONDEMAND, naming.KeptKind.MOTION)
LISTED: Final = tuple(_PLACES)


@dataclass(frozen=True, slots=True)
class Kept:
    """A recording. start: seconds since the epoch of its first frame; seconds: it plays, None where nobody knows; size:
    bytes, of a session those of its playlist; poster: key of the picture that was taken with it."""

    key: str
    kind: naming.KeptKind
    start: float
    size: int
    seconds: float | None = None
    poster: str | None = None


class Shelf:
    """Over an object store; raises StoreAway."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects

    async def list(
        self, channel: str, limit: int, before: str = "", kinds: Collection[naming.KeptKind] = RECORDED
    ) -> list[Kept]:
        """The newest `limit` of a channel that are of these kinds (of LISTED); before: a key, those that come after it
        in this order."""
        last = _order(before)
        newest: list[tuple[float, str, Object, naming.Kept]] = []
        for kind in kinds:
            async for item in self._objects.list(f"{channel}/{_PLACES[kind]}"):
                named = naming.parse(item.key)
                if named is None or (last is not None and (named.start, item.key) >= last):
                    continue
                heapq.heappush(newest, (named.start, item.key, item, named))
                if len(newest) > limit:
                    heapq.heappop(newest)
        slots = asyncio.Semaphore(_AT_ONCE)

        async def measured(item: Object, named: naming.Kept) -> Kept:
            async with slots:
                kept = Kept(item.key, named.kind, named.start, item.size)
                if named.kind is naming.KeptKind.IMAGE:
                    return kept
                return replace(kept, seconds=await self._seconds(item), poster=await self._poster(item, named))

        # The key decides between two of one time: heap entries never compare objects.
        ordered = sorted(newest, key=lambda entry: entry[:2], reverse=True)
        return await asyncio.gather(*[measured(item, named) for _, _, item, named in ordered])

    async def delete(self, key: str) -> None:
        """One recording: a session with its segments, a clip with its picture. Raises NoSuchObject."""
        named = naming.parse(key)
        if named is None or named.kind is naming.KeptKind.SEGMENT:
            raise NoSuchObject(key)
        item = await self._objects.head(key)
        segments: list[bytes] = []
        if named.kind is naming.KeptKind.ONDEMAND:
            segments = _SEGMENT.findall(await self._read(item, _MOST_PLAYLIST))
        await self._objects.delete(key)  # first: a playlist names nothing that is gone
        if named.kind is naming.KeptKind.MOTION:
            await self._objects.delete(_picture(key))
        for uri in segments:
            await self._objects.delete(f"{named.channel}/{uri.decode()}")

    async def _seconds(self, item: Object) -> float | None:
        try:
            if item.key.endswith(".m3u8"):
                text = await self._read(item, _MOST_PLAYLIST)
                return round(sum(float(n) for n in _DURATION.findall(text)), 3)
            return movie_seconds(await self._read(item, _HEAD))
        except NoSuchObject:  # deleted meanwhile
            return None

    async def _poster(self, item: Object, named: naming.Kept) -> str | None:
        """Only motion takes a picture with each clip; it may have been deleted, or never been made."""
        if named.kind is not naming.KeptKind.MOTION:
            return None
        key = _picture(item.key)
        try:
            await self._objects.head(key)
        except NoSuchObject:
            return None
        return key

    async def _read(self, item: Object, most: int) -> bytes:
        return b"".join([piece async for piece in self._objects.read(item.key, 0, min(item.size, most))])


def _picture(clip: str) -> str:
    """The key of the picture that was taken with a motion clip."""
    return clip.replace("/motion/mp4/", "/motion/images/", 1).removesuffix(".mp4") + ".jpeg"


def movie_seconds(head: bytes) -> float | None:
    """What the movie header says, where it stands at the beginning; None where it does not."""
    at = head.find(b"mvhd")
    if at < 0 or len(head) < at + 36:
        return None
    if head[at + 4] == 1:
        scale, duration = int.from_bytes(head[at + 24 : at + 28], "big"), int.from_bytes(head[at + 28 : at + 36], "big")
    else:
        scale, duration = int.from_bytes(head[at + 16 : at + 20], "big"), int.from_bytes(head[at + 20 : at + 24], "big")
    return round(duration / scale, 3) if scale else None


def _order(key: str) -> tuple[float, str] | None:
    named = naming.parse(key) if key else None
    return (named.start, key) if named is not None else None
