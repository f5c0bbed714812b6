"""Forwards the requests of publishers' pages and encoders to a gateway, because an edge accepts no pushes."""

import time
from collections.abc import Awaitable
from typing import Final
from urllib.parse import quote, urlencode

import structlog

from gateway.cluster.members.node_address import NodeAddress, PeerUnavailable
from gateway.cluster.members.peers import Peers
from gateway.http.body import read_body
from gateway.http.request import Request
from gateway.http.response import Answer, Response, not_allowed, service_unavailable
from gateway.lib.places import Places
from gateway.lib.refusals import Refusals
from gateway.lib.tasks import Tasks
from gateway.playback import caption_posts as captions
from gateway.playback.obs_configuration import BODY_SECONDS, MAX_BYTES
from gateway.playback.public_channels import SharedRead
from gateway.ports.errors import StoreUnavailable
from proxy.edge.gateways import Gateways

log = structlog.get_logger(__name__)

_PORTS_SECONDS: Final = 5.0  # between two requests for the ports
_ASK_SECONDS: Final = 5.0  # for the answer of one gateway
_MAX_CONCURRENT: Final = 64  # requests to gateways; beyond that the answer is 503
_MAX_ANSWER: Final = 262_144  # bytes
_KNOWN: Final = (200, 202, 429)
_NO_GATEWAY: Final = "no gateway can be asked now"


class PublisherRequests:
    """Answers the requests of PublisherRoutes at an edge.

    The gateways check the keys. limit: counts each request with a stream key as refused, by address; of captions, which
    are many, only those with a wrong key.
    """

    def __init__(self, gateways: Gateways, peers: Peers, tasks: Tasks, limit: Refusals) -> None:
        self._gateways, self._peers, self._limit = gateways, peers, limit
        self._running = Places(_MAX_CONCURRENT, lambda: StoreUnavailable(_NO_GATEWAY))
        self._ports = SharedRead(lambda: self._ask("GET", "push-ports"), _PORTS_SECONDS, tasks)

    async def ports(self, request: Request) -> Response:
        """Answers `/broadcast.json`: host and ports of a gateway."""
        return await _answered(self._ports.get())

    async def servers(self, request: Request, id: str) -> Response:
        """Answers `/_servers/<id>?sign=<key>`."""
        if request.method not in ("GET", "HEAD"):
            return not_allowed("GET, HEAD")
        query = urlencode({"sign": request.query.get("sign", "")})
        return self._limited(request) or await self._answer("GET", f"push-servers/{quote(id, safe='')}?{query}")

    async def obs(self, request: Request, id: str) -> Answer:
        """Answers `POST /<id>/GetClientConfiguration`."""
        limited = self._limited(request)
        if limited is not None:
            return limited
        return read_body(request, MAX_BYTES, BODY_SECONDS, lambda body: self._answer("POST", f"obs/{quote(id)}", body))

    async def captions(self, request: Request, id: str) -> Answer:
        """Answers `POST /<id>/captions?sign=<key>`."""
        query = urlencode({"sign": request.query.get("sign", "")})
        target = f"{captions.PATH}/{quote(id)}?{query}"

        async def respond(body: bytes) -> Response:
            answer = await self._answer("POST", target, body)
            return (self._limited(request) or answer) if answer.status == 403 else answer

        return read_body(request, captions.MAX_BYTES, captions.BODY_SECONDS, respond)

    def _limited(self, request: Request) -> Response | None:
        seconds = 0 if request.exempt else self._limit.add(request.peer, time.monotonic())
        return service_unavailable("too many requests from this address", seconds, 429) if seconds else None

    async def _answer(self, method: str, operation: str, body: bytes = b"") -> Response:
        return await _answered(self._ask(method, operation, body))

    async def _ask(self, method: str, operation: str, body: bytes = b"") -> Response:
        """Returns the first answer of a gateway that knows the channel; the last answer if there is none.

        Gateways may have separate stores, so another one may know the channel. Raises StoreUnavailable.
        """
        answer: Response | None = None
        with self._running:
            for gateway in await self._gateways.in_order():
                try:
                    answer = await self._answer_of(gateway, method, f"/_node/.node/{operation}", body)
                except PeerUnavailable as error:
                    self._gateways.mark_failed(gateway)
                    log.debug("a gateway does not answer for publishers", node=gateway.id, reason=str(error))
                    continue
                if answer.status in _KNOWN:
                    break
        if answer is None:
            raise StoreUnavailable(_NO_GATEWAY)
        return answer

    async def _answer_of(self, gateway: NodeAddress, method: str, target: str, body: bytes) -> Response:
        async with self._peers.request(gateway, method, target, seconds=_ASK_SECONDS, body=body) as reply:
            content = bytearray()
            async for chunk in reply.content.iter_any():
                content += chunk
                if len(content) > _MAX_ANSWER:
                    raise PeerUnavailable(gateway, "its answer is too long")
            kind, wait = reply.headers.get("Content-Type", "text/plain"), reply.headers.get("Retry-After")
            return Response(reply.status, bytes(content), kind, headers={"Retry-After": wait} if wait else None)


async def _answered(answer: Awaitable[Response]) -> Response:
    """Returns the answer, or 503 if no gateway has one."""
    try:
        return await answer
    except StoreUnavailable as error:
        return service_unavailable(str(error), error.retry_after)
