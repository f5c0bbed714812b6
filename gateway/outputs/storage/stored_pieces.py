"""Finds the stored media of a channel for a time range: the segments of on-demand sessions, and MP4 recordings."""

import asyncio
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from gateway.outputs.storage.recording_index import MAX_PLAYLIST_BYTES, read_start, stored_movie_seconds
from gateway.ports import media_keys
from gateway.ports.media_keys import MediaKind
from gateway.ports.stores import Object, ObjectStore

_MAX_MOVIES: Final = 10_000  # MP4 recordings of one time range; 30 s each: 83 hours
_MAX_MOVIE_SECONDS: Final = 86_400.0 + 3_600.0  # the longest `video_time`, and its last GOP
# The lines of a session's playlist that matter. `on_demand_session.playlist` writes them.
_LINE: Final = re.compile(
    rb"^(?:#EXTINF:([0-9]{1,9}(?:\.[0-9]{1,9})?),|#EXT-X-PROGRAM-DATE-TIME:([0-9T:.+-]{19,32}Z?)"
    rb"|(#EXT-X-DISCONTINUITY)|(720p/[0-9]{13}\.ts))\s*$",
    re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class StoredPiece:
    """A part of a channel's stored media that can be decoded on its own.

    kind: SEGMENT (MPEG-TS) or VIDEO (MP4).
    start: time of its first picture, seconds since 1970. seconds: duration.
    discontinuity: whether its times do not continue those of the previous piece.
    """

    key: str
    kind: MediaKind
    start: float
    seconds: float
    discontinuity: bool

    @property
    def end(self) -> float:
        return self.start + self.seconds


class StoredPieces:
    """The pieces in an object store. Methods raise StoreUnavailable.

    A time range contains the pieces that overlap it. Times are seconds since 1970.
    """

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects

    async def segments(self, channel: str, start: float, end: float) -> list[StoredPiece]:
        """Returns the on-demand segments of a time range, in order of time."""
        found: list[StoredPiece] = []
        await self.for_each(channel, start, end, found.append)
        return found

    async def session(self, key: str) -> list[StoredPiece]:
        """Returns the segments of one session's playlist; empty if it does not exist."""
        found: list[StoredPiece] = []
        await self._read(key, 0.0, float("inf"), found.append)
        return found

    async def for_each(self, channel: str, start: float, end: float, add: Callable[[StoredPiece], None]) -> None:
        """Passes the on-demand segments of a time range to `add`, in order of time. `add` runs in a thread.

        For callers that keep only a few values of each segment.
        """
        for key in await self._keys_of(channel, start, end):
            await self._read(key, start, end, add)

    async def _read(self, key: str, start: float, end: float, add: Callable[[StoredPiece], None]) -> None:
        text = await read_start(self._objects, key, MAX_PLAYLIST_BYTES) or b""
        channel = key.partition("/")[0]

        def read() -> None:
            for piece in read_playlist(channel, text):
                if piece.end > start and piece.start < end:
                    add(piece)

        await asyncio.to_thread(read)  # the playlist of a month has a million lines

    async def movies(self, channel: str, start: float, end: float) -> list[StoredPiece]:
        """Returns the MP4 recordings of a time range, in order of time; at most 10,000, the oldest are left out."""
        found: list[tuple[float, Object]] = []
        async for item in self._objects.list(f"{channel}/mp4/"):
            parsed = media_keys.parse(item.key)
            if parsed is None or parsed.kind is not MediaKind.VIDEO:
                continue
            if start - _MAX_MOVIE_SECONDS < parsed.start < end:
                found.append((parsed.start, item))
        found.sort(key=lambda entry: (entry[0], entry[1].key))
        pieces: list[StoredPiece] = []
        for at, item in reversed(found[-_MAX_MOVIES:]):  # the newest first
            seconds = await stored_movie_seconds(self._objects, item)
            if seconds is not None and at + seconds > start:
                pieces.append(StoredPiece(item.key, MediaKind.VIDEO, at, seconds, True))
            elif at < start:
                break
        return pieces[::-1]

    async def newest(self, channel: str) -> StoredPiece | None:
        """Returns the piece that ends last; None if there is none."""
        newest: list[StoredPiece] = []
        for _, key in reversed(await self._session_keys(channel)):
            if segments := await self.session(key):
                newest.append(segments[-1])
                break
        last: float | None = None
        async for item in self._objects.list(f"{channel}/mp4/"):
            if (parsed := media_keys.parse(item.key)) is not None:
                last = max(last or 0.0, parsed.start)
        if last is not None:
            newest += (await self.movies(channel, last, last + 0.001))[-1:]
        return max(newest, key=lambda piece: piece.end, default=None)

    async def _keys_of(self, channel: str, start: float, end: float) -> list[str]:
        """Returns the keys of the sessions that may have segments of a time range, the oldest first.

        A channel has one session at a time. So the session that began last before `start` is the oldest one that can
        reach into the range.
        """
        keys = await self._session_keys(channel)
        first = max((n for n, (at, _) in enumerate(keys) if at <= start), default=0)
        # Two nodes may have recorded the end and the beginning of two sessions at once.
        return [key for at, key in keys[max(first - 1, 0) :] if at < end]

    async def _session_keys(self, channel: str) -> list[tuple[float, str]]:
        """Returns the starts and the keys of all sessions, the oldest first."""
        keys = [item.key async for item in self._objects.list(f"{channel}/vod-")]
        parsed = [(media_keys.parse(key), key) for key in keys]
        return sorted((p.start, key) for p, key in parsed if p is not None and p.kind is MediaKind.ONDEMAND)


def read_playlist(channel: str, text: bytes) -> Iterator[StoredPiece]:
    """Yields the segments of a session's playlist. Lines that Millrace does not write are ignored.

    A segment without a date begins at the end of the previous one.
    """
    at: float | None = None
    seconds = 0.0
    discontinuity = True
    for match in _LINE.finditer(text):
        duration, date, mark, uri = match.groups()
        if duration is not None:
            seconds = float(duration)
        elif mark is not None:
            discontinuity = True
        elif date is not None:
            try:
                at = datetime.fromisoformat(date.decode()).timestamp()
            except (ValueError, OverflowError):
                at = None
        elif at is not None:
            yield StoredPiece(f"{channel}/{uri.decode()}", MediaKind.SEGMENT, at, seconds, discontinuity)
            at += seconds
            discontinuity = False
