"""CMAF over HTTP, for LL-HLS and DASH: the output `cmaf`, its manifests and the fragments that they share."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import AsyncIterator
from typing import Final

from gateway.formats.mp4.fragment import STYP
from gateway.http.request import Request, RequestError
from gateway.http.response import Response, service_unavailable, text
from gateway.live.stream import Stream, StreamState
from gateway.packaging.cmaf.packager import CmafPackager
from gateway.packaging.cmaf.track import CmafTrack
from gateway.packaging.packager_sequence import CmafPackagerFactory
from gateway.playback import dash, hls
from gateway.playback.play_format import CacheClass, PlayAddress, PlayFormat
from gateway.playback.playlist_response import HOLD, MAX_LINGER, SEGMENT_CACHE, EventualResponse, packager, wait_until

MASTER: Final = "master.m3u8"
MANIFEST: Final = "manifest.mpd"
_PATH: Final = re.compile(r"(video|audio)/([0-9]{1,12})-(init-|part-)?([0-9]{1,12})\.(m4s|mp4)", re.ASCII)
UNTIL_SEEN: Final = 1.0  # seconds after the update period until every player has seen the last manifest
_LANES: Final = {"video/index.m3u8": "video", "audio/index.m3u8": "audio"}


def cmaf(
    request: Request, stream: Stream, rest: str, source: CmafTrack | None = None, reports: hls.Reports | None = None
) -> EventualResponse:
    """Answers `/<stream>/<rest>` of a stream that is live or has just ended.

    source: the picture track of a rung's source, which continues where the rung does not; None if it is no rung.
    reports: see hls.low_latency_playlist.
    """
    name = _PATH.fullmatch(rest)
    if name is not None:
        return _fragment(stream, rest, name, source)
    if rest in _LANES:
        return hls.low_latency_playlist(request, stream, _LANES[rest], reports=reports)
    if rest == MASTER:
        return hls.master(request, stream)
    if rest == MANIFEST:
        return dash.manifest(request, stream)
    return text(404, "not found")


def _fragment(stream: Stream, rest: str, name: re.Match[str], source: CmafTrack | None) -> EventualResponse:
    """Answers with an init segment, a part or a segment; waits for one that is about to be made."""
    output = packager(stream, "cmaf", CmafPackager)
    if isinstance(output, Response):
        return output
    lane = output.manifests.track(name[1])
    if lane is None:
        return _gone(rest)
    uri = rest.partition("/")[2]
    kind = f"{lane.kind}/mp4"
    if name[3] == "init-":
        init = lane.inits.get(uri)
        return _gone(rest) if init is None else Response(200, init, kind, cache=SEGMENT_CACHE)
    if name[3] == "part-":
        # All players fetch the newest part at once: they share one response until there is a newer part.
        kept = output.cache.get(rest)
        if isinstance(kept, Response):
            return kept
        part = lane.part(uri)
        if part is not None:
            answer = output.cache[rest] = Response(200, part, kind, cache=SEGMENT_CACHE)
            return answer
        if uri == lane.part_uri(lane.part_number) and not output.over:
            return _hinted(output, lane, stream, uri)
        return _gone(rest)
    segment = lane.window.find(uri)
    if segment is not None:
        served = segment.served
        if not isinstance(served, Response):
            served = segment.served = Response(200, segment.body(), kind, cache=SEGMENT_CACHE)
        return served
    number = int(name[4])
    if uri == lane.segment_uri(number):
        if source is not None and source.window[0].number <= number <= max(lane.number, source.number) + 1:
            return _beside(output, lane, stream, number)
        if _expected(output, lane, stream, number):
            return _unfinished(output, lane, stream, number)
    return _after(lane, rest, uri)


def _after(lane: CmafTrack, rest: str, uri: str) -> Response:
    """Answers for a segment that its epoch was too short for.

    Until every player has seen the new manifest, players still request segments that the old manifest's clock promised.
    These are answered with empty segments: after a 404, shaka-player asks forever and dash.js reports an error.
    The next epoch's media is never sent, because it needs another initialization.
    """
    return Response(200, STYP, f"{lane.kind}/mp4", cache="no-store") if lane.may_be_requested(uri) else _gone(rest)


async def _hinted(output: CmafPackager, lane: CmafTrack, stream: Stream, uri: str) -> Response:
    """Answers with the part that the playlist's preload hint names, as soon as it is complete."""
    hold, header = HOLD * lane.window.target, lane.header
    await wait_until(
        output, lane.changed, hold, stream, lambda: lane.part(uri) is not None or lane.header is not header
    )
    part = lane.part(uri)
    if part is not None:
        return Response(200, part, f"{lane.kind}/mp4", cache=SEGMENT_CACHE)
    return (
        _gone(uri) if output.over or lane.header is not header else service_unavailable("the part is not there yet", 1)
    )


async def _unfinished(output: CmafPackager, lane: CmafTrack, stream: Stream, number: int) -> Response:
    """Answers with an open or future segment, part by part as it is made (DASH, availabilityTimeComplete="false").

    If the stream ends before the segment, an empty one is sent.
    Players that go by the clock learn of the end at their next manifest; after a 404 they would ask ten times a second.
    If its epoch ends before it, see `_after`.
    """
    uri, hold, header = lane.segment_uri(number), HOLD * lane.window.target, lane.header
    await wait_until(
        output, lane.changed, hold, stream, lambda: lane.part_at(number, 0) is not None or lane.header is not header
    )
    if output.ended and lane.number <= number:
        await asyncio.sleep(lane.window.longest + UNTIL_SEEN)
    segment = lane.window.find(uri)
    if segment is not None:
        return Response(200, segment.body(), f"{lane.kind}/mp4", cache=SEGMENT_CACHE)
    if lane.header is not header:
        return _after(lane, uri, uri)
    first = lane.part_at(number, 0)
    if first is None:
        if output.ended:
            return Response(200, STYP, f"{lane.kind}/mp4", cache="no-store")
        return _gone(uri) if output.stopped else service_unavailable("the segment has not begun yet", 1)
    return Response(200, _pieces(output, lane, stream, number, first), f"{lane.kind}/mp4", cache=SEGMENT_CACHE)


async def _beside(output: CmafPackager, lane: CmafTrack, stream: Stream, number: int) -> Response:
    """Does the same for a rung: if its worker died, the segment is missing, and an empty one is sent soon.

    Players change to another rung as soon as they know that this one is lost.
    """
    header, uri = lane.header, lane.segment_uri(number)
    seconds = lane.window.longest + UNTIL_SEEN
    await lane.changed.until(
        lambda: lane.part_at(number, 0) is not None or lane.header is not header or lane.number > number or output.over,
        seconds,
    )
    if lane.part_at(number, 0) is None or lane.header is not header:
        segment = lane.window.find(uri)  # the last one of its epoch
        if segment is not None:
            return Response(200, segment.body(), f"{lane.kind}/mp4", cache=SEGMENT_CACHE)
        return Response(200, STYP, f"{lane.kind}/mp4", cache="no-store")
    return await _unfinished(output, lane, stream, number)


def _expected(output: CmafPackager, lane: CmafTrack, stream: Stream, number: int) -> bool:
    """Whether a player may expect segment `number`, which has not begun.

    It may expect the open one or the next, because clocks are a little ahead.
    If nothing is published any more, it may expect what the manifest's clock has promised since.
    """
    ahead = 1
    if output.ended or stream.state is StreamState.LINGERING:
        ahead += math.ceil(MAX_LINGER / max(lane.window.longest, 0.1))
    return lane.number <= number <= lane.number + ahead and not (output.stopped and not output.ended)


async def _pieces(
    output: CmafPackager, lane: CmafTrack, stream: Stream, number: int, first: bytes
) -> AsyncIterator[bytes]:
    """Yields the parts of an open segment.

    Raises RequestError if the segment is not finished in time. The connection is then cut, so that the client does not
    take the part for the whole.
    """
    piece: bytes | None = first
    index = 0
    while True:
        if piece is not None:
            index += 1
            yield piece
        elif lane.number > number:
            return
        elif output.over or not await _more(output, lane, stream, number, index):
            raise RequestError(503, f"segment {number} of {lane.kind} stays unfinished")
        piece = lane.part_at(number, index)


async def _more(output: CmafPackager, lane: CmafTrack, stream: Stream, number: int, index: int) -> bool:
    """Waits until an open segment has another part, or is complete."""
    hold = HOLD * lane.window.target
    return await wait_until(
        output, lane.changed, hold, stream, lambda: lane.number > number or lane.part_at(number, index) is not None
    )


def _gone(rest: str) -> Response:
    return text(404, f"{rest} is not here (any more)")


# DASH viewers are counted as `cmaf`, too: both read the same fragments.
FORMAT: Final = PlayFormat(
    output="cmaf",
    flag="isCMAF",
    addresses=(PlayAddress("cmaf", MASTER, "LL-HLS"), PlayAddress("dash", MANIFEST, "DASH")),
    packager=lambda services: CmafPackagerFactory(services.settings.cmaf.part, services.metrics),
    on_demand=lambda settings: settings.cmaf.on_demand,
    rung_codec="libx265",
    respond=cmaf,
    files={
        "m3u8": CacheClass.PLAYLIST,
        "mpd": CacheClass.MANIFEST,
        "m4s": CacheClass.MEDIA,
        "mp4": CacheClass.MEDIA,
    },
    folders=("video", "audio"),
)
