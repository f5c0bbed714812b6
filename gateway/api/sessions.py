"""Sessions: shows the live stream of a channel and what viewers experience, ends it, and switches its outputs."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import structlog
from aiohttp import web

from gateway.api import schemas, session_schemas
from gateway.api.answers import Conflict, Missing, answer, answer_list
from gateway.api.authenticators import USER
from gateway.api.body import read
from gateway.api.channels import stored_channel
from gateway.api.context import CLIENT, CONTEXT
from gateway.api.route import operation
from gateway.api.settings_events import record_change
from gateway.channels.names import is_channel_id
from gateway.diagnosis.experience import Experience, summary
from gateway.diagnosis.refusal_log import RefusalLog, newest
from gateway.live.remote_viewer_counts import RemoteViewerCounts
from gateway.live.sink import EndReason
from gateway.live.stream import Stream, StreamState
from gateway.ports.cluster_queries import NodeAnswers
from gateway.ports.errors import NoSuchStream
from gateway.reports.sessions import session, session_with_viewers, sessions

log = structlog.get_logger(__name__)

EXPERIENCE: Final = web.AppKey("experience", Experience)
REFUSALS: Final = web.AppKey("refusals", RefusalLog)
REMOTE_VIEWERS: Final = web.AppKey("remote viewers", RemoteViewerCounts)
_REFUSALS_SECONDS: Final = 1.0  # maximum wait for the refusals of other nodes
_MAX_HEADER_NODES: Final = 20  # nodes named in a header


def source_stream(request: web.Request, id: str) -> Stream | None:
    """Returns the source stream of a channel, live or lingering; None if this node has none."""
    return request.app[CONTEXT].hub.find(id) if is_channel_id(id) else None


@operation(session_schemas.Session)
async def show(request: web.Request) -> web.Response:
    """Show the live session of a channel.

    A live session is returned even while the store is unavailable.
    """
    context = request.app[CONTEXT]
    id = request.match_info["id"]
    stream = source_stream(request, id)
    if stream is None:
        await stored_channel(request)
        found = session_with_viewers(id, None, {})
    else:
        found = _with_node(session_with_viewers(id, stream, request.app[REMOTE_VIEWERS].of(id)), context.cluster.node)
    refusals, faults = await _told(request, id)
    found |= {"health": [*found["health"], *faults], "refusals": newest(refusals)}
    return answer({**found, "behind": request.app[EXPERIENCE].behind(id)})


async def _told(request: web.Request, id: str) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
    """Returns the last refused pushes to a channel on all nodes, and its faults that need no stream.

    A node that does not answer at once must not delay the session, which a console requests every two seconds.
    """
    context, others = request.app[CONTEXT], NodeAnswers()
    with suppress(TimeoutError):
        async with asyncio.timeout(_REFUSALS_SECONDS):
            others = await context.cluster.ask_all(f"told/{id}")
    told = [item for items in others.answers.values() for item in items]
    faults = [*context.hub.feed.shown(id), *(item for item in told if "code" in item)]
    return [*request.app[REFUSALS].of(id), *(item for item in told if "code" not in item)], faults


@operation(session_schemas.Session)
async def end_session(request: web.Request) -> web.Response:
    """End the push and its viewers.

    The key stays valid, so an encoder may reconnect.
    """
    context = request.app[CONTEXT]
    id = request.match_info["id"]
    if not is_channel_id(id) or not context.hub.end_channel(id, EndReason.KICKED):
        raise NoSuchStream(f"{id[:128]} is not live")
    log.info("a user ended the live session", channel=id, peer=request[CLIENT].address)
    await record_change(request, "push", "ended", channel=id)
    return answer(session(id, None))


@operation(list[session_schemas.OnlineSession])
async def online(request: web.Request) -> web.Response:
    """The sessions of all live channels.

    Only the user's channels, which are live or lingering on any node.
    """
    merged, silent = await online_sessions(request)
    behind = request.app[EXPERIENCE].behind
    found = ({**one, "behind": behind(str(one.get("id")))} for one in merged)
    return await answer_list(found, unanswered_nodes_header(silent))


async def online_sessions(request: web.Request) -> tuple[list[Mapping[str, Any]], Sequence[str]]:
    """Returns the sessions of the user's live channels, and the nodes that did not answer."""
    context, rights = request.app[CONTEXT], request[USER].rights
    reported = await context.cluster.ask_all("sessions")
    local = sessions(context.hub, request.app[REMOTE_VIEWERS])
    merged = _merged(local, context.cluster.node, reported)
    return [one for one in merged if rights.may_use(str(one.get("id")))], reported.silent


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


@operation(session_schemas.Output, body=schemas.Switch, statuses=(409,))
async def switch(request: web.Request) -> web.Response:
    """Turn an output of a live stream on or off.

    It stays so until the channel's flags change or the stream ends.
    """
    id, name = request.match_info["id"], request.match_info["name"]
    enabled = (await read(request, schemas.Switch)).enabled in (True, "true")
    stream = source_stream(request, id)
    if stream is None or stream.outputs is None:
        await stored_channel(request)
        raise Conflict(f"{id} is not live: only a live output can be switched; set the channel's flag instead")
    outputs = stream.outputs
    if name not in outputs.names():
        raise Missing(f"no output {name[:64]}; there are {', '.join(outputs.names()) or 'none'}")
    outputs.switch(name, enabled)
    log.info("output switched", channel=id, output=name, enabled=enabled, peer=request[CLIENT].address)
    await record_change(request, "output", "on" if enabled else "off", name, channel=id)
    return answer(next(output for output in outputs.status() if output["name"] == name))


@operation(session_schemas.Experience)
async def experience(request: web.Request) -> web.Response:
    """Show the experience of a channel's viewers.

    Reports start-up time, stalls, delay and quality of the last 30 to 60 minutes, of viewers on all nodes.
    """
    id = request.match_info["id"]
    if source_stream(request, id) is None:
        await stored_channel(request)
    return answer(summary(request.app[EXPERIENCE].of(id)))
