"""Reads the first record of a TLS connection: which server and which protocols a client asks for."""

from dataclasses import dataclass
from typing import Final

from gateway.protocols.errors import RemoteProtocolError

HEADER_BYTES: Final = 5  # RFC 8446 §5.1: type, version, length
MAX_RECORD: Final = HEADER_BYTES + 16_384
_HANDSHAKE, _CLIENT_HELLO = 22, 1
_SERVER_NAME, _PROTOCOLS = 0, 16  # the extensions, RFC 6066 §3 and RFC 7301 §3.1


@dataclass(frozen=True, slots=True)
class ClientHello:
    """The wishes of a client. server: the name in lower case; "" if there is none. protocols: as ALPN has them."""

    server: str
    protocols: tuple[bytes, ...]


def record_bytes(header: bytes) -> int:
    """Returns the size of the first record with its header; 0 if it is no handshake."""
    if len(header) < HEADER_BYTES or header[0] != _HANDSHAKE:
        return 0
    return min(HEADER_BYTES + int.from_bytes(header[3:5], "big"), MAX_RECORD)


def read_hello(record: bytes) -> ClientHello:
    """Returns the hello in a record with its header. Raises RemoteProtocolError, also if it goes on in another record.

    RFC 8446 §4.1.2: version, random, session id, cipher suites, compression, extensions.
    """
    if record[HEADER_BYTES : HEADER_BYTES + 1] != bytes((_CLIENT_HELLO,)):
        raise RemoteProtocolError("no ClientHello")
    hello = _Bytes(_Bytes(record[HEADER_BYTES + 1 :]).sized(3))
    hello.take(34)
    hello.sized(1)
    hello.sized(2)
    hello.sized(1)
    extensions = _Bytes(hello.sized(2) if hello else b"")
    server, protocols = "", []
    while extensions:
        kind, body = int.from_bytes(extensions.take(2), "big"), _Bytes(extensions.sized(2))
        if kind == _SERVER_NAME:
            entry = _Bytes(body.sized(2))
            entry.take(1)
            server = entry.sized(2).decode("ascii", "replace").lower()
        elif kind == _PROTOCOLS:
            names = _Bytes(body.sized(2))
            while names:
                protocols.append(names.sized(1))
    return ClientHello(server, tuple(protocols))


class _Bytes:
    """Reads fields from the front."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def __bool__(self) -> bool:
        return bool(self._data)

    def take(self, size: int) -> bytes:
        """Returns the next `size` bytes. Raises RemoteProtocolError if there are fewer."""
        if len(self._data) < size:
            raise RemoteProtocolError("the ClientHello is cut")
        taken, self._data = self._data[:size], self._data[size:]
        return taken

    def sized(self, width: int) -> bytes:
        """Returns a field that begins with its size in `width` bytes."""
        return self.take(int.from_bytes(self.take(width), "big"))
