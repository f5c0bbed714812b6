"""Finds the process that owns a WebRTC session, and asks it to change or end the session."""

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeAlias

import structlog

from gateway.cluster.calls.node_endpoint import Operation
from gateway.cluster.calls.node_rpc import OperationSpec, node_operations
from gateway.cluster.members.node_address import NodeAddress, PeerUnavailable
from gateway.cluster.members.node_identity import SiblingProcesses
from gateway.cluster.members.node_requests import NOT_THIS_NODE, operation_target
from gateway.http.request import Request
from gateway.http.response import Response, service_unavailable, text
from gateway.ports.cluster_secret import ClusterSecret
from gateway.ports.nodes import Node
from gateway.webrtc.signalling import MAX_OFFER, NO_SESSION, SessionChange

log = structlog.get_logger(__name__)

OPERATION: Final = "webrtc-session"
_METHOD: Final = "SESSION"  # signed instead of an HTTP method, so that this signature is not valid for a request
_TAG_DIGITS: Final = 12
_MAX_CONCURRENT: Final = 64  # requests to other processes
_SECONDS: Final = 4.0
_RETRY_AFTER: Final = 2  # seconds
_DONE: Final = text(202, "done")  # replaces 204, because answers between nodes have a body

# Returns the nodes that seem to be alive.
FindNodes: TypeAlias = Callable[[], Awaitable[Sequence[Node]]]


async def no_nodes() -> Sequence[Node]:
    """Returns no nodes, for a node that knows only the processes of its host."""
    return ()


class SessionForwarder:
    """Implements RemoteSessions of `webrtc.signalling`.

    The path of a session ends with `.<tag of its process>.<signature>`. Only a path with a valid signature is
    forwarded. So clients cannot find out which nodes there are, and only a client with a session causes requests.
    At most _MAX_CONCURRENT requests are forwarded at a time; beyond that the answer is 503.
    """

    def __init__(self, siblings: SiblingProcesses, secret: ClusterSecret, nodes: FindNodes = no_nodes) -> None:
        self._siblings = siblings
        self._secret = secret
        self._nodes = nodes
        self._own_tag = _tag(siblings.node)
        self._running = 0

    def operations(self, apply: Callable[[SessionChange], Response]) -> dict[str, Operation]:
        """Returns the operation for other nodes. apply: changes a session of this process."""

        def operate(request: Request, rest: str) -> Response:
            answer = apply(SessionChange.of_query(request.query))
            return _DONE if answer.status == 204 else answer

        return node_operations(self._siblings, {OPERATION: OperationSpec("POST", None, operate)})

    # ---- RemoteSessions ----

    def seal(self, path: str) -> str:
        tagged = f"{path}.{self._own_tag}"
        return f"{tagged}.{self._secret.sign(_METHOD, tagged, 0).partition('-')[2]}"

    def is_elsewhere(self, path: str) -> bool:
        tagged, _, signature = path.rpartition(".")
        if tagged.rpartition(".")[2] == self._own_tag:
            return False  # this process made the path; the caller knows all sessions of this process
        return self._secret.verify(_METHOD, tagged, f"0-{signature}", 0) == ""

    async def change(self, change: SessionChange) -> Response:
        if self._running >= _MAX_CONCURRENT:
            return service_unavailable("too many requests for sessions of other processes", _RETRY_AFTER)
        self._running += 1
        try:
            node = await self._find(change.path.rsplit(".", 2)[1])
            return NO_SESSION if node is None else await self._ask(node, change)
        except PeerUnavailable as error:
            log.info("the process of a WebRTC session does not answer", reason=str(error))
            return NO_SESSION if error.refused else service_unavailable("the session cannot be reached", _RETRY_AFTER)
        finally:
            self._running -= 1

    async def _find(self, tag: str) -> NodeAddress | None:
        for id, socket in self._siblings.sockets().items():
            if _tag(id) == tag:
                return NodeAddress(id, f"unix:{socket}")
        for node in await self._nodes():
            if node.address and _tag(node.id) == tag:
                return NodeAddress(node.id, node.address)
        return None

    async def _ask(self, node: NodeAddress, change: SessionChange) -> Response:
        target = operation_target(node, OPERATION, change.as_query())
        async with self._siblings.peers.request(node, "POST", target, seconds=_SECONDS) as answer:
            if answer.status == NOT_THIS_NODE:
                return NO_SESSION
            if answer.status == _DONE.status:
                return Response(204, None)
            headers = {"ETag": answer.headers["ETag"]} if "ETag" in answer.headers else None
            content = answer.headers.get("Content-Type", "text/plain")
            return Response(answer.status, await answer.content.read(MAX_OFFER), content, headers=headers)


def _tag(node: str) -> str:
    """Returns a short name of a node for paths. The id cannot be found from it."""
    return hashlib.sha256(f"webrtc/{node}".encode()).hexdigest()[:_TAG_DIGITS]
