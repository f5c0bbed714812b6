"""DASH by HTTP: `manifest.mpd`."""

from __future__ import annotations

import time

from gateway.formats.dash import mpd
from gateway.hub.stream import Stream
from gateway.packagers.cmaf import CmafPackager
from gateway.servers.request import Request
from gateway.servers.response import Response
from gateway.servers.segmented import LIVE, Answering, copied_query, first_playlist, packager

MPD = "application/dash+xml"


def manifest(request: Request, stream: Stream) -> Answering:
    """`manifest.mpd` of a stream that is live or has just ended."""
    output = packager(stream, "cmaf", CmafPackager)
    if isinstance(output, Response):
        return output
    suffix = copied_query(request)
    if isinstance(suffix, Response):
        return suffix
    if not output.joinable:
        return _first(output, stream, suffix)
    return _render(output, suffix)


async def _first(output: CmafPackager, stream: Stream, suffix: str) -> Response:
    """The first MPD that every player can begin with: some never look at another one."""
    answer = await first_playlist(output, output.changed, "cmaf", stream, lambda: output.joinable)
    return answer or _render(output, suffix)


def _render(output: CmafPackager, suffix: str) -> Response:
    """Made once per change but for the query and the present time, which UTCTiming "direct" gives."""
    template = output.cache.get("mpd")
    if not isinstance(template, str):
        template = output.cache["mpd"] = output.manifest()
    return Response(200, mpd.finish(template, suffix, time.time()), MPD, cache=LIVE, compress=True)
