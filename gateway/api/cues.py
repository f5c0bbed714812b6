"""Puts ad cues and timed metadata into live streams, and lists the cues."""

from dataclasses import asdict
from typing import Final

import structlog
from aiohttp import web

from gateway.api import session_schemas
from gateway.api.answers import BadRequest, Conflict, answer
from gateway.api.body import read
from gateway.api.channels import stored_channel
from gateway.api.context import CONTEXT
from gateway.api.moments import read_moment
from gateway.api.route import operation
from gateway.api.sessions import source_stream
from gateway.diagnosis.cue_log import Cue, CueLog, StreamCues
from gateway.formats.splices import Splice, decode_section, read_splice
from gateway.media.errors import InvalidData
from gateway.media.timed_data import MAX_METADATA, CueType

log = structlog.get_logger(__name__)

CUES: Final = web.AppKey("cues", CueLog)
_PAST_SECONDS: Final = 5.0
_AHEAD_SECONDS: Final = 3600.0


@operation(session_schemas.CueId, body=session_schemas.NewCue, status=202, statuses=(409, 429))
async def create(request: web.Request) -> web.Response:
    """Put an ad cue into the live stream.

    Players, relays and recordings get it with the media. At most 10 a second for each channel. With `scte35`, the
    section is passed on unchanged, but its time is `at`.
    """
    context = request.app[CONTEXT]
    body = await read(request, session_schemas.NewCue)
    splice, at = _splice(body), _moment(body.at, context.clock())
    cues = await _live_cues(request)
    id = cues.plan(splice, at)
    log.info("a user put a cue into a stream", channel=request.match_info["id"], kind=str(splice.type), id=id)
    return answer({"id": id}, 202)


@operation(list[Cue])
async def index(request: web.Request) -> web.Response:
    """The last 100 ad cues of the live stream.

    The latest comes first. Planned ones are in the list, too.
    """
    stream = source_stream(request, request.match_info["id"])
    cues = request.app[CUES].of(stream) if stream is not None else None
    if cues is None:
        await stored_channel(request)
    found = [] if cues is None else cues.cues
    return answer([asdict(cue) for cue in found])


@operation(None, body=session_schemas.NewMetadata, status=204, statuses=(409, 429))
async def put_metadata(request: web.Request) -> web.Response:
    """Put timed metadata into the live stream.

    Players get the text with the media of this moment. At most 5 a second for each channel. The body of PutMetadata of
    Amazon IVS is accepted, too.
    """
    text = (await read(request, session_schemas.NewMetadata)).metadata
    if not text or len(text.encode("utf-8", "replace")) > MAX_METADATA:
        raise BadRequest(f"expected text of 1 to {MAX_METADATA} bytes", field="metadata")
    (await _live_cues(request)).push_metadata(text)
    return web.Response(status=204)


async def _live_cues(request: web.Request) -> StreamCues:
    """Returns the cues of the live stream. Raises Conflict if the channel is not live, and NoSuchChannel."""
    id = request.match_info["id"]
    stream = source_stream(request, id)
    cues = request.app[CUES].of(stream) if stream is not None else None
    if cues is None:
        await stored_channel(request)
        raise Conflict(f"{id} is not live")
    return cues


def _splice(body: session_schemas.NewCue) -> Splice:
    """Returns the cue of a body; its section is empty if it must be made. Raises BadRequest."""
    if body.scte35 is not None:
        return _read_section(body.scte35)
    if body.type is None:
        raise BadRequest("expected out or in", field="type")
    kind = CueType(body.type)
    return Splice(kind, body.id or "", None, body.seconds if kind is CueType.OUT else None, b"")


def _read_section(text: str) -> Splice:
    try:
        splice = read_splice(decode_section(text))
    except InvalidData as error:
        raise BadRequest(str(error), field="scte35") from None
    if splice is None:
        raise BadRequest("a splice_null is no cue", field="scte35")
    return splice


def _moment(value: str | float | None, now: float) -> float | None:
    """Returns the time of a cue in seconds since 1970; None: now. Raises BadRequest."""
    if value in (None, ""):
        return None
    at = read_moment(value, "at")
    if at < now - _PAST_SECONDS:
        raise BadRequest("this time is in the past", field="at")
    if at > now + _AHEAD_SECONDS:
        raise BadRequest("at most an hour ahead is possible", field="at")
    return at
