"""DASH over HTTP: `manifest.mpd`. The media files are in `cmaf.py`."""

from __future__ import annotations

import time

from gateway.formats.dash import mpd
from gateway.http.request import Request
from gateway.http.response import Response
from gateway.live.stream import Stream
from gateway.packaging.cmaf.packager import CmafPackager
from gateway.playback.playlist_response import PLAYLIST_CACHE, EventualResponse, playlist

MPD = "application/dash+xml"


def manifest(request: Request, stream: Stream) -> EventualResponse:
    """Answers `manifest.mpd` of a stream that is live or has just ended.

    The first manifest is sent when every player can start with it, because some players fetch it only once.
    """
    return playlist(request, stream, "cmaf", CmafPackager, _render, lambda output: output.manifests.is_playable())


def _render(output: CmafPackager, suffix: str) -> Response:
    """Returns the manifest. It is written once per change.

    Only the query and the current time (UTCTiming "direct") are inserted for each answer.
    """
    template = output.cache.get("mpd")
    if not isinstance(template, str):
        template = output.cache["mpd"] = output.manifests.manifest()
    return Response(200, mpd.finish(template, suffix, time.time()), MPD, cache=PLAYLIST_CACHE, compress=True)
