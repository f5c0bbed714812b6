"""Answers the checks of an authority: a request for a token (http-01), and a TLS handshake (tls-alpn-01)."""

import asyncio
import socket
import ssl
from collections.abc import Sequence
from typing import Final

from gateway.adapters.acme.acme_files import AcmeFiles
from gateway.http.request import Request
from gateway.http.response import Response, text
from gateway.protocols.client_hello import HEADER_BYTES, read_hello, record_bytes
from gateway.protocols.errors import RemoteProtocolError

FOLDER: Final = ".well-known"
_PATH: Final = "acme-challenge/"
_PROTOCOL: Final = b"acme-tls/1"  # RFC 8737 §6.2
_UNKNOWN: Final = text(404, "no such token")


class ChallengeAnswers:
    """Reads the answers from files: any process of the machine may get the check, and one of them asks for it.

    names: the configured names. Other names and malformed tokens cost no access to the disk.
    """

    def __init__(self, files: AcmeFiles, names: Sequence[str]) -> None:
        self._files = files
        self._names = frozenset(names)

    def respond(self, request: Request, rest: str) -> Response:
        """Answers `/.well-known/acme-challenge/<token>`."""
        answer = self._files.http_challenge(rest.removeprefix(_PATH)) if rest.startswith(_PATH) else None
        # RFC 8555 §8.3
        return Response(200, answer.encode(), "application/octet-stream", cache="no-store") if answer else _UNKNOWN

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
        context.load_cert_chain(self._files.tls_challenge(hello.server))  # OSError: there is no challenge now
        context.set_alpn_protocols([_PROTOCOL.decode()])
        return context


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
