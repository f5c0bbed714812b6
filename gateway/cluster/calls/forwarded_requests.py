"""Passes requests from another node to the API of this node, which answers on the same connection."""

import asyncio
import re
from collections.abc import Callable
from typing import Final

from gateway.cluster.calls.byte_tunnel import RawLink, tunnel_bytes
from gateway.cluster.calls.node_endpoint import HOP
from gateway.cluster.calls.node_rpc import error_response
from gateway.cluster.members.node_address import NodeAddress, PeerUnavailable
from gateway.cluster.members.node_authenticator import target_of
from gateway.cluster.members.node_identity import SiblingProcesses
from gateway.cluster.members.node_requests import NOT_THIS_NODE
from gateway.http.connection_slot import ConnectionSlot
from gateway.http.request import Request
from gateway.http.response import Answer, Takeover
from gateway.lib.scheduled_reads import ScheduledProtocol
from gateway.ports.cluster_queries import SENDER
from gateway.protocols import nodes

FORWARDED: Final = "forwarded"  # the operation
_READ: Final = 8 * 1024  # bytes of one read
# Method and target are written into one line of the request: no character in them may end this line.
_METHOD: Final = re.compile(r"[A-Z]{1,16}", re.ASCII)
_TARGET: Final = re.compile(r"/[!-~]*", re.ASCII)
_SENDER: Final = re.compile(r"[ -~]{1,6000}", re.ASCII)


class ForwardedRequests:
    """The operation `forwarded`. A request to a sibling process is passed on once, over its Unix socket.

    serve: returns a protocol of the API's HTTP server, for one connection.
    """

    def __init__(self, siblings: SiblingProcesses, serve: Callable[[], asyncio.Protocol]) -> None:
        self._siblings = siblings
        self._serve = serve

    async def operate(self, request: Request, rest: str) -> Answer:
        """Answers the operation. Answers 421 if the request is for another node."""
        query = request.query
        method, target, sender = query.get("method", ""), query.get("target", ""), query.get("sender", "")
        if not (_METHOD.fullmatch(method) and _TARGET.fullmatch(target) and _SENDER.fullmatch(sender)):
            return error_response(400, "expected method, target and sender")
        length = request.headers.get("content-length", "0")
        if "transfer-encoding" in request.headers or not (length.isascii() and length.isdecimal()):
            return error_response(411, "the body needs a Content-Length")
        to = query.get("to", "")
        if to == self._siblings.node:
            return self._answer_here(f"{method} {target} HTTP/1.1\r\n{SENDER}: {sender}\r\n{_head_end(length)}")
        socket = self._siblings.sockets().get(to)
        if socket is None or HOP in request.headers:
            return error_response(NOT_THIS_NODE, f"this is node {self._siblings.node}")
        signature = f"{nodes.HEADER}: {request.headers[nodes.HEADER]}\r\n{HOP}: 1\r\n"
        head = f"{request.method} {target_of(request)} HTTP/1.1\r\n{signature}{_head_end(length)}"
        return await self._forward_to_sibling(NodeAddress(to, f"unix:{socket}"), head)

    def _answer_here(self, head: str) -> Answer:
        def begin(transport: asyncio.Transport, rest: bytes, slot: ConnectionSlot) -> asyncio.BaseProtocol:
            connection = _ApiConnection(self._serve(), slot)
            connection.connection_made(transport)
            connection.bytes_received(head.encode("ascii") + rest)
            return connection

        return Takeover(begin)

    async def _forward_to_sibling(self, sibling: NodeAddress, head: str) -> Answer:
        link = RawLink()
        try:
            transport = await self._siblings.peers.connect(sibling, link)
        except PeerUnavailable:
            return error_response(503, f"node {sibling.id} does not answer", {"Retry-After": "2"})
        link.opened(transport, b"")

        def begin(client: asyncio.Transport, rest: bytes, slot: ConnectionSlot) -> asyncio.BaseProtocol:
            if transport.is_closing():
                client.close()
            return tunnel_bytes(client, slot, head.encode("ascii") + rest, link)

        return Takeover(begin, link.abort)


class _ApiConnection(ScheduledProtocol):
    """A connection that the API's HTTP server owns from now on. It is closed after one answer."""

    __slots__ = ("_slot",)

    def __init__(self, inner: asyncio.Protocol, slot: ConnectionSlot) -> None:
        super().__init__(inner, slot.scheduler, _READ)
        self._slot = slot

    def connection_lost(self, exc: Exception | None) -> None:
        self._slot.release()
        super().connection_lost(exc)


def _head_end(length: str) -> str:
    """Returns the last headers of a request, and the empty line after them."""
    return f"Host: node\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
