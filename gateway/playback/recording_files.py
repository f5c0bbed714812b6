"""Serves the stored media of a channel below `/<id>/vod/`."""

import asyncio
import re
from functools import partial
from typing import Final

from gateway.channels.names import is_served_key
from gateway.http.request import Request
from gateway.http.response import IMMUTABLE, VARY, Response, service_unavailable, text
from gateway.http.validators import file_response, unchanged, validators
from gateway.lib.content_types import content_type
from gateway.packaging.caption_files import TS_DELAY, VTT, vtt_file
from gateway.playback.film_pages import FilmPages
from gateway.playback.playlist_response import M3U8, copied_query, refuse_copies
from gateway.playback.session_files import SessionFiles
from gateway.ports import media_keys
from gateway.ports.errors import NoSuchObject, StoreUnavailable
from gateway.ports.stores import Object, ObjectStore

_GROWING: Final = "public, max-age=2"  # players fetch a growing playlist repeatedly
_MAX_PLAYLIST: Final = 32 << 20  # bytes
_LINES_PER_TURN: Final = 1_000  # of a playlist into which a query is copied; takes about a millisecond
NO_RECORDING: Final = text(404, "no such recording")
_URI: Final = re.compile(r'(URI=")([^"\r\n]*)(")')


class RecordingFiles:
    """Serves stored media. The caller has already authorized the viewer.

    pages: the player pages of recordings. sessions: the pages and files of sessions.
    Objects are read as fast as the client reads the answer.
    A media file never changes; a playlist may grow.
    The query of a playlist is copied to every URI in it, so that its signature is valid for the segments.
    Subtitle playlists of a session are made from its playlist. A segment without captions has an empty file.
    """

    def __init__(
        self, objects: ObjectStore, pages: FilmPages | None = None, sessions: SessionFiles | None = None
    ) -> None:
        self._objects = objects
        self._pages = pages
        self._sessions = sessions

    async def __call__(self, request: Request, id: str, path: str) -> Response:
        """Serves the recording `<id>/<path>`, or its player page. Answers 404 for other objects of the store."""
        session = media_keys.session_file(path)
        if session is not None and self._sessions is not None:
            return await self._sessions(request, id, *session)
        if path.endswith("/") and self._pages is not None:
            return await self._pages.recording(request, id, path[:-1])
        key = f"{id}/{path}"
        return await self.serve(request, key) if is_recording(key) else NO_RECORDING

    async def serve(self, request: Request, key: str, cache: str = IMMUTABLE) -> Response:
        """Serves the object `key`. Answers 404 for names that begin with "." (unfinished or private).

        cache: Cache-Control of media.
        """
        if not is_served_key(key):
            return NO_RECORDING
        try:
            if key.endswith(".m3u8"):
                return await self._playlist(request, key)
            return await self._object(request, key, cache)
        except NoSuchObject:
            return NO_RECORDING
        except StoreUnavailable as error:
            return service_unavailable("recordings cannot be read now", error.retry_after)

    async def _playlist(self, request: Request, key: str) -> Response:
        suffix = copied_query(request)
        if isinstance(suffix, Response):
            return suffix
        source, track = media_keys.captioned(key) or (key, "")
        if track == media_keys.MULTIVARIANT:
            source, track = key, ""
        if track:
            listed = b"".join([piece async for piece in self._objects.read(media_keys.multivariant_key(source))])
            if f'URI="{key.rpartition("/")[2]}"'.encode() not in listed:
                return NO_RECORDING
        entry = await self._objects.head(source)
        if entry.size > _MAX_PLAYLIST:
            return text(500, "the playlist is too large")
        headers = validators(_entity_tag(entry), entry.modified)
        if not suffix and unchanged(request, _entity_tag(entry), entry.modified):
            return Response(304, None, cache=_GROWING, headers=headers | VARY)
        body = b"".join([piece async for piece in self._objects.read(source)])
        if track:
            body = body.replace(b".ts\n", f".{track}.vtt\n".encode())
        if suffix:
            if (refusal := refuse_copies(suffix, _uris_of(body))) is not None:
                return refusal
            body = await _with_query(body, suffix)
            headers = {}
        return Response(200, body, M3U8, cache=_GROWING, headers=headers, compress=True)

    async def _object(self, request: Request, key: str, cache: str) -> Response:
        try:
            entry = await self._objects.head(key)
        except NoSuchObject:
            captioned = media_keys.captioned(key)
            if captioned is None:
                raise
            await self._objects.head(captioned[0])
            return Response(200, vtt_file((), 0, TS_DELAY), VTT, cache=cache)
        body, tag, kind = partial(self._objects.read, key), _entity_tag(entry), content_type(key)
        return file_response(request, body, entry.size, tag=tag, modified=entry.modified, kind=kind, cache=cache)


def is_recording(key: str) -> bool:
    """Whether a key has the form of a recording's or poster's key."""
    return media_keys.parse(key) is not None or media_keys.is_poster(key)


async def _with_query(playlist: bytes, suffix: str) -> bytes:
    """Does what `with_query` does, but lets other requests run between the parts of a long playlist."""
    lines = playlist.decode("utf-8", "replace").split("\n")
    pieces = []
    for first in range(0, len(lines), _LINES_PER_TURN):
        if first:
            await asyncio.sleep(0)
        pieces.append(with_query("\n".join(lines[first : first + _LINES_PER_TURN]), suffix))
    return "\n".join(pieces).encode()


def _uris_of(playlist: bytes) -> int:
    """Returns the number of lines that are URIs, of which the last one may be empty."""
    return playlist.count(b"\n") + 1 - playlist.count(b"\n#")


def with_query(playlist: str, suffix: str) -> str:
    """Returns the playlist with `suffix` ("?…") after every relative URI, in URI lines and in attributes of tags.

    A URI of another host is not changed, so that the signature is not sent to that host.
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


def _entity_tag(entry: Object) -> str:
    return f'"{round(entry.modified * 1000):x}-{entry.size:x}"'
