"""HLS over HTTP: `live.m3u8` with its segments, and LL-HLS with blocking reload, delta updates and preload hints."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from functools import partial
from typing import Final, TypeAlias

from gateway.formats.hls import media_playlist
from gateway.http.request import Request
from gateway.http.response import Response, service_unavailable, text
from gateway.lib.numbers import read_integer
from gateway.live.stream import Stream
from gateway.packaging.cmaf.packager import CmafPackager
from gateway.packaging.cmaf.track import CmafTrack
from gateway.packaging.packager_sequence import TsPackagerFactory
from gateway.packaging.ts.packager import TsPackager
from gateway.playback.play_format import CacheClass, PlayAddress, PlayFormat
from gateway.playback.playlist_response import (
    HOLD,
    M3U8,
    MAX_NUMBER,
    PLAYLIST_CACHE,
    EventualResponse,
    directives,
    packager,
    playlist,
    segment_response,
)

# reports(track): returns the rendition reports for this track's playlist, from the current ladder.
Reports: TypeAlias = Callable[[CmafTrack], str]

LIVE_M3U8: Final = "live.m3u8"
REWIND_OUTPUT: Final = "rewind"  # the output with the segments for going back, of channels without `hls`
_SEGMENT: Final = re.compile(r"[0-9]{1,15}\.ts", re.ASCII)
_MAX_SEGMENTS_AHEAD: Final = 2  # segments after the last one for which a request is held (§6.2.5.2)


# ---- MPEG-TS ----


def hls(request: Request, stream: Stream, rest: str) -> EventualResponse:
    """Answers `/<stream>/<rest>` for the output `hls`. The stream is live or has just ended."""
    if rest == LIVE_M3U8:
        return _live(request, stream)
    return _ts_segment(stream, rest) if _SEGMENT.fullmatch(rest) else text(404, "not found")


def _ts_segment(stream: Stream, name: str) -> Response:
    output = packager(stream, "hls", TsPackager)
    if isinstance(output, Response):
        return output
    segment = output.window.find(name)
    if segment is None:
        return text(404, f"{name} is not here (any more)")
    return segment_response(segment, "video/mp2t")


def _live(request: Request, stream: Stream) -> EventualResponse:
    return playlist(request, stream, "hls", TsPackager, lambda output, suffix: _render(output, "live", suffix))


FORMAT: Final = PlayFormat(
    output="hls",
    flag="isHls",
    addresses=(PlayAddress("hls", LIVE_M3U8, "HLS"),),
    packager=lambda services: TsPackagerFactory(services.metrics),
    on_demand=lambda settings: settings.hls.on_demand,
    rendition_codec="libx264",
    respond=hls,
    files={"m3u8": CacheClass.PLAYLIST, "ts": CacheClass.MEDIA},
)


# ---- CMAF ----


def master(request: Request, stream: Stream) -> EventualResponse:
    """Answers `master.m3u8`."""
    return playlist(request, stream, "cmaf", CmafPackager, lambda output, suffix: _render(output, "master", suffix))


def low_latency_playlist(
    request: Request, stream: Stream, kind: str, *, above: bool = False, reports: Reports | None = None
) -> EventualResponse:
    """Answers `<kind>/index.m3u8` with its delivery directives.

    above: whether the playlist is in the folder above its media, as for a rendition of a ladder.
    reports: returns the rendition reports of its ladder; None if it has no ladder.
    """

    def render(output: CmafPackager, suffix: str) -> EventualResponse:
        return _media_playlist(output, request, kind, suffix, above, reports)

    return playlist(request, stream, "cmaf", CmafPackager, render)


def _media_playlist(
    output: CmafPackager, request: Request, kind: str, suffix: str, above: bool, reports: Reports | None
) -> EventualResponse:
    track = output.manifests.track(kind)
    if track is None:
        return text(404, f"there is no {kind}")
    parameters = directives(request)
    variant = f"{kind} above" if above else f"{kind} ladder" if reports is not None else kind
    if parameters.get("_HLS_skip") in ("YES", "v2"):
        variant += " skip"
    if "_HLS_msn" not in parameters:
        if "_HLS_part" in parameters:
            # §6.2.5.2: "_HLS_part … REQUIRES" _HLS_msn.
            return text(400, "_HLS_part without _HLS_msn")
        return _render(output, variant, suffix, reports=reports)
    msn, part_text = parameters["_HLS_msn"], parameters.get("_HLS_part")
    number = read_integer(msn, MAX_NUMBER)
    part_index = None if part_text is None else read_integer(part_text, MAX_NUMBER)
    if number is None or (part_text is not None and part_index is None):
        return text(400, "_HLS_msn and _HLS_part are whole numbers")
    render = partial(_render, output, variant, suffix, track, reports)
    if output.over or track.has(number, part_index):
        return render()
    if number > track.window[-1].number + _MAX_SEGMENTS_AHEAD:
        return text(400, f"_HLS_msn {number} is too far ahead of {track.window[-1].number}")
    target = track.part_target or 1.0
    ahead = math.ceil(3 / target) if target < 1 else 3  # §6.2.5.2, the Advance Part Limit
    if number == track.number and part_index is not None and part_index >= len(track.parts) + ahead:
        return text(400, f"_HLS_part {part_index} is too far ahead of {len(track.parts) - 1}")
    return _when_complete(output, track, number, part_index, render)


async def _when_complete(
    output: CmafPackager, track: CmafTrack, number: int, part_index: int | None, render: Callable[[], Response]
) -> Response:
    if not await track.changed.until(lambda: track.has(number, part_index) or output.over, HOLD * track.window.target):
        # §6.2.5.2: the server "SHOULD" answer 503 after three Target Durations.
        return service_unavailable("the segment is not there yet", 1)
    return render()


def _render(
    output: TsPackager | CmafPackager,
    variant: str,
    suffix: str,
    blocked_on: CmafTrack | None = None,
    reports: Reports | None = None,
) -> Response:
    """Returns the current playlist.

    It is written once per change for each variant, and again only if a query is copied into it.
    blocked_on: the track for which a blocking request has waited; None for other requests.
    """
    cache = output.cache
    cached = cache.get((variant, blocked_on is not None)) if not suffix else None
    if isinstance(cached, Response):
        return cached
    template = cache.get(variant)
    if not isinstance(template, str):
        template = cache[variant] = _write(output, variant, reports)
    # Appendix B.1: blocking responses never change. A CDN may cache them for six Target Durations.
    cache_control = PLAYLIST_CACHE if blocked_on is None or output.over else f"max-age={6 * blocked_on.window.target}"
    answer = Response(200, media_playlist.with_suffix(template, suffix), M3U8, cache=cache_control, compress=True)
    if not suffix:
        cache[variant, blocked_on is not None] = answer
    return answer


def _write(output: TsPackager | CmafPackager, variant: str, reports: Reports | None) -> str:
    if isinstance(output, TsPackager):
        return output.playlist()
    if variant == "master":
        return output.manifests.master()
    kind, *options = variant.split(" ")
    track = output.manifests.track(kind)
    assert track is not None, "the caller has checked it"
    return output.manifests.playlist(
        track, skip="skip" in options, report=reports(track) if reports is not None else None
    )
