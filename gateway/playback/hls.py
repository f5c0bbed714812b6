"""HLS over HTTP: `live.m3u8` with its segments, and LL-HLS with blocking reload, delta updates and preload hints.

The § numbers refer to HLS (RFC 8216bis).
"""

import asyncio
import math
import re
from collections.abc import Callable
from functools import partial
from typing import Final, TypeAlias

from gateway.http.request import Request
from gateway.http.response import Response, service_unavailable, text
from gateway.live.stream import Stream
from gateway.media.caption_track import CAPTIONS_FOLDER
from gateway.packaging.cmaf.packager import CmafPackager
from gateway.packaging.cmaf.track import CmafTrack
from gateway.packaging.packager_sequence import TsPackagerFactory
from gateway.packaging.ts.packager import TsPackager
from gateway.playback.play_format import LIVE_M3U8, FormatCode
from gateway.playback.playlist_response import (
    HOLD,
    PLAYLIST_CACHE,
    EventualResponse,
    cached_playlist,
    packager,
    playlist,
    read_directives,
    segment_response,
)

# reports(track): returns the rendition reports for this track's playlist, from the current ladder.
Reports: TypeAlias = Callable[[CmafTrack], str]

_SEGMENT: Final = re.compile(r"[0-9]{1,15}\.ts", re.ASCII)
_MAX_SEGMENTS_AHEAD: Final = 2  # segments after the last one for which a request is held (§6.2.5.2)


# ---- MPEG-TS ----


def hls(request: Request, stream: Stream, rest: str) -> EventualResponse:
    """Answers `/<stream>/<rest>` for the output `hls`. The stream is live or has just ended."""
    if rest == LIVE_M3U8:
        return playlist(request, stream, "hls", TsPackager, _render_live)
    if not _SEGMENT.fullmatch(rest):
        return text(404, "not found")
    output = packager(stream, "hls", TsPackager)
    if isinstance(output, Response):
        return output
    segment = output.window.find(rest)
    if segment is None:
        return text(404, f"{rest} is not here (any more)")
    return segment_response(segment, "video/mp2t")


def _render_live(output: TsPackager, suffix: str) -> Response:
    return cached_playlist(output.cache, "live", suffix, output.playlist)


CODE: Final = FormatCode(
    lambda services: TsPackagerFactory(services.metrics, cue_tags=services.settings.hls.cue_tags), hls
)


# ---- CMAF ----


def master(request: Request, stream: Stream) -> EventualResponse:
    """Answers `master.m3u8`."""

    def render(output: CmafPackager, suffix: str) -> Response:
        return cached_playlist(output.cache, "master", suffix, output.manifests.master)

    return playlist(request, stream, "cmaf", CmafPackager, render)


def low_latency_playlist(
    request: Request, stream: Stream, kind: str, *, above: bool = False, reports: Reports | None = None
) -> EventualResponse:
    """Answers `<kind>/index.m3u8` with its delivery directives.

    above: whether the playlist is in the folder above its media, as for a rendition of a ladder.
    reports: returns the rendition reports of its ladder; None if it has no ladder.
    """
    return playlist(request, stream, "cmaf", CmafPackager, partial(_media_playlist, request, kind, above, reports))


def _media_playlist(
    request: Request, kind: str, above: bool, reports: Reports | None, output: CmafPackager, suffix: str
) -> EventualResponse:
    manifests = output.manifests
    track = manifests.main if kind == CAPTIONS_FOLDER else manifests.track(kind)
    if track is None:
        return text(404, f"there is no {kind}")
    wanted = read_directives(request)
    if isinstance(wanted, Response):
        return wanted
    number, part_index, skip = wanted.segment, wanted.part, wanted.skip
    key = kind, above, reports is not None, skip

    def make() -> str:
        if kind == CAPTIONS_FOLDER:
            return manifests.caption_playlist(skip=skip)
        return output.manifests.playlist(track, skip=skip, report=reports(track) if reports is not None else None)

    if number is None:
        return cached_playlist(output.cache, key, suffix, make)

    def render() -> Response:
        # Appendix B.1: blocking responses never change. A CDN may cache them for six Target Durations.
        control = PLAYLIST_CACHE if output.over else f"max-age={6 * track.window.target}"
        return cached_playlist(output.cache, key, suffix, make, control)

    if track.has(number, part_index) or (output.over and not output.moved):
        return render()
    if output.over:
        return _after_move(track.part_target or 1.0, render)
    if number > track.window[-1].number + _MAX_SEGMENTS_AHEAD:
        return text(400, f"_HLS_msn {number} is too far ahead of {track.window[-1].number}")
    target = track.part_target or 1.0
    ahead = math.ceil(3 / target) if target < 1 else 3  # §6.2.5.2, the Advance Part Limit
    parts = len(track.parts) if number == track.number else 0  # nothing of a later segment exists
    if number >= track.number and part_index is not None and part_index >= parts + ahead:
        return text(400, f"_HLS_part {part_index} is too far ahead of {parts - 1}")
    return _when_complete(output, track, number, part_index, render)


async def _after_move(seconds: float, render: Callable[[], Response]) -> Response:
    """Answers when another node may have the next part. A player repeats at once what is answered at once."""
    await asyncio.sleep(seconds)
    return render()


async def _when_complete(
    output: CmafPackager, track: CmafTrack, number: int, part_index: int | None, render: Callable[[], Response]
) -> Response:
    if not await track.changed.until(lambda: track.has(number, part_index) or output.over, HOLD * track.window.target):
        # §6.2.5.2: the server "SHOULD" answer 503 after three Target Durations.
        return service_unavailable("the segment is not there yet", 1)
    return render()
