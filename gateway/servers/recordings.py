"""Recordings: what is stored of a channel, below `/<id>/vod/`: files of this machine, or objects passed through."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from gateway.hub.errors import NoSuchObject, StoreAway
from gateway.hub.names import is_object_key
from gateway.hub.ports import Object, ObjectStore
from gateway.lib.content_types import content_type
from gateway.servers.files import Files
from gateway.servers.request import Request
from gateway.servers.response import IMMUTABLE, Response, text, try_later
from gateway.servers.segmented import M3U8, copied_query
from gateway.servers.stored import stored, unchanged, validators

_GROWING: Final = "public, max-age=2"  # a playlist that grows is fetched again and again
_MOST_PLAYLIST: Final = 32 << 20
_NONE: Final = text(404, "no such recording")
_URI: Final = re.compile(r'(URI=")([^"\r\n]*)(")')


class Recordings:
    """Answers for stored media; who asks was let in already.

    media: the folder of a local object store; None: the objects are elsewhere, and their bytes pass through here, as
    fast as the client takes them. Media never changes under its name; a playlist may grow. The query of a playlist is
    copied to every URI in it, so that its signature covers the segments.
    """

    def __init__(self, objects: ObjectStore, media: Path | None) -> None:
        self._objects = objects
        self._files = Files(media) if media is not None else None

    async def __call__(self, request: Request, id: str, path: str) -> Response:
        """The object `<id>/<path>`."""
        return await self.serve(request, f"{id}/{path}")

    async def serve(self, request: Request, key: str, cache: str = IMMUTABLE) -> Response:
        """The object `key`; names that begin with "." are unfinished or private: 404. cache: of media."""
        if not is_object_key(key) or any(part.startswith(".") for part in key.split("/")):
            return _NONE
        try:
            if key.endswith(".m3u8"):
                return await self._playlist(request, key)
            if self._files is not None:
                return await self._files.serve(request, key, cache)
            return await self._object(request, key, cache)
        except NoSuchObject:
            return _NONE
        except StoreAway as away:
            return try_later("recordings cannot be read now", away.retry_after)

    async def _playlist(self, request: Request, key: str) -> Response:
        suffix = copied_query(request)
        if isinstance(suffix, Response):
            return suffix
        found = await self._objects.head(key)
        if found.size > _MOST_PLAYLIST:
            return text(500, "the playlist is too large")
        headers = validators(_tag(found), found.modified)
        if not suffix and unchanged(request, _tag(found), found.modified):
            return Response(304, None, cache=_GROWING, headers=headers)
        body = b"".join([piece async for piece in self._objects.read(key)])
        if suffix:
            body = with_query(body.decode("utf-8", "replace"), suffix).encode()
            headers = {}
        return Response(200, body, M3U8, cache=_GROWING, headers=headers, compress=True)

    async def _object(self, request: Request, key: str, cache: str) -> Response:
        found = await self._objects.head(key)

        def body(first: int, end: int) -> AsyncIterator[bytes]:
            return self._objects.read(key, first, end)

        kind = content_type(key)
        return stored(request, body, found.size, tag=_tag(found), modified=found.modified, kind=kind, cache=cache)


def with_query(playlist: str, suffix: str) -> str:
    """The playlist with `suffix` ("?…") behind every relative URI, in lines of their own and in tags' attributes.

    A URI that leads to another host is none of ours: a signature is not told there.
    """

    def extended(uri: str) -> str:
        if "://" in uri or uri.startswith("//"):
            return uri
        return uri + (suffix if "?" not in uri else "&" + suffix[1:])

    lines = []
    for line in playlist.split("\n"):
        bare = line.rstrip("\r")
        if not bare:
            lines.append(line)
        elif bare.startswith("#"):
            lines.append(_URI.sub(lambda m: m[1] + extended(m[2]) + m[3], line))
        else:
            lines.append(extended(bare) + line[len(bare) :])
    return "\n".join(lines)


def _tag(found: Object) -> str:
    return f'"{round(found.modified * 1000):x}-{found.size:x}"'
