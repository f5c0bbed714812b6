"""Makes clips of a channel's recorded media, and sends exports."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote

import structlog
from aiohttp import web

from gateway.api import recording_schemas
from gateway.api.answers import BadRequest, Conflict, Missing, answer, is_connected, send_stream
from gateway.api.body import json_object
from gateway.api.channels import stored_channel
from gateway.api.context import CONTEXT
from gateway.api.moments import read_moment, read_number
from gateway.api.recordings import addresses
from gateway.api.route import operation
from gateway.api.sessions import source_stream
from gateway.channels.channel import Channel
from gateway.lib.rfc3339 import rfc3339
from gateway.live.stream import Stream
from gateway.outputs.clips.clip_service import ClipService
from gateway.ports.errors import NothingRecorded

log = structlog.get_logger(__name__)

CLIPS: Final = web.AppKey("clips", ClipService)
EXPORT_QUERY: Final = (
    ("from", "the start, in ISO form or in seconds since 1970"),
    ("to", "the end (default: now)"),
    ("last", "instead of from: seconds up to the newest picture"),
)
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._-]+", re.ASCII)
_HINT: Final = "nothing is recorded: switch on isOnDemand, rewind or isVideo in the channel first"


@dataclass(frozen=True, slots=True)
class ClipTime:
    """The requested time.

    start, end: seconds since 1970. last: seconds up to the newest picture; if it is not 0, start and end are 0.
    """

    start: float = 0.0
    end: float = 0.0
    last: float = 0.0


@operation(recording_schemas.Clip, body=recording_schemas.NewClip, status=201, statuses=(409, 429, 503))
async def create(request: web.Request) -> web.Response:
    """Make a clip of the last seconds or of a time range, also while live.

    If another node has the live stream, that node makes the clip.
    """
    context = request.app[CONTEXT]
    channel = await stored_channel(request)
    service = request.app[CLIPS]
    body = await json_object(request)
    time = clip_time(body, context.clock(), service.longest_clip, "use an export for longer times")
    stream = context.hub.find(channel.id)
    try:
        start, end = await _range(service, channel, stream, time)
        clip = await service.make_clip(channel, start, end, stream)
    except NothingRecorded:
        raise _nothing(channel) from None
    url = addresses(channel, await context.presenter(request), context.clock())(clip.key)
    made = {"key": clip.key, "start": rfc3339(clip.start), "seconds": clip.seconds, "size": clip.bytes, "url": url}
    return answer(made, 201)


async def _range(service: ClipService, channel: Channel, stream: Stream | None, time: ClipTime) -> tuple[float, float]:
    """Returns the start and the end of a requested time. Raises NothingRecorded."""
    return await service.find_newest_range(channel.id, time.last, stream) if time.last else (time.start, time.end)


@operation("video/mp4", statuses=(409, 503), query=EXPORT_QUERY)
async def export(request: web.Request) -> web.StreamResponse:
    """Download a time range as one MP4.

    The file is complete before its first byte is sent.
    A client that disconnects ends the work, and the file is deleted.
    HEAD answers whether anything of this time is stored, and makes no file.
    """
    context = request.app[CONTEXT]
    channel = await stored_channel(request)
    service, stream = request.app[CLIPS], source_stream(request, channel.id)
    time = clip_time(request.query, context.clock(), service.longest_export, "export several parts")
    response = web.StreamResponse(headers={"Content-Type": "video/mp4", "Accept-Ranges": "none"})
    try:
        start, end = await _range(service, channel, stream, time)
        if request.method == "HEAD":
            if not await service.has_media(channel.id, start, end, stream):
                raise _nothing(channel)
            return response
        async with service.export(channel, start, end, stream, lambda: is_connected(request)) as movie:
            response.headers["Content-Disposition"] = disposition(channel, movie.start)
            response.content_length = movie.size
            await send_stream(request, response, service.read(movie))
    except NothingRecorded:
        raise _nothing(channel) from None
    return response


def _nothing(channel: Channel) -> Exception:
    records = channel.flag("isOnDemand") or channel.flag("isVideo") or channel.number("rewind") > 0
    return Missing("nothing of this channel is recorded in this time") if records else Conflict(_HINT)


def clip_time(values: Mapping[str, Any], now: float, longest: float, hint: str) -> ClipTime:
    """Reads `from` and `to`, or `last`. Raises BadRequest.

    longest: maximum length in seconds. hint: how a client can get a longer time.
    """
    last = values.get("last")
    if last is not None:
        if "from" in values or "to" in values:
            raise BadRequest("expected either last or from and to", field="last")
        seconds = read_number(last)
        if seconds is None or not seconds > 0:
            raise BadRequest("expected a number of seconds above 0", field="last")
        if seconds > longest:
            raise BadRequest(f"at most {longest:g} seconds are possible: {hint}", field="last")
        return ClipTime(last=seconds)
    start = read_moment(values.get("from"), "from")
    end = now if values.get("to") in (None, "") else read_moment(values.get("to"), "to")
    if start >= now:
        raise BadRequest("this time is in the future", field="from")
    if end <= start:
        raise BadRequest("the end must be after the start", field="to")
    end = min(end, now)
    if end - start > longest:
        raise BadRequest(f"at most {longest:g} seconds are possible: {hint}", field="to")
    return ClipTime(start, end)


def disposition(channel: Channel, start: float) -> str:
    """Returns the Content-Disposition header of an export. The file is named after the channel and the start."""
    moment = f"{datetime.fromtimestamp(start, UTC):%Y-%m-%d_%H-%M-%S}.mp4"
    name = "".join(c for c in channel.name if c.isprintable())[:80].strip() or channel.id
    plain = _UNSAFE.sub("_", name).strip("_.") or channel.id
    return f"attachment; filename=\"{plain}-{moment}\"; filename*=UTF-8''{quote(f'{name}-{moment}', safe='')}"
