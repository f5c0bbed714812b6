"""Sessions: what is live of a channel, ending it, and switching its outputs while it is."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import Any, Final

import structlog
from aiohttp import web

from gateway.api.answers import BadRequest, Conflict, Missing, answer
from gateway.api.body import json_object
from gateway.api.channels import end_streams, stored
from gateway.api.context import CONTEXT
from gateway.hub.errors import NoSuchStream
from gateway.hub.names import is_channel_id
from gateway.hub.stream import EndReason, Stream, StreamState
from gateway.media.codecs import describe

log = structlog.get_logger(__name__)

# Shown even where nobody watches, so that clients need not ask whether a name is there.
PROTOCOLS: Final = ("flv", "wsflv", "rtmp", "hls", "cmaf", "dash")
# As in a channel's flags, booleans may be sent as text.
_SPELLINGS: Final = {"true": True, "false": False, '"true"': True, '"false"': False}


def session(id: str, stream: Stream | None) -> dict[str, Any]:
    """The answer's shape. since: when the stream started, RFC 3339; bitrate: bits a second."""
    if stream is None:
        return {
            "id": id,
            "state": str(StreamState.IDLE),
            "since": None,
            "bitrate": 0,
            "publisher": None,
            "viewers": dict.fromkeys(PROTOCOLS, 0),
            "tracks": [],
            "outputs": [],
        }
    publisher = stream.publisher
    return {
        "id": id,
        "state": str(stream.state),
        "since": rfc3339(stream.started),
        "bitrate": stream.bitrate if stream.state is StreamState.LIVE else 0,
        "publisher": None
        if publisher is None
        else {
            "protocol": publisher.protocol,
            "address": publisher.peer,
            "seconds": round(time.monotonic() - publisher.since, 1),
            "dropped": dict(publisher.dropped),
        },
        "viewers": {**dict.fromkeys(PROTOCOLS, 0), **stream.viewers},
        "tracks": [] if stream.tracks is None else [describe(track) for track in stream.tracks],
        "outputs": [] if stream.outputs is None else stream.outputs.status(),
    }


def rfc3339(seconds: float) -> str:
    """Seconds since the epoch as 2030-01-31T18:00:00.123Z."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def live(request: web.Request, id: str) -> Stream | None:
    """The source stream of a channel, live or lingering."""
    return request.app[CONTEXT].hub.find(id) if is_channel_id(id) else None


async def show(request: web.Request) -> web.Response:
    """Live sessions are shown even while the store is away."""
    id = request.match_info["id"]
    stream = live(request, id)
    if stream is None:
        await stored(request)
    return answer(session(id, stream))


async def kick(request: web.Request) -> web.Response:
    """Ends the push and its viewers at once. The key stays valid: an encoder that reconnects is let in again."""
    id = request.match_info["id"]
    if not is_channel_id(id) or not end_streams(request.app[CONTEXT], id, EndReason.KICKED):
        raise NoSuchStream(f"{id[:128]} is not live")
    log.info("kicked", channel=id, peer=request.remote)
    return answer(session(id, None))


async def online(request: web.Request) -> web.Response:
    """The sessions of all channels that are live or lingering; renditions belong to their source."""
    return answer(
        [
            {**session(stream.name, stream), "videoname": stream.channel.name}
            for stream in request.app[CONTEXT].hub
            if stream.playable and "@" not in stream.name
        ]
    )


async def switch(request: web.Request) -> web.Response:
    """Turns an output of a live stream on or off, until the channel's flags are changed or the stream ends."""
    context = request.app[CONTEXT]
    id, name = request.match_info["id"], request.match_info["name"]
    body = await json_object(request, context.limits.request)
    enabled = _SPELLINGS.get(json.dumps(body.get("enabled")))
    if enabled is None:
        raise BadRequest("expected true or false", field="enabled")
    stream = live(request, id)
    if stream is None or stream.outputs is None:
        await stored(request)
        raise Conflict(f"{id} is not live: outputs are switched while they run; set the channel's flag instead")
    if name not in stream.outputs.names():
        raise Missing(f"no output {name[:64]}; there are {', '.join(stream.outputs.names()) or 'none'}")
    stream.outputs.switch(name, enabled)
    log.info("output switched", channel=id, output=name, enabled=enabled)
    return answer(next(o for o in stream.outputs.status() if o["name"] == name))
