"""HLS over HTTP: `live.m3u8` with its segments, and LL-HLS with blocking reload, delta updates and preload hints."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Final, TypeAlias

from gateway.formats.hls import media_playlist
from gateway.http.request import Request
from gateway.http.response import Response, service_unavailable, text
from gateway.live.stream import Stream
from gateway.packaging.cmaf.packager import CmafPackager
from gateway.packaging.cmaf.track import CmafTrack
from gateway.packaging.packager_sequence import TsPackagerFactory
from gateway.packaging.ts.packager import TsPackager
from gateway.playback.play_format import CacheClass, PlayAddress, PlayFormat
from gateway.playback.playlist_response import (
    HOLD,
    M3U8,
    PLAYLIST_CACHE,
    SEGMENT_CACHE,
    EventualResponse,
    directives,
    packager,
    playlist,
)

# reports(lane): returns the rendition reports for the playlist of this track, for the present ladder.
Reports: TypeAlias = Callable[[CmafTrack], str]

LIVE_M3U8: Final = "live.m3u8"
_SEGMENT: Final = re.compile(r"[0-9]{1,15}\.ts", re.ASCII)
_NUMBER: Final = re.compile(r"[0-9]{1,12}", re.ASCII)
_FURTHEST: Final = 2  # a request is held for up to this many segments after the last one (§6.2.5.2)


# ---- MPEG-TS ----


def hls(request: Request, stream: Stream, rest: str) -> EventualResponse:
    """Answers `/<stream>/<rest>` for the output `hls` of a stream that is live or has just ended."""
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
    served = segment.served
    if not isinstance(served, Response):
        served = segment.served = Response(200, segment.body(), "video/mp2t", cache=SEGMENT_CACHE)
    return served


def _live(request: Request, stream: Stream) -> EventualResponse:
    return playlist(request, stream, "hls", TsPackager, lambda output, suffix: _render(output, "live", suffix))


FORMAT: Final = PlayFormat(
    output="hls",
    flag="isHls",
    addresses=(PlayAddress("hls", LIVE_M3U8, "HLS"),),
    packager=lambda services: TsPackagerFactory(services.metrics),
    on_demand=lambda settings: settings.hls.on_demand,
    rung_codec="libx264",
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

    above: the playlist is in the folder above its media, for a ladder's rung.
    reports: the rendition reports of its ladder; None if it has no ladder.
    """

    def render(output: CmafPackager, suffix: str) -> EventualResponse:
        return _ready_media(output, request, kind, suffix, above, reports)

    return playlist(request, stream, "cmaf", CmafPackager, render)


def _ready_media(
    output: CmafPackager, request: Request, kind: str, suffix: str, above: bool, reports: Reports | None
) -> EventualResponse:
    lane = output.manifests.track(kind)
    if lane is None:
        return text(404, f"there is no {kind}")
    wanted = directives(request)
    form = f"{kind} above" if above else f"{kind} rung" if reports is not None else kind
    if wanted.get("_HLS_skip") in ("YES", "v2"):
        form += " skip"
    if "_HLS_msn" not in wanted:
        if "_HLS_part" in wanted:
            # §6.2.5.2: "_HLS_part … REQUIRES" _HLS_msn.
            return text(400, "_HLS_part without _HLS_msn")
        return _render(output, form, suffix, reports=reports)
    msn, part = wanted["_HLS_msn"], wanted.get("_HLS_part")
    if not _NUMBER.fullmatch(msn) or (part is not None and not _NUMBER.fullmatch(part)):
        return text(400, "_HLS_msn and _HLS_part are whole numbers")
    number, index = int(msn), None if part is None else int(part)
    if output.over or lane.has(number, index):
        return _render(output, form, suffix, lane, reports)
    if number > lane.window[-1].number + _FURTHEST:
        return text(400, f"_HLS_msn {number} is too far ahead of {lane.window[-1].number}")
    target = lane.part_target or 1.0
    ahead = math.ceil(3 / target) if target < 1 else 3  # §6.2.5.2, the Advance Part Limit
    if number == lane.number and index is not None and index >= len(lane.parts) + ahead:
        return text(400, f"_HLS_part {index} is too far ahead of {len(lane.parts) - 1}")
    return _blocked(output, lane, number, index, form, suffix, reports)


async def _blocked(
    output: CmafPackager,
    lane: CmafTrack,
    number: int,
    index: int | None,
    form: str,
    suffix: str,
    reports: Reports | None,
) -> Response:
    if not await lane.changed.until(lambda: lane.has(number, index) or output.over, HOLD * lane.window.target):
        # §6.2.5.2: the server "SHOULD" answer 503 after three Target Durations.
        return service_unavailable("the segment is not there yet", 1)
    return _render(output, form, suffix, lane, reports)


def _render(
    output: TsPackager | CmafPackager,
    form: str,
    suffix: str,
    blocking: CmafTrack | None = None,
    reports: Reports | None = None,
) -> Response:
    """Returns the present playlist.

    It is made once per change for each form, and again only if a query is copied into it.
    """
    cache = output.cache
    cached = cache.get((form, blocking is not None)) if not suffix else None
    if isinstance(cached, Response):
        return cached
    template = cache.get(form)
    if not isinstance(template, str):
        template = cache[form] = _print(output, form, reports)
    # Appendix B.1: blocking responses never change; a CDN may keep them for six Target Durations.
    keep = PLAYLIST_CACHE if blocking is None or output.over else f"max-age={6 * blocking.window.target}"
    answer = Response(200, media_playlist.with_suffix(template, suffix), M3U8, cache=keep, compress=True)
    if not suffix:
        cache[form, blocking is not None] = answer
    return answer


def _print(output: TsPackager | CmafPackager, form: str, reports: Reports | None) -> str:
    if isinstance(output, TsPackager):
        return output.playlist()
    if form == "master":
        return output.manifests.master()
    kind, *how = form.split(" ")
    lane = output.manifests.track(kind)
    assert lane is not None  # the caller has checked it
    return output.manifests.playlist(lane, skip="skip" in how, report=reports(lane) if reports is not None else None)
