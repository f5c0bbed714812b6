"""Lists a channel's recordings and pictures, newest first, and deletes them."""

import asyncio
import heapq
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Final

from gateway.ports import media_keys
from gateway.ports.errors import NoSuchObject
from gateway.ports.stores import Object, ObjectStore
from gateway.vod.session_records import NO_RECORD, SessionRecord, read_session

_HEAD_BYTES: Final = 256  # bytes at the start of a finished MP4, including its duration
MAX_PLAYLIST_BYTES: Final = 32 << 20
_MAX_CONCURRENT: Final = 8
_DURATION = re.compile(rb"^#EXTINF:([0-9]{1,9}(?:\.[0-9]{1,9})?),", re.MULTILINE)
_SEGMENT = re.compile(rb"^(720p/[0-9]{13}\.ts)\s*$", re.MULTILINE)
# The prefix of each kind below `<id>/`.
_PREFIXES: Final = {
    media_keys.MediaKind.VIDEO: "mp4/",
    media_keys.MediaKind.ONDEMAND: "vod-",
    media_keys.MediaKind.CLIP: "clips/",
    media_keys.MediaKind.MOTION: "motion/mp4/",
    media_keys.MediaKind.IMAGE: "images/",
}
RECORDED: Final = (
    media_keys.MediaKind.VIDEO,
    media_keys.MediaKind.ONDEMAND,
    media_keys.MediaKind.CLIP,
    media_keys.MediaKind.MOTION,
)
LISTED: Final = tuple(_PREFIXES)


@dataclass(frozen=True, slots=True)
class StoredRecording:
    """A recording.

    start: time of its first frame, seconds since 1970. seconds: duration, None if unknown.
    size: bytes; for a session, the bytes of its playlist. poster: key of the picture of a motion clip.
    modified: time of its storage, seconds since 1970. record: what operators say of a session.
    """

    key: str
    kind: media_keys.MediaKind
    start: float
    size: int
    seconds: float | None = None
    poster: str | None = None
    modified: float = 0.0
    record: SessionRecord = NO_RECORD


class RecordingIndex:
    """The recordings in an object store. Methods raise StoreUnavailable."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects

    async def list(
        self,
        channel: str,
        limit: int,
        before: str | tuple[float, str] = "",
        kinds: Collection[media_keys.MediaKind] = RECORDED,
    ) -> list[StoredRecording]:
        """Returns the newest `limit` recordings of a channel, of these kinds (members of LISTED).

        before: a key, or a start and a key: only older recordings are returned.
        """
        last = _order(before) if isinstance(before, str) else before
        newest: list[tuple[float, str, Object, media_keys.MediaKey]] = []
        records: set[str] = set()
        for kind in kinds:
            async for item in self._objects.list(f"{channel}/{_PREFIXES[kind]}"):
                parsed = media_keys.parse(item.key)
                if parsed is None or parsed.kind is not kind:
                    if item.key.endswith(".json"):
                        records.add(item.key)
                    continue
                if last is not None and (parsed.start, item.key) >= last:
                    continue
                heapq.heappush(newest, (parsed.start, item.key, item, parsed))
                if len(newest) > limit:
                    heapq.heappop(newest)
        semaphore = asyncio.Semaphore(_MAX_CONCURRENT)

        async def described(item: Object, parsed: media_keys.MediaKey) -> StoredRecording:
            async with semaphore:
                recording = StoredRecording(item.key, parsed.kind, parsed.start, item.size, modified=item.modified)
                if media_keys.session_record_key(item.key) in records:
                    recording = replace(recording, record=await read_session(self._objects, item.key))
                if parsed.kind is media_keys.MediaKind.IMAGE:
                    return recording
                return replace(recording, seconds=await self._seconds(item), poster=await self._poster(item, parsed))

        # Recordings with the same start are ordered by key, so heap entries never compare objects.
        ordered = sorted(newest, key=lambda entry: entry[:2], reverse=True)
        return await asyncio.gather(*[described(item, parsed) for _, _, item, parsed in ordered])

    async def files_of(self, key: str, moved: str = "") -> tuple[str, ...]:
        """Returns the keys of a recording: its own, and those of its segments, its picture and its captions.

        Its own is the first: when it is deleted first, no playlist contains a deleted segment. Raises NoSuchObject.
        moved: the prefix to which an interrupted deletion has moved its own; then some of the others may not exist.
        """
        parsed = media_keys.parse(key)
        if parsed is None or parsed.kind in (media_keys.MediaKind.SEGMENT, media_keys.MediaKind.CAPTIONS):
            raise NoSuchObject(key)
        await self._objects.head(moved + key)
        if parsed.kind is media_keys.MediaKind.MOTION:
            return key, _picture(key)
        if parsed.kind is media_keys.MediaKind.VIDEO:
            beside = [item.key async for item in self._objects.list(f"{key.removesuffix('.mp4')}.")]
            return key, *(name for name in beside if name.endswith(".vtt"))
        if parsed.kind is media_keys.MediaKind.ONDEMAND:
            segments = [f"{parsed.channel}/{uri}" for uri in await playlist_segments(self._objects, moved + key)]
            record = media_keys.session_record_key(key)
            try:
                await self._objects.head(record)
                beside = [record]
            except NoSuchObject:
                beside = []
            return key, *beside, *await captions_of_session(self._objects, key, segments, bool(moved)), *segments
        return (key,)

    async def _seconds(self, item: Object) -> float | None:
        if not item.key.endswith(".m3u8"):
            return await stored_movie_seconds(self._objects, item)
        text = await read_start(self._objects, item.key, MAX_PLAYLIST_BYTES)
        return (
            None if text is None else await asyncio.to_thread(_playlist_seconds, text)
        )  # a month of segments takes a second

    async def _poster(self, item: Object, parsed: media_keys.MediaKey) -> str | None:
        """Returns the key of a motion clip's picture; None if it does not exist, or for other kinds."""
        if parsed.kind is not media_keys.MediaKind.MOTION:
            return None
        key = _picture(item.key)
        try:
            await self._objects.head(key)
        except NoSuchObject:
            return None
        return key


async def read_start(objects: ObjectStore, key: str, max_bytes: int) -> bytes | None:
    """Returns the first bytes of an object, at most `max_bytes`; None if it does not exist (any more)."""
    try:
        return b"".join([chunk async for chunk in objects.read(key, 0, max_bytes)])
    except NoSuchObject:
        return None


async def playlist_segments(objects: ObjectStore, key: str) -> list[str]:
    """Returns the URIs of the segments in a session's playlist; empty if it does not exist."""
    text = await read_start(objects, key, MAX_PLAYLIST_BYTES) or b""
    return await asyncio.to_thread(lambda: [found[1].decode() for found in _SEGMENT.finditer(text)])


async def captions_of_session(
    objects: ObjectStore, key: str, segments: Sequence[str], interrupted: bool = False
) -> list[str]:
    """Returns the keys of a session's captions, then of its multivariant playlist; empty if it has none.

    key: of the session's playlist. segments: the keys of its segments. The captions are found in a listing, because a
    session may have many segments without them. interrupted: a deletion may have removed the multivariant playlist.
    """
    multivariant = media_keys.multivariant_key(key)
    try:
        await objects.head(multivariant)
    except NoSuchObject:
        if not interrupted:
            return []
    found, belonging = [], set(segments)
    if segments:
        async for item in objects.list(common_beginning([segments[0].removesuffix(".ts"), segments[-1]])):
            captioned = media_keys.captioned(item.key)
            if captioned is not None and captioned[0] in belonging:
                found.append(item.key)
    return [*found, multivariant]  # the last, so that an interrupted deletion in this order finds the captions


def common_beginning(keys: Collection[str]) -> str:
    """Returns the characters with which all keys begin."""
    first, last = min(keys), max(keys)
    return first[: next((at for at, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))]


def _playlist_seconds(text: bytes) -> float:
    return round(sum(float(found[1]) for found in _DURATION.finditer(text)), 3)  # `findall` would block all threads


def _picture(clip: str) -> str:
    """Returns the key of a motion clip's picture."""
    return clip.replace("/motion/mp4/", "/motion/images/", 1).removesuffix(".mp4") + ".jpeg"


async def stored_movie_seconds(objects: ObjectStore, item: Object) -> float | None:
    """Returns the duration (seconds) of a stored MP4; None if it is unknown."""
    return movie_seconds(await read_start(objects, item.key, min(item.size, _HEAD_BYTES)) or b"")


def movie_seconds(head: bytes) -> float | None:
    """Returns the duration (seconds) in the movie header; None if `head` does not contain it."""
    at = head.find(b"mvhd")
    if at < 0 or len(head) < at + 36:
        return None
    # ISO/IEC 14496-12 §8.2.2: times and the duration have 64 bits in version 1, else 32.
    scale_at, size = (at + 24, 8) if head[at + 4] == 1 else (at + 16, 4)
    scale = int.from_bytes(head[scale_at : scale_at + 4], "big")
    duration = int.from_bytes(head[scale_at + 4 : scale_at + 4 + size], "big")
    # 0: the movie is in fragments.
    return round(duration / scale, 3) if scale and duration else None


def _order(key: str) -> tuple[float, str] | None:
    """Returns the start and the key, by which recordings are sorted; None for "" and invalid keys."""
    parsed = media_keys.parse(key) if key else None
    return (parsed.start, key) if parsed is not None else None
