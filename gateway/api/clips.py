"""Makes clips of a channel's recorded media, and sends exports."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote

import structlog
from aiohttp import web

from gateway.api.answers import BadRequest, Conflict, Missing, answer
from gateway.api.body import json_object
from gateway.api.channels import stored_channel
from gateway.api.cluster_queries import ForwardedRefusal
from gateway.api.context import CONTEXT, Context
from gateway.api.recordings import addresses
from gateway.api.sessions import live
from gateway.channels.channel import Channel
from gateway.lib.numbers import read_decimal
from gateway.lib.rfc3339 import rfc3339
from gateway.live.stream import Stream
from gateway.outputs.clips.clip_service import Clip, ClipService, Movie
from gateway.ports.errors import GatewayError, NothingRecorded

log = structlog.get_logger(__name__)

EXPORT_QUERY: Final = (
    ("from", "the start, in ISO form or in seconds since the epoch"),
    ("to", "the end (now)"),
    ("last", "instead of from: seconds up to the newest picture"),
)
_MAX_TEXT: Final = 40
_MILLISECONDS: Final = 1e11  # larger numbers are milliseconds since the epoch, as in JavaScript
_MAX_EPOCH: Final = 32_503_680_000.0  # the year 3000
_MAX_POLLS: Final = 300  # of a clip that another node makes; each takes up to 3 s
_POLL_SECONDS: Final = 0.2
_PLUS: Final = re.compile(r" (?=[0-9]{2}:?[0-9]{2}$)", re.ASCII)  # a plus sign that a query did not encode
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._-]+", re.ASCII)
_HINT: Final = "nothing is recorded: switch on isOnDemand, rewind or isVideo in the channel first"


@dataclass(frozen=True, slots=True)
class ClipTime:
    """The requested time. start, end: seconds since the epoch; 0: `last` seconds up to the newest picture."""

    start: float = 0.0
    end: float = 0.0
    last: float = 0.0


async def create(request: web.Request) -> web.Response:
    """Makes a clip and returns its address. If another node has the live stream, that node makes the clip."""
    context = request.app[CONTEXT]
    channel = await stored_channel(request)
    service = _service(context)
    body = await json_object(request, context.limits.request)
    time = clip_time(body, context.clock(), service.longest_clip, "use an export for longer times")
    made = None
    if live(request, channel.id) is None:
        made = await _remote_clip(context, channel.id, time)
    if made is None:
        made = clip_json(await make_clip(service, context.hub.find(channel.id), channel, time))
    url = addresses(channel, await context.presenter(request), context.clock())(made["key"])
    return answer({**made, "start": rfc3339(made["start"]), "url": url}, 201)


async def make_clip(service: ClipService, stream: Stream | None, channel: Channel, time: ClipTime) -> Clip:
    """Makes a clip of the media that this node can read. Raises Missing, Conflict for a channel without recordings."""
    try:
        start, end = time.start, time.end
        if time.last:
            start, end = await service.last(channel.id, time.last, stream)
        return await service.clip(channel, start, end, stream)
    except NothingRecorded:
        raise _nothing(channel) from None


def clip_json(clip: Clip) -> dict[str, Any]:
    """Returns a clip without its address. start: seconds since the epoch."""
    return {"key": clip.key, "start": clip.start, "seconds": clip.seconds, "size": clip.bytes}


async def _remote_clip(context: Context, id: str, time: ClipTime) -> dict[str, Any] | None:
    """Returns the clip of the node that has the live stream; None if no other node has it.

    That node answers within seconds, also before the clip is complete. Then it is asked again.
    """
    for _ in range(_MAX_POLLS):
        reply = await context.cluster.ask(id, "clip", "POST", **_as_query(time))
        if reply is None or "key" in reply:
            return reply
        await asyncio.sleep(_POLL_SECONDS)
    raise Conflict("the clip takes too long")


async def export(request: web.Request) -> web.StreamResponse:
    """Sends a time range as one MP4. The file is complete before its first byte is sent.

    If another node has the live stream, the file is made there. A client that disconnects ends the work, and the file
    is deleted.
    """
    context = request.app[CONTEXT]
    channel = await stored_channel(request)
    service, stream = _service(context), live(request, channel.id)
    time = clip_time(request.query, context.clock(), service.longest_export, "export several parts")
    if request.method == "HEAD":
        return _movie_head()
    if stream is None:
        remote = await _remote_export(request, channel, time)
        if remote is not None:
            return remote
    async with exported(service, stream, channel, time, lambda: _is_connected(request)) as movie:
        return await _send(request, channel, movie.start, movie.size, service.read(movie, 0, movie.size))


@asynccontextmanager
async def exported(
    service: ClipService, stream: Stream | None, channel: Channel, time: ClipTime, is_wanted: Callable[[], bool]
) -> AsyncIterator[Movie]:
    """Joins the media that this node can read, see ClipService.export. Raises Missing, Conflict like `make_clip`."""
    try:
        start, end = time.start, time.end
        if time.last:
            start, end = await service.last(channel.id, time.last, stream)
        async with service.export(channel, start, end, stream, is_wanted) as movie:
            yield movie
    except NothingRecorded:
        raise _nothing(channel) from None


async def _remote_export(request: web.Request, channel: Channel, time: ClipTime) -> web.StreamResponse | None:
    """Sends the export of the node that has the live stream; None if no other node has it."""
    cluster, query = request.app[CONTEXT].cluster, _as_query(time)
    while _is_connected(request):
        reply = await cluster.ask(channel.id, "export", **query)
        if reply is None:
            return None
        if "size" in reply:
            async with cluster.fetch(channel.id, "exported", **query) as chunks:
                return await _send(request, channel, reply["start"], reply["size"], chunks)
        await asyncio.sleep(_POLL_SECONDS)
    raise ConnectionAbortedError("the client disconnected")


async def _send(
    request: web.Request, channel: Channel, start: float, size: int, chunks: AsyncIterator[bytes]
) -> web.StreamResponse:
    """Sends a complete file. An error in the middle closes the connection, because the head was sent.

    A client that does not read a piece in time is disconnected, because few exports are possible at a time.
    """
    stall = request.app[CONTEXT].limits.stall
    response = _movie_head()
    response.headers["Content-Disposition"] = disposition(channel, start)
    response.content_length = size
    await response.prepare(request)
    try:
        async for chunk in chunks:
            try:
                async with asyncio.timeout(stall or None):
                    await response.write(chunk)
            except TimeoutError:
                raise OSError(f"its client has read less than {len(chunk)} bytes in {stall:g} s") from None
    except (ForwardedRefusal, GatewayError, OSError) as error:
        if _is_connected(request):
            log.warning("an export was cut off", channel=channel.id, peer=request.remote, reason=str(error))
            assert request.transport is not None  # it is connected
            request.transport.abort()
        raise ConnectionAbortedError("the export was cut off") from error
    await response.write_eof()
    return response


def _movie_head() -> web.StreamResponse:
    return web.StreamResponse(headers={"Content-Type": "video/mp4", "Accept-Ranges": "none"})


def _as_query(time: ClipTime) -> dict[str, str]:
    """Returns a time as another node reads it."""
    return {"start": f"{time.start:.6f}", "end": f"{time.end:.6f}", "last": f"{time.last:.6f}"}


def _is_connected(request: web.Request) -> bool:
    return request.transport is not None and not request.transport.is_closing()


def _nothing(channel: Channel) -> Exception:
    records = channel.flag("isOnDemand") or channel.flag("isVideo") or channel.number("rewind") > 0
    return Missing("nothing of this channel is recorded in this time") if records else Conflict(_HINT)


def _service(context: Context) -> ClipService:
    if context.clips is None:
        raise Missing("this node has no object store")
    return context.clips


def clip_time(values: Mapping[str, Any], now: float, longest: float, hint: str) -> ClipTime:
    """Reads `from` and `to`, or `last`. longest: seconds. hint: what to do for longer times. Raises BadRequest."""
    last = values.get("last")
    if last is not None:
        if "from" in values or "to" in values:
            raise BadRequest("expected either last or from and to", field="last")
        seconds = _number(last)
        if seconds is None or not seconds > 0:
            raise BadRequest("expected a number of seconds above 0", field="last")
        if seconds > longest:
            raise BadRequest(f"at most {longest:g} seconds are possible: {hint}", field="last")
        return ClipTime(last=seconds)
    start = _moment(values.get("from"), "from")
    end = now if values.get("to") in (None, "") else _moment(values.get("to"), "to")
    if start >= now:
        raise BadRequest("this time is in the future", field="from")
    if end <= start:
        raise BadRequest("the end must be after the start", field="to")
    end = min(end, now)
    if end - start > longest:
        raise BadRequest(f"at most {longest:g} seconds are possible: {hint}", field="to")
    return ClipTime(start, end)


def _number(value: Any) -> float | None:
    if isinstance(value, str):
        return read_decimal(value.strip(), 1000 * _MILLISECONDS)
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1000 * _MILLISECONDS:
        return float(value)
    return None


def _moment(value: Any, field: str) -> float:
    """Returns seconds since the epoch. A time without a zone is UTC. Raises BadRequest."""
    number = _number(value)
    if number is not None:
        number = number / 1000 if number >= _MILLISECONDS else number
        if 0 <= number < _MAX_EPOCH:
            return number
    elif isinstance(value, str) and len(value) <= _MAX_TEXT:
        try:
            moment = datetime.fromisoformat(_PLUS.sub("+", value.strip()))
            return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()
        except (ValueError, OverflowError):
            pass
    raise BadRequest("expected a time such as 2030-01-31T18:00:00Z, or seconds since the epoch", field=field)


def disposition(channel: Channel, start: float) -> str:
    """Returns the Content-Disposition header of an export. The file is named after the channel and the start."""
    moment = f"{datetime.fromtimestamp(start, UTC):%Y-%m-%d_%H-%M-%S}.mp4"
    name = "".join(c for c in channel.name if c.isprintable())[:80].strip() or channel.id
    plain = _UNSAFE.sub("_", name).strip("_.") or channel.id
    return f"attachment; filename=\"{plain}-{moment}\"; filename*=UTF-8''{quote(f'{name}-{moment}', safe='')}"
