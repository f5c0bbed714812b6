"""Operations: what other nodes ask of a gateway about its streams and channels."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import structlog

from gateway.api import nms
from gateway.api.answers import BadRequest, of_error
from gateway.api.channels import end_streams
from gateway.api.sessions import PROTOCOLS, session, sessions, switched
from gateway.hub.channel import Channel
from gateway.hub.distant import DistantViewers
from gateway.hub.errors import NoSuchChannel
from gateway.hub.hub import Hub
from gateway.hub.names import is_channel_id, is_stream_name
from gateway.hub.ports import ChannelReader
from gateway.hub.stream import EndReason, Stream
from gateway.nodes.door import Operation
from gateway.nodes.operation import Asked, Desk, Elsewhere, json_answer, lines
from gateway.nodes.peers import Peers
from gateway.nodes.places import Place
from gateway.nodes.pulling import told_of
from gateway.servers.request import Request
from gateway.servers.response import JSON, Response

log = structlog.get_logger(__name__)

_NODE = re.compile(r"[A-Za-z0-9._:-]{1,128}", re.ASCII)
_COUNT = re.compile(r"[0-9]{1,7}", re.ASCII)
_SWITCH: Final = {"true": True, "false": False}


class Operations:
    """For NodeDoor; `table()` gives what it takes.

    node: our id. channels: read fresh; cached: as playback reads them. forget: drops a channel from caches. report:
    what `node` answers. siblings, held: as of Desk.
    """

    def __init__(
        self,
        *,
        node: str,
        hub: Hub,
        channels: ChannelReader,
        cached: ChannelReader,
        forget: Callable[[str], None],
        distant: DistantViewers,
        report: Callable[[], Mapping[str, Any]],
        peers: Peers,
        siblings: Callable[[], Mapping[str, str]],
        held: Callable[[str], Awaitable[Place | None]],
    ) -> None:
        self._desk = Desk(node, peers, siblings, held, _refusal)
        self._hub = hub
        self._channels = channels
        self._cached = cached
        self._forget = forget
        self._distant = distant
        self._report = report

    def table(self) -> dict[str, Operation]:
        """By name; each answers (request, the path below its name)."""
        asked = {
            "node": Asked("GET", None, self._about),
            "sessions": Asked("GET", None, self._sessions),
            "streams": Asked("GET", None, self._streams),
            "session": Asked("GET", is_channel_id, self._session),
            "channel": Asked("GET", is_channel_id, self._channel),
            "kick": Asked("POST", is_channel_id, self._kick),
            "outputs": Asked("POST", is_channel_id, self._switch),
            "changed": Asked("POST", is_channel_id, self._changed),
            "viewers": Asked("POST", is_stream_name, self._viewers),
        }
        return {name: self._desk.operation(one) for name, one in asked.items()}

    # ---- of the node ----

    def _about(self, request: Request, rest: str) -> Response:
        return lines([self._report()])

    def _sessions(self, request: Request, rest: str) -> Response:
        return lines(sessions(self._hub, self._distant))

    def _streams(self, request: Request, rest: str) -> Response:
        return lines({"id": id, "entry": entry} for id, entry in nms.entries(self._hub))

    # ---- of a channel ----

    async def _channel(self, request: Request, id: str) -> Response:
        """What an edge without a store may know of it: no key, no address with a secret in it."""
        return json_answer({"id": id, **told_of(await self._cached.get(id))})

    async def _changed(self, request: Request, id: str) -> Response:
        """Nobody here may go on with what was; a live stream follows what is stored now."""
        self._forget(id)
        held = any(stream.channel.id == id for stream in self._hub)
        if held:
            try:
                channel: Channel | None = await self._channels.get(id)
            except NoSuchChannel:
                channel = None
            if channel is not None:
                self._hub.channel_changed(channel)
            else:
                end_streams(self._hub, id, EndReason.DELETED)
            log.info("channel changed elsewhere", channel=id, deleted=channel is None, peer=request.peer)
        return json_answer({"held": held})

    # ---- of a live stream ----

    def _session(self, request: Request, id: str) -> Response:
        told = session(id, self._live(id), self._distant.of(id))
        return json_answer({**told, "node": self._desk.node})

    def _kick(self, request: Request, id: str) -> Response:
        if not end_streams(self._hub, id, EndReason.KICKED):
            raise Elsewhere(id)
        log.info("kicked", channel=id, peer=request.peer)
        return json_answer({"kicked": True})

    def _switch(self, request: Request, id: str) -> Response:
        enabled = _SWITCH.get(request.query.get("enabled", ""))
        if enabled is None:
            raise BadRequest("expected true or false", field="enabled")
        return json_answer(switched(self._live(id), request.query.get("name", ""), enabled, request.peer))

    def _viewers(self, request: Request, name: str) -> Response:
        """`node` has so many viewers of it, by protocol; it says so every few seconds, or is forgotten."""
        node = request.query.get("node", "")
        if not _NODE.fullmatch(node):
            raise BadRequest("expected the id of the node that tells", field="node")
        counts = {}
        for protocol in PROTOCOLS:
            told = request.query.get(protocol, "0")
            if not _COUNT.fullmatch(told):
                raise BadRequest("expected a number of at most seven digits", field=protocol)
            counts[protocol] = int(told)
        self._distant.told(self._live(name).name, node, counts)
        return json_answer({"node": self._desk.node})

    def _live(self, name: str) -> Stream:
        stream = self._hub.find(name)
        if stream is None:
            raise Elsewhere(name)
        return stream


def _refusal(error: Exception) -> Response | None:
    """The API's answer to an error, as the playback listener gives it."""
    answer = of_error(error)
    if answer is None:
        return None
    body = answer.body
    assert isinstance(body, bytes), "a refusal is a short text"
    kept = {"Retry-After": answer.headers["Retry-After"]} if "Retry-After" in answer.headers else {}
    return Response(answer.status, body, JSON, headers=kept)
