"""The handshake (§5.2) of server and client, simple or with digests (HMAC-SHA256, schemas 0 and 1).

The digest form is not in the specification. Flash Media Server 3 introduced it, and players and ffmpeg use it. Both
sides use the simple form if the first packet of the peer has no valid digest. C2 and S2 are not checked, because many
encoders send zeros.
"""

import hmac
import os
from collections.abc import Callable
from enum import Enum, auto

from gateway.protocols.errors import RemoteProtocolError

SIZE = 1536
VERSION = 3

_TAIL = bytes.fromhex("f0eec24a8068bee82e00d0d1029e7e576eec5d2d29806fab93b8e636cfeb31ae")
_SERVER_NAME = b"Genuine Adobe Flash Media Server 001"
_CLIENT_NAME = b"Genuine Adobe Flash Player 001"
_SERVER_KEY = _SERVER_NAME + _TAIL
_CLIENT_KEY = _CLIENT_NAME + _TAIL
_DIGEST = 32
# By schema: position of four bytes. Their sum is the offset of the digest in the 764 bytes after them.
_OFFSETS = (8, 772)
_SERVER_VERSION = bytes((5, 0, 17, 1))
_CLIENT_VERSION = bytes((9, 0, 124, 2))

Random = Callable[[int], bytes]


class _Step(Enum):
    FIRST = auto()  # waiting for C0 and C1, or S0 and S1
    SECOND = auto()  # waiting for C2, or S2
    DONE = auto()


class Handshake:
    """The common part of both sides. It holds at most 1537 bytes until a packet is complete.

    digest: whether the first packet of the peer had a valid digest.
    """

    def __init__(self, random: Random = os.urandom) -> None:
        self._random = random
        self._buffer = b""
        self._step = _Step.FIRST
        self._out = b""
        self.digest = False

    @property
    def done(self) -> bool:
        return self._step is _Step.DONE

    @property
    def buffered(self) -> int:
        """Bytes of the peer that are held."""
        return len(self._buffer)

    def data_to_send(self) -> bytes:
        """Returns the bytes to send now."""
        out, self._out = self._out, b""
        return out

    def receive(self, data: bytes) -> bytes:
        """Handles bytes of the peer. Returns the bytes after the handshake. Raises RemoteProtocolError."""
        data = self._buffer + data
        self._buffer = b""
        if self._step is _Step.FIRST:
            if data:
                self._check_version(data)
            if len(data) < 1 + SIZE:
                self._buffer = data
                return b""
            self._answer(data[1 : 1 + SIZE])
            data = data[1 + SIZE :]
            self._step = _Step.SECOND
        if self._step is _Step.SECOND:
            if len(data) < SIZE:
                self._buffer = data
                return b""
            data = data[SIZE:]
            self._step = _Step.DONE
        return data

    def _check_version(self, data: bytes) -> None:
        """Raises RemoteProtocolError if the first byte (C0 or S0) has a version that is not supported."""
        raise NotImplementedError

    def _answer(self, first: bytes) -> None:
        """Queues the answer to the first packet of the peer (C1 or S1)."""
        raise NotImplementedError


class ServerHandshake(Handshake):
    """The server side of the handshake."""

    def _check_version(self, data: bytes) -> None:
        # §5.2.2: "A server that does not recognize the client's requested version SHOULD respond with 3"; clients
        # of RTMPE (6, 8) may then continue without encryption. 32 and up is "not allowed", because of text protocols.
        version = data[0]
        if version == 0x0D:
            raise RemoteProtocolError("a PROXY header where none is expected (rtmp.proxy_from)")
        if version == 0x16:
            raise RemoteProtocolError("TLS on the plain RTMP port")
        if version >= 32:
            protocol = "HTTP" if data[:1] in b"GPHOCD" else f"version {version}"
            raise RemoteProtocolError(f"{protocol} on the RTMP port")

    def _answer(self, first: bytes) -> None:
        schema = None
        if first[4:8] != b"\0\0\0\0":  # a client with a version offers the digest form
            schema = _find_digest(first, _CLIENT_NAME)
        if schema is None:
            # Simple clients expect S2 to repeat C1, and S1 to have a time and a zero before the random bytes.
            self._out = b"".join((b"\x03", b"\0" * 8, self._random(SIZE - 8), first))
            return
        self.digest = True
        at = _digest_at(first, schema)
        challenge = _signed(_SERVER_VERSION, self._random, schema, _SERVER_NAME)
        self._out = b"".join((b"\x03", challenge, _response(first[at : at + _DIGEST], _SERVER_KEY, self._random)))


class ClientHandshake(Handshake):
    """The client side of the handshake. digest: whether to offer the digest form. Other servers see random bytes."""

    def __init__(self, *, digest: bool = True, random: Random = os.urandom) -> None:
        super().__init__(random)
        if digest:
            first = _signed(_CLIENT_VERSION, random, 0, _CLIENT_NAME)
        else:
            first = b"\0" * 8 + random(SIZE - 8)
        self._offered = digest
        self._out = b"\x03" + first

    def _check_version(self, data: bytes) -> None:
        if data[0] != VERSION:
            raise RemoteProtocolError(f"the server answers with version {data[0]}, only 3 is supported")

    def _answer(self, first: bytes) -> None:
        schema = _find_digest(first, _SERVER_NAME) if self._offered else None
        if schema is None:
            self._out += first
            return
        self.digest = True
        at = _digest_at(first, schema)
        self._out += _response(first[at : at + _DIGEST], _CLIENT_KEY, self._random)


def _digest_at(packet: bytes, schema: int) -> int:
    """Returns the position of the digest in a first packet."""
    offset = _OFFSETS[schema]
    return offset + 4 + sum(packet[offset : offset + 4]) % 728


def _find_digest(packet: bytes, key: bytes) -> int | None:
    """Returns the schema with a valid digest, or None."""
    for schema in (0, 1):
        at = _digest_at(packet, schema)
        expected = hmac.digest(key, packet[:at] + packet[at + _DIGEST :], "sha256")
        if hmac.compare_digest(expected, packet[at : at + _DIGEST]):
            return schema
    return None


def _signed(version: bytes, random: Random, schema: int, key: bytes) -> bytes:
    """Returns a first packet: time 0, version, and random bytes with the digest among them."""
    packet = b"\0\0\0\0" + version + random(SIZE - 8)
    at = _digest_at(packet, schema)
    digest = hmac.digest(key, packet[:at] + packet[at + _DIGEST :], "sha256")
    return packet[:at] + digest + packet[at + _DIGEST :]


def _response(digest: bytes, key: bytes, random: Random) -> bytes:
    """Returns a second packet: random bytes with their signature. digest: that in the first packet of the peer."""
    body = random(SIZE - _DIGEST)
    return body + hmac.digest(hmac.digest(key, digest, "sha256"), body, "sha256")
