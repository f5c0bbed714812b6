"""Operations below `/_node/.node/`: checks a request of another node, answers it in JSON or passes it on to a
sibling.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import structlog

from gateway.cluster.node_address import NodeAddress, PeerUnavailable
from gateway.cluster.node_endpoint import HOP, Operation, fetched
from gateway.cluster.sibling_processes import SiblingProcesses
from gateway.http.request import Request
from gateway.http.response import JSON, Response

log = structlog.get_logger(__name__)

LINES: Final = "application/x-ndjson"  # one object a line: a reader need not parse all at once
ELSEWHERE: Final = 421  # RFC 9110 §15.5.20: this node is not the one that was meant, or no longer holds the stream

Respond: TypeAlias = Callable[[Request, str], "Response | Awaitable[Response]"]


class NotHeldHere(Exception):
    """This node does not hold the stream."""


@dataclass(frozen=True, slots=True)
class OperationSpec:
    """How an operation is called.

    method: the only HTTP method.
    names: checks the path after the operation's name; None if nothing may follow it.
    respond: raises NotHeldHere, and errors that `refusal` of NodeRpc has an answer to.
    """

    method: str
    names: Callable[[str], bool] | None
    respond: Respond


class NodeRpc:
    """Makes the operations of a node.

    A request may name its receiver with `to=<node id>`. A request for a sibling, which shares our ports, is passed on
    once over the sibling's Unix socket. One for any other node is answered 421. A request without `to` goes to the
    sibling that holds the stream.

    refusal: the answer to an error, None for a fault of ours.
    """

    def __init__(self, siblings: SiblingProcesses, refusal: Callable[[Exception], Response | None]) -> None:
        self.node = siblings.node
        self._siblings = siblings
        self._refusal = refusal

    def operation(self, asked: OperationSpec) -> Operation:
        """Returns the function that answers the operation: it takes the request and the path after the operation's
        name.
        """

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
                socket = self._siblings.sockets().get(to)
                place = NodeAddress(to, f"unix:{socket}") if socket is not None else None
                return await self._pass_on(request, place, f"this is node {self.node}")
            try:
                answer = asked.respond(request, rest)
                return answer if isinstance(answer, Response) else await answer
            except NotHeldHere:
                place = None if "to" in request.query else await self._siblings.held(rest)
                return await self._pass_on(request, place, f"{rest} is not held here")
            except Exception as error:
                refused = self._refusal(error)
                if refused is None:
                    raise
                return refused

        return operate

    async def _pass_on(self, request: Request, place: NodeAddress | None, words: str) -> Response:
        """Passes the request on to a sibling. Answers 421 with `words` if there is none, or if a sibling passed it on
        to us.
        """
        if place is None or HOP in request.headers:
            return refusal(ELSEWHERE, words)
        try:
            return await fetched(self._siblings.peers, place, request)
        except PeerUnavailable as away:
            log.info("a sibling does not answer", node=place.node, reason=str(away))
            return refusal(503, f"node {place.node} does not answer", {"Retry-After": "2"})


def json_answer(value: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Returns `value` as a JSON response."""
    return Response(status, json.dumps(value, separators=(",", ":")).encode("ascii"), JSON, headers=headers)


def lines(values: Iterable[Mapping[str, Any]]) -> Response:
    """Returns a response with each of `values` as a line of JSON."""
    body = "\n".join(json.dumps(value, separators=(",", ":")) for value in values)
    return Response(200, body.encode("ascii"), LINES)


def refusal(status: int, words: str, headers: Mapping[str, str] | None = None) -> Response:
    """Returns a response with `{"error"}`, in the form of the API."""
    return json_answer({"error": words}, status, headers)
