"""Finds a playlist's item in the object store, and reads its bytes."""

import asyncio
from bisect import bisect_right
from collections import deque
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import Final
from urllib.parse import unquote

from gateway.channels.names import is_object_key
from gateway.formats.hls.playlist_reader import MAX_BYTES, MediaPlaylist, parse_playlist
from gateway.inputs.demux_client import ByteReader
from gateway.media.errors import InvalidData
from gateway.ports.errors import NoSuchObject, OutputUnsupported
from gateway.ports.stores import ObjectStore
from gateway.ports.vod_names import names_in, names_of

_PLAYLIST: Final = ".m3u8"


@dataclass(frozen=True, slots=True)
class StoredFilm:
    """The bytes of an item. size, format, start: see DemuxRequest."""

    reader: ByteReader
    size: int = 0
    format: str = ""
    start: float = 0.0


async def read_object(objects: ObjectStore, key: str, offset: int, size: int) -> bytes:
    """Returns bytes of an object. Raises NoSuchObject if it was deleted, StoreUnavailable."""
    return b"".join([chunk async for chunk in objects.read(key, offset, offset + size)])


class SegmentReader:
    """Reads the segments of a converted film in order, as one transport stream. Between two reads, nothing is open."""

    def __init__(self, objects: ObjectStore, keys: list[str]) -> None:
        self._objects = objects
        self._keys = deque(keys)
        self._at = 0  # bytes of the first of `_keys` that were read

    async def read(self, offset: int, size: int) -> bytes:
        """Returns the next bytes; b"" at the end. `offset` is ignored, because the demuxer reads in order.

        Raises NoSuchObject if a segment was deleted, StoreUnavailable.
        """
        while self._keys:
            data = await read_object(self._objects, self._keys[0], self._at, size)
            self._at += len(data)
            if len(data) < size:
                self._keys.popleft()
                self._at = 0
            if data:
                return data
        return b""


async def open_film(objects: ObjectStore, item: str, offset: float = 0.0) -> StoredFilm | None:
    """Returns the bytes of an item: a file, a folder of a converted film, or an HLS playlist.

    offset: seconds that are left out at the beginning. Returns None if the film is not longer than this.
    If the file of an upload was deleted after its conversion, the converted film is played.
    Raises NoSuchObject, StoreUnavailable, OutputUnsupported.
    """
    if item.endswith("/"):
        return await _open_folder(objects, item.removesuffix("/"), offset)
    if item.endswith(_PLAYLIST):
        return await _open_playlist(objects, item, offset)
    try:
        status = await objects.head(item)
    except NoSuchObject:
        try:
            return await _open_folder(objects, names_of(item).prefix, offset)
        except (NoSuchObject, ValueError):
            raise NoSuchObject(item) from None
    if not status.size:
        raise OutputUnsupported("the file is empty")
    return StoredFilm(partial(read_object, objects, item), status.size, start=offset)


async def _open_folder(objects: ObjectStore, folder: str, offset: float) -> StoredFilm | None:
    names = names_in(folder)
    return await _open_playlist(objects, names.key(names.playlist), offset)


async def _open_playlist(objects: ObjectStore, key: str, offset: float) -> StoredFilm | None:
    text = await read_object(objects, key, 0, MAX_BYTES + 1)
    keys = await asyncio.to_thread(_segment_keys, text, key.rpartition("/")[0], offset)
    return StoredFilm(SegmentReader(objects, keys).read, format="mpegts") if keys else None


def _segment_keys(text: bytes, folder: str, offset: float) -> list[str]:
    """Returns the keys of the segments after `offset`. Raises OutputUnsupported."""
    try:
        playlist = parse_playlist(text)
    except InvalidData as error:
        raise OutputUnsupported(str(error)) from error
    if not isinstance(playlist, MediaPlaylist):
        raise OutputUnsupported("a playlist of variants is no film: its folder is expected")
    files = [unquote(segment.media.uri) for segment in playlist.segments]
    keys = [f"{folder}/{file}" if folder else file for file in files]
    if not keys or not all(is_object_key(k) and k.endswith(".ts") for k in keys):
        raise OutputUnsupported("its playlist has no transport stream segments beside it")
    # Segments begin with key frames, so playing begins at the segment that contains the offset.
    ends = list(accumulate(segment.seconds for segment in playlist.segments))
    return keys[bisect_right(ends, offset) if offset else 0 :]
