"""Operations below `/_node/.node/`: checks a node's request, then answers it in JSON or forwards it to a sibling."""

import json
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeAlias

import structlog

from gateway.cluster.calls.node_endpoint import HOP, Operation, fetch_from_sibling
from gateway.cluster.members.node_address import NodeAddress, PeerUnavailable
from gateway.cluster.members.node_identity import SiblingProcesses
from gateway.cluster.members.node_requests import NOT_THIS_NODE
from gateway.cluster.members.peers import Peers
from gateway.http.request import Request
from gateway.http.response import JSON, Response
from gateway.ports.errors import InvalidField, NoSuchChannel, StoreUnavailable

log = structlog.get_logger(__name__)

LINES: Final = "application/x-ndjson"  # one object per line, so that a reader can parse it in steps

Respond: TypeAlias = Callable[[Request, str], "Response | Awaitable[Response]"]


class NotHeldHere(Exception):
    """This node does not hold the stream."""


@dataclass(frozen=True, slots=True)
class OperationSpec:
    """The specification of an operation.

    method: the only HTTP method.
    is_valid_name: checks the path after the operation's name; None if nothing may follow it.
    respond: raises NotHeldHere, InvalidField, NoSuchChannel, StoreUnavailable.
    """

    method: str
    is_valid_name: Callable[[str], bool] | None
    respond: Respond


def node_operations(siblings: SiblingProcesses, specs: Mapping[str, OperationSpec]) -> dict[str, Operation]:
    """Returns the functions that answer the operations, by name.

    A request may have the parameter `to=<node id>`. A request to a sibling, which shares the ports of this node, is
    forwarded once over the sibling's Unix socket. A request to any other node is answered 421. A request without `to`
    goes to the sibling that holds the stream.
    """
    return {name: partial(_operate, siblings, spec) for name, spec in specs.items()}


async def _operate(siblings: SiblingProcesses, spec: OperationSpec, request: Request, rest: str) -> Response:
    if request.method != spec.method:
        return error_response(405, f"the method must be {spec.method}", {"Allow": spec.method})
    if request.has_body:
        return error_response(400, "operations have no body")
    if bool(rest) != (spec.is_valid_name is not None):
        return error_response(404, "no such operation")
    if spec.is_valid_name is not None and not spec.is_valid_name(rest):
        return error_response(404, "no such name")
    to = request.query.get("to", siblings.node)
    if to != siblings.node:
        socket = siblings.sockets().get(to)
        node = NodeAddress(to, f"unix:{socket}") if socket is not None else None
        return await _forward(siblings.peers, request, node, f"this is node {siblings.node}")
    try:
        answer = spec.respond(request, rest)
        return answer if isinstance(answer, Response) else await answer
    except NotHeldHere:
        node = None if "to" in request.query else await siblings.node_with(rest)
        return await _forward(siblings.peers, request, node, f"{rest} is not held here")
    except InvalidField as error:
        return json_response({"error": error.message, "field": error.field}, 400)
    except NoSuchChannel as error:
        return error_response(404, str(error))
    except StoreUnavailable as error:  # only the log gets its message, which has paths and names of tables
        log.warning("store unavailable", reason=str(error))
        return error_response(503, error.public, {"Retry-After": str(error.retry_after)})


async def _forward(peers: Peers, request: Request, sibling: NodeAddress | None, message: str) -> Response:
    """Forwards the request to a sibling.

    Answers 421 with `message` if there is no sibling, or if a sibling has forwarded the request already.
    """
    if sibling is None or HOP in request.headers:
        return error_response(NOT_THIS_NODE, message)
    try:
        return await fetch_from_sibling(peers, sibling, request)
    except PeerUnavailable as error:
        log.info("a sibling does not answer", node=sibling.id, reason=str(error))
        return error_response(503, f"node {sibling.id} does not answer", {"Retry-After": "2"})


def json_response(value: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Returns `value` as a JSON response."""
    return Response(status, json.dumps(value, separators=(",", ":")).encode("ascii"), JSON, headers=headers)


def lines(values: Iterable[Mapping[str, Any]]) -> Response:
    """Returns a response with each of `values` as a line of JSON."""
    body = "\n".join(json.dumps(value, separators=(",", ":")) for value in values)
    return Response(200, body.encode("ascii"), LINES)


def error_response(status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    """Returns a response with `{"error"}`, like the API."""
    return json_response({"error": message}, status, headers)
