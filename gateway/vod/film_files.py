"""Finds the files of a film in the object store."""

import re
from pathlib import PurePosixPath
from typing import Any, Final

from gateway.ports.errors import NoSuchObject
from gateway.ports.films import MAX_TITLE
from gateway.ports.stores import ObjectStore
from gateway.ports.vod_names import VodNames

_MAX_PLAYLIST: Final = 4 << 20  # bytes; the length of a film with a larger playlist stays unknown
_EXTINF: Final = re.compile(rb"^#EXTINF:([0-9]{1,6}(?:\.[0-9]{1,9})?)", re.MULTILINE)


async def list_files(objects: ObjectStore, names: VodNames) -> dict[str, int]:
    """Returns the sizes of a film's files in the object store, by name. Omits other files of its folder."""
    return {
        file: item.size
        async for item in objects.list(f"{names.prefix}/")
        if names.has(file := item.key.removeprefix(f"{names.prefix}/"))
    }


async def find_files(objects: ObjectStore, names: VodNames) -> dict[str, Any] | None:
    """Returns `files`, `size` and `duration` of a film in the object store; None if it has no playlist.

    Raises StoreUnavailable.
    """
    sizes = await list_files(objects, names)
    if names.master not in sizes:
        return None
    named = {"hls": names.master, "poster": names.poster, "thumbnail": names.thumbnail, "preview": names.preview}
    return {
        "files": {name: names.key(file) for name, file in named.items() if file in sizes},
        "size": sum(sizes.values()),
        "duration": await _duration(objects, names, sizes.get(names.playlist, _MAX_PLAYLIST)),
    }


async def _duration(objects: ObjectStore, names: VodNames, size: int) -> float:
    """Returns the seconds of a film by its playlist; 0 if they are unknown."""
    if size >= _MAX_PLAYLIST:
        return 0.0
    try:
        playlist = b"".join([piece async for piece in objects.read(names.key(names.playlist))])
    except NoSuchObject:
        return 0.0
    return round(sum(float(seconds) for seconds in _EXTINF.findall(playlist)), 3)


def title_of(source: str) -> str:
    """Returns the title of a film without one: the name of the source file, without its suffix."""
    path = PurePosixPath(source)
    name = path.stem if path.suffix else path.name
    return "".join(c for c in name if c.isprintable())[:MAX_TITLE] or "video"
