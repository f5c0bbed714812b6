"""Sends requests for a live stream to the node that holds it. There, the same handlers answer them."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final, Self
from urllib.parse import quote

from aiohttp import web
from aiohttp.typedefs import Handler
from pydantic import BaseModel

from gateway.api.answers import is_connected, refusal, send_stream
from gateway.api.authenticators import USER
from gateway.api.body import read_body
from gateway.api.context import CLIENT, CONTEXT, Client, host_of
from gateway.api.login_sessions import ApiUser, SignInKind
from gateway.api.route import Route
from gateway.channels.addresses import OpenPorts
from gateway.channels.names import is_channel_id
from gateway.lib import bounded_json
from gateway.lib.numbers import read_integer
from gateway.ports.cluster_queries import HOLDER, SENDER, ForwardedRequest, HolderAnswer
from gateway.ports.errors import HolderUnavailable
from gateway.ports.users import Rights, UserRole

_ANSWER_SECONDS: Final = 4.0
_SLOW_SECONDS: Final = 660.0  # limit of a slow answer; a dead node is noticed within seconds
_CHECK_SECONDS: Final = 0.5  # between two checks whether the client is still connected
_MAX_WHOLE: Final = 1_000_000  # bytes of an answer that is read before it is sent
_MISDIRECTED: Final = 421  # RFC 9110 §15.5.20: the stream is no longer here
_RELAYED: Final = ("Content-Type", "Content-Disposition", "Accept-Ranges", "Retry-After", "X-Millrace-Silent")


class Sender(BaseModel, frozen=True):
    """The sender of a forwarded request, and its addresses. The node that got the request has authorized it.

    digest: SHA-256 of the body. The cluster's signature covers it, because the sender is in the query.
    """

    kind: SignInKind
    name: str
    role: UserRole
    peer: str
    scheme: str
    host: str
    ports: dict[str, int | None]
    digest: str

    @classmethod
    def of(cls, request: web.Request, body: bytes) -> Self:
        context, user, client = request.app[CONTEXT], request[USER], request[CLIENT]
        return cls(
            kind=user.kind,
            name=user.name,
            role=user.rights.role,
            peer=client.address,
            scheme=client.scheme,
            host=host_of(request),
            ports=context.address_defaults.ports().as_json(),
            digest=_digest(body),
        )


def forwarded(route: Route) -> Handler:
    """Returns a handler that forwards requests to the node with the stream. Without such a node, this node answers."""

    async def handler(request: web.Request) -> web.StreamResponse:
        context, id = request.app[CONTEXT], request.match_info["id"]
        if is_channel_id(id) and not context.holds(id):
            body = await read_body(request) if request.can_read_body else b""
            seconds = _SLOW_SECONDS if route.slow else _ANSWER_SECONDS
            wanted = _forwarded(request, request.method, request.raw_path, body, seconds)
            async with AsyncExitStack() as stack:
                async with _while_connected(request):
                    holder_answer = await stack.enter_async_context(context.cluster.forward(id, wanted))
                if holder_answer is not None:
                    return await _relay(request, holder_answer)
        return await route.operation.handler(request)

    return handler


async def session_elsewhere(request: web.Request, id: str) -> Mapping[str, Any] | None:
    """Returns the session of a stream that another node holds; None if no other node holds it."""
    wanted = _forwarded(request, "GET", f"/videostream/{id}/session", b"", _ANSWER_SECONDS)
    async with request.app[CONTEXT].cluster.forward(id, wanted) as holder_answer:
        if holder_answer is None:
            return None
        body = await _read_whole(holder_answer)
    try:
        value = bounded_json.loads(body)
    except ValueError:
        value = None
    if holder_answer.status != 200 or not isinstance(value, dict):
        raise HolderUnavailable(f"the node that holds {id} does not show its session")
    return value


def caption_request(id: str, body: bytes, peer: str) -> ForwardedRequest:
    """Returns a caption with the stream key of a channel, for the node that holds its stream. peer: its sender."""
    role, digest = UserRole.BROADCASTER, _digest(body)
    sender = Sender(kind="api", name="key", role=role, peer=peer, scheme="http", host="", ports={}, digest=digest)
    target, text = f"/videostream/{quote(id)}/captions", sender.model_dump_json(ensure_ascii=True)
    return ForwardedRequest("POST", target, text, body, _ANSWER_SECONDS)


@web.middleware
async def sender_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Prepares a request that another node has forwarded. Sets the user, client and addresses that this node sent.

    Answers 421 if this node does not hold the stream.
    """
    if request.match_info.http_exception is not None:
        return await handler(request)
    context, id = request.app[CONTEXT], request.match_info["id"]
    if not context.holds(id):
        return refusal(_MISDIRECTED, f"{id} is not held here")
    sender = Sender.model_validate_json(request.headers[SENDER])
    request[CLIENT] = Client(sender.peer, sender.scheme, sender.host, OpenPorts.of_node(sender.ports))
    request[USER] = ApiUser(sender.kind, sender.name, rights=Rights(sender.role, (id,)))
    if _digest(await read_body(request)) != sender.digest:
        return refusal(400, "the body has another digest")
    return await handler(request)


async def mark_answer(request: web.Request, response: web.StreamResponse) -> None:
    """Marks an answer to another node, to show that the API has answered and not only the listener."""
    response.headers[HOLDER] = request.app[CONTEXT].cluster.node


def _forwarded(request: web.Request, method: str, target: str, body: bytes, seconds: float) -> ForwardedRequest:
    sender = Sender.of(request, body).model_dump_json(ensure_ascii=True)
    return ForwardedRequest(method, target, sender, body, seconds)


def _digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


async def _relay(request: web.Request, holder_answer: HolderAnswer) -> web.StreamResponse:
    """Sends the answer of another node to the client. A short one is read whole; a long one is sent as it arrives."""
    headers = {name: value for name in _RELAYED if (value := holder_answer.headers.get(name)) is not None}
    length = read_integer(holder_answer.headers.get("Content-Length", ""), 2**63)
    if request.method != "HEAD" and length is not None and length <= _MAX_WHOLE:
        return web.Response(status=holder_answer.status, headers=headers, body=await _read_whole(holder_answer))
    response = web.StreamResponse(status=holder_answer.status, headers=headers)
    response.content_length = length
    if request.method != "HEAD":
        await send_stream(request, response, holder_answer.body)
    return response


async def _read_whole(holder_answer: HolderAnswer) -> bytes:
    """Returns the body. Raises HolderUnavailable if it has more than _MAX_WHOLE bytes."""
    body = bytearray()
    async for chunk in holder_answer.body:
        body += chunk
        if len(body) > _MAX_WHOLE:
            raise HolderUnavailable("the node that holds the stream sent too much")
    return bytes(body)


@asynccontextmanager
async def _while_connected(request: web.Request) -> AsyncIterator[None]:
    """Ends the block with ConnectionAbortedError if the client disconnects."""
    loop = asyncio.get_running_loop()
    timer: asyncio.TimerHandle | None = None

    def check() -> None:
        nonlocal timer
        timer = loop.call_later(_CHECK_SECONDS, check)
        if not is_connected(request):
            timer.cancel()
            limit.reschedule(loop.time())

    try:
        async with asyncio.timeout(None) as limit:
            check()
            try:
                yield
            finally:
                assert timer is not None  # set by `check`
                timer.cancel()
    except TimeoutError:
        if not limit.expired():
            raise
        raise ConnectionAbortedError("the client disconnected") from None
