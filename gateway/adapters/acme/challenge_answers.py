"""Answers the checks of an authority: a request for a token (http-01), and a TLS handshake (tls-alpn-01)."""

import asyncio
import socket
import ssl
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, Final, Protocol

from gateway.adapters.acme.acme_files import AcmeFiles, is_token
from gateway.http.request import Request
from gateway.http.response import Response, text
from gateway.lib.bounded_dict import BoundedDict
from gateway.protocols.client_hello import HEADER_BYTES, read_hello, record_bytes
from gateway.protocols.errors import RemoteProtocolError

FOLDER: Final = ".well-known"
_PATH: Final = "acme-challenge/"
_PROTOCOL: Final = b"acme-tls/1"  # RFC 8737 §6.2
_UNKNOWN: Final = text(404, "no such token")
_MAX_ABSENT: Final = 1024  # remembered tokens


class Pending(Protocol):
    """The answers of other machines, like `PendingChallenges`."""

    async def read(self) -> Mapping[str, str] | None:
        """Returns answers by token, and certificates by `<name>.pem`; None if they cannot be read."""


class ChallengeAnswers:
    """Reads the answers from files: any process of the machine may get the check, and one of them asks for it.

    names: the configured names. Other names and malformed tokens cost no access to the disk.
    shared: asked for what is in no file; None: no other machine has this name.
    """

    shared: Pending | None = None

    def __init__(self, files: AcmeFiles, names: Sequence[str]) -> None:
        self._files = files
        self._names = frozenset(names)
        self._absent = BoundedDict[str, None](_MAX_ABSENT)

    def respond(self, request: Request, rest: str) -> Response | Coroutine[Any, Any, Response]:
        """Answers `/.well-known/acme-challenge/<token>`."""
        token = rest.removeprefix(_PATH) if rest.startswith(_PATH) else ""
        answer = self._files.http_challenge(token)
        if answer is None and self.shared is not None and is_token(token) and token not in self._absent:
            return self._ask(self.shared, token)
        return _response(answer)

    async def _ask(self, shared: Pending, token: str) -> Response:
        answers = await shared.read()
        if answers is not None and token not in answers:
            self._absent[token] = None  # a token is random and asked for only after it was stored, so it never comes
        return _response((answers or {}).get(token))

    async def context(self, connection: socket.socket) -> ssl.SSLContext | None:
        """Returns the context for a handshake of an authority; None for other clients. Raises OSError to refuse it.

        RFC 8737 §3: the server presents the certificate of the challenge only if the client offers `acme-tls/1`. The
        hello is read without being taken from the socket.
        """
        size = record_bytes(await _peek(connection, HEADER_BYTES))
        if not size:
            return None
        try:
            hello = read_hello(await _peek(connection, size))
        except RemoteProtocolError:
            return None  # the TLS library answers it
        if hello.protocols != (_PROTOCOL,):
            return None
        if hello.server not in self._names:
            raise ConnectionRefusedError("acme-tls/1 for another name")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        path = self._files.tls_challenge(hello.server)
        pem = (await self.shared.read() or {}).get(path.name) if self.shared and not path.exists() else None
        if pem is not None:
            with self._files.temporary(pem) as path:
                context.load_cert_chain(path)
        else:
            context.load_cert_chain(path)  # OSError: there is no challenge now
        context.set_alpn_protocols([_PROTOCOL.decode()])
        return context


def _response(answer: str | None) -> Response:
    # RFC 8555 §8.3
    return Response(200, answer.encode(), "application/octet-stream", cache="no-store") if answer else _UNKNOWN


async def _peek(connection: socket.socket, size: int) -> bytes:
    """Returns the next bytes without taking them; fewer if the client has closed."""
    loop = asyncio.get_running_loop()
    # The socket becomes readable when this many bytes have arrived, so waiting costs nothing.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, size)
    readable: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not readable.done():
            readable.set_result(None)

    loop.add_reader(connection, wake)
    try:
        await readable
    finally:
        loop.remove_reader(connection)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
    return connection.recv(size, socket.MSG_PEEK)
