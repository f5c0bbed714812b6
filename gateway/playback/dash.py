"""DASH over HTTP: `manifest.mpd`. The media files are in `cmaf.py`."""

import time
from collections.abc import Callable

from gateway.formats.dash import mpd
from gateway.http.request import Request
from gateway.http.response import Response
from gateway.live.stream import Stream
from gateway.packaging.cmaf.packager import CmafPackager
from gateway.playback.playlist_response import PLAYLIST_CACHE, EventualResponse, cached_text, playlist

MPD = "application/dash+xml"


def manifest(request: Request, stream: Stream) -> EventualResponse:
    """Answers `manifest.mpd` of a stream that is live or has just ended.

    The first manifest is sent when every player can start with it, because some players fetch it only once.
    """

    def render(output: CmafPackager, suffix: str) -> Response:
        return cached_manifest(output.cache, "mpd", suffix, output.manifests.manifest)

    return playlist(request, stream, "cmaf", CmafPackager, render, lambda output: output.manifests.is_playable())


def cached_manifest(cache: dict[object, object], key: object, suffix: str, make: Callable[[], str]) -> Response:
    """Returns the answer with a manifest, which is written once per change. Parameters: see `cached_playlist`.

    Only the query and the current time (UTCTiming "direct") are inserted for each answer.
    """
    body = mpd.finish(cached_text(cache, key, make), suffix, time.time())
    return Response(200, body, MPD, cache=PLAYLIST_CACHE, compress=True)
