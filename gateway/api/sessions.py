"""Sessions: shows the live stream of a channel, ends it, and switches its outputs on and off."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Any, Final

import structlog
from aiohttp import web

from gateway.api.answers import BadRequest, Conflict, Missing, answer, answer_text, json_text
from gateway.api.authenticators import USER
from gateway.api.body import json_object
from gateway.api.channels import end_streams, stored_channel
from gateway.api.cluster_queries import NodeAnswers
from gateway.api.context import CONTEXT, Context
from gateway.api.webrtc_connections import quality, worst_viewers
from gateway.channels.inputs import stored_inputs
from gateway.channels.names import is_channel_id
from gateway.diagnosis.refusal_log import newest
from gateway.diagnosis.stream_health import UNMEASURED
from gateway.lib.rfc3339 import rfc3339
from gateway.live.hub import Hub
from gateway.live.pushed_tracks import PushedTrack, labels
from gateway.live.remote_viewer_counts import RemoteViewerCounts
from gateway.live.sink import EndReason
from gateway.live.stream import Stream, StreamState
from gateway.media.codecs import describe
from gateway.media.track import Kind
from gateway.playback.formats import ADDRESSES
from gateway.ports.errors import NoSuchStream

log = structlog.get_logger(__name__)

# These are reported even with 0 viewers, so that every name exists.
PROTOCOLS: Final = tuple(address.name for address in ADDRESSES)
# Booleans may be sent as text, as in a channel's flags.
_BOOLEANS: Final = {"true": True, "false": False, '"true"': True, '"false"': False}
_MAX_CONCURRENT: Final = 50
_REFUSALS_SECONDS: Final = 1.0  # to wait for the refusals of other nodes
_MAX_HEADER_NODES: Final = 20  # nodes named in a header
_MAX_NAME_LENGTH: Final = 64  # of an output's name; real names are shorter


def session(id: str, stream: Stream | None, remote_viewers: Mapping[str, int] | None = None) -> dict[str, Any]:
    """Returns a session as the API shows it.

    since: start of the stream, RFC 3339. bitrate: bits per second. remote_viewers: on other nodes, by protocol.
    """
    if stream is None:
        return {
            "id": id,
            "state": str(StreamState.IDLE),
            "since": None,
            "bitrate": 0,
            "publisher": None,
            "input": None,
            "fallback": False,
            "viewers": dict.fromkeys(PROTOCOLS, 0),
            "tracks": [],
            "outputs": [],
            "health": [],
            "measured": UNMEASURED,
        }
    publisher, health = stream.publisher, stream.health
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
            **({} if publisher.network is None else {"webrtc": quality(publisher.network())}),
        },
        "input": stream.input,
        "fallback": stream.input not in (None, stored_inputs(stream.channel.item)[0].name),
        "viewers": _viewers(stream, remote_viewers or {}),
        "tracks": _tracks(stream),
        "outputs": [] if stream.outputs is None else stream.outputs.status(),
        "health": [] if health is None else [{**asdict(f), "since": rfc3339(f.since)} for f in health.findings],
        "measured": UNMEASURED if health is None else health.measured(),
    }


def session_with_viewers(id: str, stream: Stream | None, remote_viewers: Mapping[str, int]) -> dict[str, Any]:
    """Returns a session that was requested by its id: with the connections of WebRTC viewers."""
    return {**session(id, stream, remote_viewers), "webrtcViewers": worst_viewers(stream)}


def _tracks(stream: Stream) -> list[dict[str, Any]]:
    """Returns the tracks: the default ones, then further ones of the publisher, which have a rendition."""
    pushed = stream.pushed_tracks
    default, name = pushed.default, labels(pushed.default, [])[0] if pushed.audio else ""
    found: list[dict[str, Any]] = []
    for track in stream.tracks or ():
        is_audio = track.kind is Kind.AUDIO
        about = (default.language, name) if is_audio else ("", "")
        found.append({**describe(track), "id": 0, "language": about[0], "name": about[1], "rendition": ""})
    names = labels(default, pushed.audio)[1:]
    for further in pushed.video:
        found.append({**describe(further.track), **_further(further, further.info.label or further.name)})
        if further.size is not None:
            found[-1]["width"], found[-1]["height"] = further.size
    found += [
        {**describe(further.track), **_further(further, name)}
        for further, name in zip(pushed.audio, names, strict=True)
    ]
    return found


def _further(track: PushedTrack, name: str) -> dict[str, Any]:
    return {"id": track.id, "language": track.info.language, "name": name, "rendition": track.name}


def _viewers(stream: Stream, remote_viewers: Mapping[str, int]) -> dict[str, int]:
    viewers = {**dict.fromkeys(PROTOCOLS, 0), **stream.viewers}
    for protocol, count in remote_viewers.items():
        viewers[protocol] = viewers.get(protocol, 0) + count
    return viewers


def sessions(hub: Hub, remote_viewers: RemoteViewerCounts) -> Iterator[dict[str, Any]]:
    """Yields the sessions of all channels that are live or lingering here. Renditions have no session of their own."""
    for stream in hub:
        if stream.playable and stream.is_source:
            yield {**session(stream.name, stream, remote_viewers.of(stream.name)), "videoname": stream.channel.name}


def switched(stream: Stream, name: str, enabled: bool, peer: str | None) -> dict[str, Any]:
    """Turns an output of a live stream on or off and returns its status.

    Raises Missing for an unknown output, and Conflict if the stream is not live.
    """
    if stream.outputs is None:
        raise Conflict(f"{stream.name} is not live")
    if name not in stream.outputs.names():
        raise Missing(f"no output {name[:64]}; there are {', '.join(stream.outputs.names()) or 'none'}")
    stream.outputs.switch(name, enabled)
    log.info("output switched", channel=stream.name, output=name, enabled=enabled, peer=peer)
    return next(o for o in stream.outputs.status() if o["name"] == name)


def live(request: web.Request, id: str) -> Stream | None:
    """Returns the source stream of a channel, live or lingering; None if this node has none."""
    return request.app[CONTEXT].hub.find(id) if is_channel_id(id) else None


async def show(request: web.Request) -> web.Response:
    """Returns a session. A live one is returned even while the store is unavailable."""
    context = request.app[CONTEXT]
    id = request.match_info["id"]
    stream = live(request, id)
    session_json: dict[str, Any] | None
    if stream is not None:
        session_json = _with_node(session_with_viewers(id, stream, context.remote_viewers.of(id)), context.cluster.node)
    else:
        session_json = await context.cluster.ask(id, "session") if is_channel_id(id) else None
        if session_json is None:
            await stored_channel(request)
            session_json = session_with_viewers(id, None, {})
    return answer({**session_json, "refusals": await _refusals(context, id)})


async def _refusals(context: Context, id: str) -> list[Mapping[str, Any]]:
    """Returns the last refused pushes to a channel on all nodes, the newest first.

    A node that does not answer at once must not delay the session, which a console requests every two seconds.
    """
    others = NodeAnswers()
    with suppress(TimeoutError):
        async with asyncio.timeout(_REFUSALS_SECONDS):
            others = await context.cluster.everywhere(f"refusals/{id}")
    return newest([*context.refusals.of(id), *(item for items in others.answers.values() for item in items)])


async def end_session(request: web.Request) -> web.Response:
    """Ends the push and its viewers at once. The key stays valid, so an encoder may reconnect."""
    context = request.app[CONTEXT]
    id = request.match_info["id"]
    if not is_channel_id(id):
        raise NoSuchStream(f"{id[:128]} is not live")
    if not end_streams(context.hub, id, EndReason.KICKED) and await context.cluster.ask(id, "kick", "POST") is None:
        raise NoSuchStream(f"{id} is not live")
    log.info("kicked", channel=id, peer=request.remote)
    return answer(session(id, None))


async def online(request: web.Request) -> web.Response:
    """Returns the sessions of the user's channels that are live or lingering on any node."""
    context, rights = request.app[CONTEXT], request[USER].rights
    reported = await context.cluster.everywhere("sessions")
    local = sessions(context.hub, context.remote_viewers)
    parts: list[str] = []
    merged = (s for s in _merged(local, context.cluster.node, reported) if rights.may_use(str(s.get("id"))))
    for number, item in enumerate(merged):
        parts.append(json_text(item))
        if number % _MAX_CONCURRENT == _MAX_CONCURRENT - 1:
            await asyncio.sleep(0)  # 1,000 sessions take tens of milliseconds; other tasks run in between
    return answer_text(f"[{','.join(parts)}]", headers=unanswered_nodes_header(reported.silent))


def unanswered_nodes_header(nodes: Sequence[str]) -> dict[str, str]:
    """Returns the header with the nodes that did not answer, at most 20 of them."""
    named = [node for node in nodes[:_MAX_HEADER_NODES] if node.isascii() and node.isprintable()]
    return {"X-Millrace-Silent": ", ".join(named)} if named else {}


def _merged(local: Iterable[dict[str, Any]], node: str, reported: NodeAnswers) -> Iterable[Mapping[str, Any]]:
    """Returns each channel once, with its node. While a stream moves to another node, both may report it."""
    by_id: dict[str, Mapping[str, Any]] = {item["id"]: _with_node(item, node) for item in local}
    for other, answers in reported.answers.items():
        for item in answers:
            id = str(item.get("id"))
            if id not in by_id or _sort_key(by_id[id]) < _sort_key(item):
                by_id[id] = _with_node(item, other)
    return by_id.values()


def _sort_key(item: Mapping[str, Any]) -> tuple[bool, str]:
    return item.get("state") == StreamState.LIVE, str(item.get("since"))


def _with_node(item: Mapping[str, Any], node: str) -> dict[str, Any]:
    """Returns a session with the id of its node, if there are several nodes."""
    return {**item, "node": node} if node else dict(item)


async def switch(request: web.Request) -> web.Response:
    """Turns an output of a live stream on or off, until the channel's flags change or the stream ends."""
    context = request.app[CONTEXT]
    id, name = request.match_info["id"], request.match_info["name"]
    body = await json_object(request, context.limits.request)
    enabled = _BOOLEANS.get(json.dumps(body.get("enabled")))
    if enabled is None:
        raise BadRequest("expected true or false", field="enabled")
    stream = live(request, id)
    if stream is not None and stream.outputs is not None:
        return answer(switched(stream, name, enabled, request.remote))
    status = None
    if is_channel_id(id):
        query = {"name": name[:_MAX_NAME_LENGTH], "enabled": json.dumps(enabled)}
        status = await context.cluster.ask(id, "outputs", "POST", **query)
    if status is None:
        await stored_channel(request)
        raise Conflict(f"{id} is not live: only a live output can be switched; set the channel's flag instead")
    return answer(status)
