"""CMAF by HTTP, LL-HLS and DASH: the output `cmaf`, its manifests and the fragments that they share."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Final

from gateway.hub.stream import Stream
from gateway.packagers.cmaf import CmafPackager
from gateway.packagers.lane import Lane
from gateway.servers import dash, hls
from gateway.servers.request import BadRequest, Request
from gateway.servers.response import Response, text, try_later
from gateway.servers.segmented import FIXED, HOLD, Answering, packager

_PATH: Final = re.compile(r"(video|audio)/([0-9]{1,12})-(init-|part-)?([0-9]{1,12})\.(m4s|mp4)", re.ASCII)
_LANES: Final = {"video/index.m3u8": "video", "audio/index.m3u8": "audio"}


def cmaf(request: Request, stream: Stream, rest: str) -> Answering:
    """The answer to `/<stream>/<rest>` of a stream that is live or has just ended."""
    name = _PATH.fullmatch(rest)
    if name is not None:
        return _fragment(stream, rest, name)
    if rest in _LANES:
        return hls.media_playlist(request, stream, _LANES[rest])
    if rest == "master.m3u8":
        return hls.master(request, stream)
    if rest == "manifest.mpd":
        return dash.manifest(request, stream)
    return text(404, "not found")


def _fragment(stream: Stream, rest: str, name: re.Match[str]) -> Answering:
    """Initializations, parts and segments; what is about to come is waited for."""
    output = packager(stream, "cmaf", CmafPackager)
    if isinstance(output, Response):
        return output
    lane = output.lane(name[1])
    if lane is None:
        return _gone(rest)
    uri = rest.partition("/")[2]
    kind = f"{lane.kind}/mp4"
    if name[3] == "init-":
        init = lane.inits.get(uri)
        return _gone(rest) if init is None else Response(200, init, kind, cache=FIXED)
    if name[3] == "part-":
        # The newest part is fetched by everyone at once: one answer for all, until there is a newer one.
        kept = output.cache.get(rest)
        if isinstance(kept, Response):
            return kept
        part = lane.part(uri)
        if part is not None:
            answer = output.cache[rest] = Response(200, part, kind, cache=FIXED)
            return answer
        if uri == lane.part_uri(lane.part_number) and not output.over:
            return _hinted(output, lane, uri, rest)
        return _gone(rest)
    segment = lane.window.find(uri)
    if segment is not None:
        served = segment.served
        if not isinstance(served, Response):
            served = segment.served = Response(200, segment.body(), kind, cache=FIXED)
        return served
    number = int(name[4])
    # The one that is open, or opens next: a client whose clock is a little ahead asks for it early.
    if lane.number <= number <= lane.number + 1 and uri == lane.segment_uri(number) and not output.over:
        return _unfinished(output, lane, number, rest)
    return _gone(rest)


async def _hinted(output: CmafPackager, lane: Lane, uri: str, rest: str) -> Response:
    """The part that the playlist's preload hint names, as soon as it is complete."""
    await lane.changed.until(lambda: lane.part(uri) is not None or output.over, HOLD * lane.window.target)
    part = lane.part(uri)
    if part is not None:
        return Response(200, part, f"{lane.kind}/mp4", cache=FIXED)
    return _gone(rest) if output.over else try_later("the part is not there yet", 1)


async def _unfinished(output: CmafPackager, lane: Lane, number: int, rest: str) -> Response:
    """An open segment, chunk by chunk as its parts are completed (DASH, availabilityTimeComplete="false")."""
    hold = HOLD * lane.window.target
    await lane.changed.until(lambda: lane.piece(number, 0) is not None or output.over, hold)
    first = lane.piece(number, 0)
    if first is None:
        return _gone(rest) if output.over else try_later("the segment has not begun yet", 1)
    segment = lane.window.find(lane.segment_uri(number))
    if segment is not None:
        return Response(200, segment.body(), f"{lane.kind}/mp4", cache=FIXED)
    return Response(200, _pieces(output, lane, number, first), f"{lane.kind}/mp4", cache=FIXED)


async def _pieces(output: CmafPackager, lane: Lane, number: int, first: bytes) -> AsyncIterator[bytes]:
    """Raises BadRequest where the segment is not finished in time: the connection is cut, for what was sent must not
    pass for all of it."""
    piece: bytes | None = first
    index = 0
    while True:
        if piece is not None:
            index += 1
            yield piece
        elif lane.number > number:
            return
        elif output.over or not await _more(output, lane, number, index):
            raise BadRequest(503, f"segment {number} of {lane.kind} stays unfinished")
        piece = lane.piece(number, index)


async def _more(output: CmafPackager, lane: Lane, number: int, index: int) -> bool:
    """Waits until an open segment has another part, or is complete."""
    return await lane.changed.until(
        lambda: lane.number > number or lane.piece(number, index) is not None or output.over,
        HOLD * lane.window.target,
    )


def _gone(rest: str) -> Response:
    return text(404, f"{rest} is not here (any more)")
