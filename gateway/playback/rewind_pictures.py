"""Answers `rewind/<seconds>.jpg`: a small picture of the time to which a viewer may go back."""

import re
from collections.abc import Awaitable, Callable
from typing import Final

from gateway.http.request import Request
from gateway.http.response import Response
from gateway.lib.tasks import Tasks
from gateway.live.stream import Stream
from gateway.media.track import AccessUnit
from gateway.playback.rewind import Rewind
from gateway.playback.segment_pictures import NO_PICTURE, SegmentPictures

_PATH: Final = re.compile(r"rewind/([0-9]{9,11})\.jpg", re.ASCII)
_LONGEST: Final = 192  # pixels of the longer side
_MAX_PICTURES: Final = 1_000  # cached pictures of all streams, about 5 kB each


class RewindPictures:
    """Answers with the picture of the segment at a time. make_picture: see SegmentPictures."""

    def __init__(
        self, rewind: Rewind, make_picture: Callable[[AccessUnit, int], Awaitable[bytes]], tasks: Tasks
    ) -> None:
        self._rewind = rewind
        self._pictures = SegmentPictures(make_picture, tasks, _LONGEST, _MAX_PICTURES)

    async def __call__(self, request: Request, stream: Stream, rest: str) -> Response:
        match = _PATH.fullmatch(rest)
        found = self._rewind.segment_at(stream, float(match[1])) if match is not None else None
        if found is None:
            return NO_PICTURE
        name, read = found
        return await self._pictures.picture((stream.name, name), read)
