"""Answers `snapshot.jpg`: the latest key frame of a live stream as a picture."""

from collections.abc import Awaitable, Callable
from typing import Final

from gateway.http.request import Request
from gateway.http.response import Response, service_unavailable, text
from gateway.live.stream import Stream
from gateway.playback.playlist_response import not_streaming
from gateway.ports.errors import OutputError

_CACHE_CONTROL: Final = "public, max-age=1"


class SnapshotResponder:
    """The responder of `snapshot.jpg`. latest: returns the latest key frame as JPEG, or raises OutputError."""

    def __init__(self, latest: Callable[[Stream], Awaitable[bytes]]) -> None:
        self._latest = latest

    async def __call__(self, request: Request, stream: Stream, rest: str) -> Response:
        if stream.ended is not None:
            return not_streaming(stream.name)
        tracks = stream.tracks
        if tracks is not None and tracks.video is None:
            return text(404, f"{stream.name} has no picture")
        try:
            picture = await self._latest(stream)
        except OutputError as error:
            return service_unavailable(str(error), 1)
        return Response(200, picture, "image/jpeg", cache=_CACHE_CONTROL)
