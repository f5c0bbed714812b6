"""Which files a holder gives to other nodes."""

import inspect
from typing import Any, cast

import pytest

from gateway.http.request import Request
from gateway.http.response import Response, text
from gateway.live.stream import Stream
from gateway.playback.internal_playback import InternalPlayback
from gateway.playback.router import MediaRoute, MediaRoutes


class Streams:
    """A stream with one output."""

    bitrate = 2_500_000

    def __init__(self, output: str) -> None:
        self._output = output

    def find_recent(self, name: str) -> Stream:
        return cast(Stream, self)

    def has_output(self, name: str) -> bool:
        return name == self._output


@pytest.mark.parametrize(("output", "status"), [("hls", 200), ("rewind", 200), ("cmaf", 404)])
async def test_a_playlist_is_given_if_the_stream_has_either_output_of_its_route(output: str, status: int) -> None:
    route = MediaRoute("hls", lambda request, stream, path: text(200, "a list", headers={"ETag": "x"}), "hls", "rewind")
    unused = cast(Any, None)
    streams = cast(Any, Streams(output))
    playback = InternalPlayback(streams, unused, unused, MediaRoutes({"live.m3u8": route}, {}, {}), unused, None)
    request = cast(Request, type("Get", (), {"method": "GET"}))
    answer = playback(request, "c1", "live.m3u8")
    answer = await answer if inspect.isawaitable(answer) else answer
    assert isinstance(answer, Response) and answer.status == status
    if status == 200:
        assert answer.headers == {"ETag": "x", "X-Millrace-Bitrate": "2500000"}
        assert answer.body == b"a list\n"
