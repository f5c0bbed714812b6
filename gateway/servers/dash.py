"""DASH by HTTP: `manifest.mpd`."""

from __future__ import annotations

import time

from gateway.formats.dash import mpd
from gateway.hub.stream import Stream
from gateway.packagers.cmaf import CmafPackager
from gateway.servers.request import Request
from gateway.servers.response import Response
from gateway.servers.segmented import LIVE, Answering, playlist

MPD = "application/dash+xml"


def manifest(request: Request, stream: Stream) -> Answering:
    """`manifest.mpd` of a stream that is live or has just ended: the first one when every player can begin with it, for
    some never look at another."""
    return playlist(request, stream, "cmaf", CmafPackager, _render, lambda output: output.joinable)


def _render(output: CmafPackager, suffix: str) -> Response:
    """Made once per change but for the query and the present time, which UTCTiming "direct" gives."""
    template = output.cache.get("mpd")
    if not isinstance(template, str):
        template = output.cache["mpd"] = output.manifest()
    return Response(200, mpd.finish(template, suffix, time.time()), MPD, cache=LIVE, compress=True)
