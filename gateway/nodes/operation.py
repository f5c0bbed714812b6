"""Operation: a question of another node below `/_node/.node/`: judged, answered in JSON, or passed on to a sibling."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import structlog

from gateway.hub.names import is_channel_id
from gateway.nodes.door import HOP, Operation, fetched
from gateway.nodes.peers import Peers
from gateway.nodes.places import PeerAway, Place
from gateway.servers.request import Request
from gateway.servers.response import JSON, Response

log = structlog.get_logger(__name__)

LINES: Final = "application/x-ndjson"  # one object a line: who reads them need not read all at once
ELSEWHERE: Final = 421  # RFC 9110 §15.5.20: this node is not the one that was meant, or no longer holds the stream

Respond: TypeAlias = Callable[[Request, str], "Response | Awaitable[Response]"]


class Elsewhere(Exception):
    """This node does not hold the stream."""


@dataclass(frozen=True, slots=True)
class Asked:
    """method: the only one. names: what may follow the operation's name; None: nothing may. respond: raises Elsewhere,
    and what `refusal` of the desk has an answer to."""

    method: str
    names: Callable[[str], bool] | None
    respond: Respond


async def _by_none(stream: str) -> Place | None:
    """No sibling holds anything."""
    return None


def _none(error: Exception) -> Response | None:
    """There is no answer to an error."""
    return None


class Desk:
    """Makes operations of a node. A request may say for whom it is, `to=<node id>`: one for a sibling, which shares our
    ports, is passed on to it once over its Unix socket, any other is answered 421. One for nobody in particular goes to
    the sibling that holds the stream.

    siblings: Unix sockets of this host's processes, by node; held: which of them holds a stream. refusal: the answer to
    an error, None for a fault of ours.
    """

    def __init__(
        self,
        node: str,
        peers: Peers,
        siblings: Callable[[], Mapping[str, str]] = dict,
        held: Callable[[str], Awaitable[Place | None]] = _by_none,
        refusal: Callable[[Exception], Response | None] = _none,
    ) -> None:
        self.node = node
        self._peers = peers
        self._siblings = siblings
        self._held = held
        self._refusal = refusal

    def operation(self, asked: Asked) -> Operation:
        """What a door calls with the request and the path below the operation's name."""

        async def operate(request: Request, rest: str) -> Response:
            if request.method != asked.method:
                return refusal(405, f"asked with {asked.method} only", {"Allow": asked.method})
            if request.has_body:
                return refusal(400, "operations have no body")
            if bool(rest) != (asked.names is not None):
                return refusal(404, "no such operation")
            if asked.names is not None and not asked.names(rest):
                return refusal(404, "no such name")
            to = request.query.get("to", self.node)
            if to != self.node:
                socket = self._siblings().get(to)
                place = Place(to, f"unix:{socket}") if socket is not None else None
                return await self._pass_on(request, place, f"this is node {self.node}")
            try:
                answer = asked.respond(request, rest)
                return answer if isinstance(answer, Response) else await answer
            except Elsewhere:
                place = None if "to" in request.query else await self._held(rest)
                return await self._pass_on(request, place, f"{rest} is not held here")
            except Exception as error:
                refused = self._refusal(error)
                if refused is None:
                    raise
                return refused

        return operate

    async def _pass_on(self, request: Request, place: Place | None, words: str) -> Response:
        """To a sibling; `words` where there is none, or where a sibling has passed it on to us."""
        if place is None or HOP in request.headers:
            return refusal(ELSEWHERE, words)
        try:
            return await fetched(self._peers, place, request)
        except PeerAway as away:
            log.info("a sibling does not answer", node=place.node, reason=str(away))
            return refusal(503, f"node {place.node} does not answer", {"Retry-After": "2"})


def edge_operations(
    node: str, peers: Peers, report: Callable[[], Mapping[str, Any]], forget: Callable[[str], None]
) -> dict[str, Operation]:
    """What an edge is asked, by name. report: of itself, as gateway.api.status.summary; forget: drops a channel from
    its cache."""

    def about(request: Request, rest: str) -> Response:
        return lines([report()])

    def changed(request: Request, id: str) -> Response:
        forget(id)
        return json_answer({"held": False})

    desk = Desk(node, peers)
    asked = {"node": Asked("GET", None, about), "changed": Asked("POST", is_channel_id, changed)}
    return {name: desk.operation(one) for name, one in asked.items()}


def json_answer(value: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """`value` as JSON."""
    return Response(status, json.dumps(value, separators=(",", ":")).encode("ascii"), JSON, headers=headers)


def lines(values: Iterable[Mapping[str, Any]]) -> Response:
    """Each of `values` as a line of JSON."""
    body = "\n".join(json.dumps(value, separators=(",", ":")) for value in values)
    return Response(200, body.encode("ascii"), LINES)


def refusal(status: int, words: str, headers: Mapping[str, str] | None = None) -> Response:
    """`{"error"}`, as the API has it."""
    return json_answer({"error": words}, status, headers)
