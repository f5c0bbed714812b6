"""CMAF by HTTP, LL-HLS and DASH: the output `cmaf`, its manifests and the fragments that they share."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import AsyncIterator
from typing import Final

from gateway.formats.mp4.fragment import STYP
from gateway.hub.stream import Stream, StreamState
from gateway.packagers.cmaf import CmafPackager
from gateway.packagers.lane import Lane
from gateway.servers import dash, hls
from gateway.servers.request import BadRequest, Request
from gateway.servers.response import Response, text, try_later
from gateway.servers.segmented import FIXED, HOLD, MOST_LINGER, Answering, comes, packager

_PATH: Final = re.compile(r"(video|audio)/([0-9]{1,12})-(init-|part-)?([0-9]{1,12})\.(m4s|mp4)", re.ASCII)
UNTIL_SEEN: Final = 1.0  # seconds beyond its update period in which everybody has seen the last manifest
_LANES: Final = {"video/index.m3u8": "video", "audio/index.m3u8": "audio"}


def cmaf(request: Request, stream: Stream, rest: str, source: Lane | None = None) -> Answering:
    """The answer to `/<stream>/<rest>` of a stream that is live or has just ended. source: of a rung that is shown
    beside its source, which goes on where the rung does not."""
    name = _PATH.fullmatch(rest)
    if name is not None:
        return _fragment(stream, rest, name, source)
    if rest in _LANES:
        return hls.media_playlist(request, stream, _LANES[rest])
    if rest == "master.m3u8":
        return hls.master(request, stream)
    if rest == "manifest.mpd":
        return dash.manifest(request, stream)
    return text(404, "not found")


def _fragment(stream: Stream, rest: str, name: re.Match[str], source: Lane | None) -> Answering:
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
            return _hinted(output, lane, stream, uri)
        return _gone(rest)
    segment = lane.window.find(uri)
    if segment is not None:
        served = segment.served
        if not isinstance(served, Response):
            served = segment.served = Response(200, segment.body(), kind, cache=FIXED)
        return served
    number = int(name[4])
    if uri == lane.segment_uri(number):
        if source is not None and source.window[0].number <= number <= max(lane.number, source.number) + 1:
            return _beside(output, lane, stream, number)
        if _expected(output, lane, stream, number):
            return _unfinished(output, lane, stream, number)
    return _gone(rest)


async def _hinted(output: CmafPackager, lane: Lane, stream: Stream, uri: str) -> Response:
    """The part that the playlist's preload hint names, as soon as it is complete."""
    hold = HOLD * lane.window.target
    await comes(output, lane.changed, hold, stream, lambda: lane.part(uri) is not None)
    part = lane.part(uri)
    if part is not None:
        return Response(200, part, f"{lane.kind}/mp4", cache=FIXED)
    return _gone(uri) if output.over else try_later("the part is not there yet", 1)


async def _unfinished(output: CmafPackager, lane: Lane, stream: Stream, number: int) -> Response:
    """An open segment, chunk by chunk as its parts are completed (DASH, availabilityTimeComplete="false"), also one
    that is still to begin. Where the stream or its epoch ends before, an empty one: players that go by the clock learn
    that with their next look at the manifest, and would ask ten times a second until then if they were refused."""
    uri, hold, header = lane.segment_uri(number), HOLD * lane.window.target, lane.header
    await comes(
        output, lane.changed, hold, stream, lambda: lane.piece(number, 0) is not None or lane.header is not header
    )
    if output.ended and lane.number <= number:
        await asyncio.sleep(lane.window.longest + UNTIL_SEEN)
    first = lane.piece(number, 0)
    if first is None or lane.header is not header:
        if output.ended or lane.header is not header:
            return Response(200, STYP, f"{lane.kind}/mp4", cache="no-store")
        return _gone(uri) if output.stopped else try_later("the segment has not begun yet", 1)
    segment = lane.window.find(uri)
    if segment is not None:
        return Response(200, segment.body(), f"{lane.kind}/mp4", cache=FIXED)
    return Response(200, _pieces(output, lane, stream, number, first), f"{lane.kind}/mp4", cache=FIXED)


async def _beside(output: CmafPackager, lane: Lane, stream: Stream, number: int) -> Response:
    """The same of a rung: where its worker died the segment stays out, and an empty one comes before long. Its players
    go on with another rung as soon as they know that this one is lost."""
    header = lane.header
    seconds = lane.window.longest + UNTIL_SEEN
    await lane.changed.until(
        lambda: lane.piece(number, 0) is not None or lane.header is not header or lane.number > number or output.over,
        seconds,
    )
    if lane.piece(number, 0) is None:
        return Response(200, STYP, f"{lane.kind}/mp4", cache="no-store")
    return await _unfinished(output, lane, stream, number)


def _expected(output: CmafPackager, lane: Lane, stream: Stream, number: int) -> bool:
    """Whether a player may take segment `number`, which has not begun, to be there: the one that is open or opens next,
    for clocks are a little ahead; and where nothing comes any more, what the manifest's clock has promised since."""
    ahead = 1
    if output.ended or stream.state is StreamState.LINGERING:
        ahead += math.ceil(MOST_LINGER / max(lane.window.longest, 0.1))
    return lane.number <= number <= lane.number + ahead and not (output.stopped and not output.ended)


async def _pieces(output: CmafPackager, lane: Lane, stream: Stream, number: int, first: bytes) -> AsyncIterator[bytes]:
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
        elif output.over or not await _more(output, lane, stream, number, index):
            raise BadRequest(503, f"segment {number} of {lane.kind} stays unfinished")
        piece = lane.piece(number, index)


async def _more(output: CmafPackager, lane: Lane, stream: Stream, number: int, index: int) -> bool:
    """Waits until an open segment has another part, or is complete."""
    hold = HOLD * lane.window.target
    return await comes(
        output, lane.changed, hold, stream, lambda: lane.number > number or lane.piece(number, index) is not None
    )


def _gone(rest: str) -> Response:
    return text(404, f"{rest} is not here (any more)")
