"""Answers what is below `/<id>/vod/<start>/`: the page of a recorded session, its picture, its download as one MP4."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Final

from gateway.channels.channel import Channel
from gateway.channels.media_owners import MediaOwners
from gateway.http.request import Request
from gateway.http.response import Response, service_unavailable, text
from gateway.lib.quota import Quota
from gateway.outputs.clips.clip_service import ClipService, Movie
from gateway.outputs.storage.stored_pieces import StoredPieces
from gateway.playback.film_pages import FilmPages
from gateway.playback.segment_pictures import SegmentPictures
from gateway.ports import media_keys
from gateway.ports.errors import AtCapacity, CannotCut, NoSuchObject, NothingRecorded, StoreUnavailable
from gateway.ports.stores import ObjectStore
from gateway.vod.session_records import read_session

_PICTURE_AT: Final = 0.1  # of the session: its beginning is often black
_BUSY_SECONDS: Final = 10  # until a client should try again
_PER_ADDRESS: Final = 2  # downloads at a time: each keeps one of few places until its client has read it
_NO_SESSION: Final = text(404, "no such recording")


class SessionFiles:
    """The page and the files of sessions that are not hidden. The caller has already authorized the viewer.

    clips: joins a session to one MP4; None: viewers cannot download sessions.
    """

    def __init__(
        self,
        objects: ObjectStore,
        owners: MediaOwners,
        pages: FilmPages,
        pictures: SegmentPictures,
        clips: ClipService | None,
    ) -> None:
        self._objects = objects
        self._owners = owners
        self._pieces = StoredPieces(objects)
        self._pages = pages
        self._pictures = pictures
        self._clips = clips
        self._downloads = Quota(_PER_ADDRESS)

    async def __call__(self, request: Request, id: str, start: int, file: str) -> Response:
        """Answers `/<id>/vod/<start>/<file>`. start: ms since 1970. file: "" for the page."""
        playlist = media_keys.playlist_key(id, start)
        if not file:
            return await self._pages.recording(request, id, playlist.removeprefix(f"{id}/"))
        try:
            await self._objects.head(playlist)
            if (await read_session(self._objects, playlist)).hidden:
                return _NO_SESSION
            if file == "poster.jpg":
                return await self._pictures.picture((id, start), lambda: self._segment(playlist))
            owner = await self._owners.find(id)
            if owner is None or self._clips is None:
                return _NO_SESSION
            return await self._download(request, owner.channel, playlist, self._clips)
        except (NoSuchObject, NothingRecorded):
            return _NO_SESSION
        except CannotCut as error:
            return text(409, str(error))
        except AtCapacity as error:
            return service_unavailable(str(error), _BUSY_SECONDS)
        except StoreUnavailable as error:
            return service_unavailable("recordings cannot be read now", error.retry_after)

    async def _segment(self, playlist: str) -> AsyncIterator[bytes]:
        """Yields the bytes of the segment whose picture stands for a session."""
        pieces = await self._pieces.session(playlist)
        if not pieces:
            raise NoSuchObject(playlist)
        async for data in self._objects.read(pieces[int(len(pieces) * _PICTURE_AT)].key):
            yield data

    async def _download(self, request: Request, channel: Channel, playlist: str, clips: ClipService) -> Response:
        pieces = await self._pieces.session(playlist)
        if not pieces:
            return _NO_SESSION
        start, end = pieces[0].start, pieces[-1].end
        if end - start > clips.longest_export:
            return text(413, f"the recording is too long for one file: at most {clips.longest_export:g} s are possible")
        name = f"{channel.public_name}-{datetime.fromtimestamp(start, UTC):%Y-%m-%d_%H-%M-%S}.mp4"
        headers = {"Content-Disposition": f'attachment; filename="{name}"'}
        if request.method == "HEAD":
            return Response(200, None, "video/mp4", headers=headers)
        async with AsyncExitStack() as stack:
            if not request.exempt:
                if not self._downloads.take(request.peer):
                    return service_unavailable("too many downloads of this address", _BUSY_SECONDS, 429)
                stack.callback(self._downloads.give, request.peer)
            movie = await stack.enter_async_context(clips.export(channel, start, end, None, lambda: True, "download"))
            body = _MovieBody(stack.pop_all(), movie, clips.read)
            return Response(200, body, "video/mp4", headers=headers).sized(movie.size)


class _MovieBody:
    """The bytes of a movie. `aclose` deletes its file, also before the first byte is sent."""

    def __init__(self, stack: AsyncExitStack, movie: Movie, read: Callable[[Movie], AsyncIterator[bytes]]) -> None:
        self._stack = stack
        self._chunks = read(movie)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        return await anext(self._chunks)

    async def aclose(self) -> None:
        await self._stack.aclose()
