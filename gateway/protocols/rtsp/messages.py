"""RTSP messages, and the RTP packets between them on one connection (RFC 2326 §10.12)."""

import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from gateway.lib.numbers import read_integer
from gateway.protocols.errors import RemoteProtocolError

_MAX_HEAD: Final = 65_536
_MAX_BODY: Final = 262_144
_MAX_HEADERS: Final = 100
_MAX_NUMBER: Final = 999_999_999
_DOLLAR: Final = 0x24
_INTERLEAVED: Final = struct.Struct(">BBH")
_INTERLEAVED_RTP: Final = struct.Struct(">BBHBBHII")  # with the header of RTP (RFC 3550 §5.1)
# Some encoders end lines without CR, such as those of YUAN.
_HEAD_END: Final = re.compile(rb"\r?\n\r?\n")
# The begin of a message; and where reading goes on after bytes that belong to nothing: a packet of version 2 on a low
# channel, or an answer.
_WORD: Final = re.compile(rb"[A-Z_]{3}")
_NEXT: Final = re.compile(rb"\$[\x00-\x1f]..[\x80-\xbf]|RTSP/1\.", re.DOTALL)
_NEXT_SIZE: Final = 7  # bytes of the longer one
_NO_HEADERS: Final[Mapping[str, str]] = {}


@dataclass(frozen=True, slots=True)
class RtspResponse:
    """An answer of a server. headers: by lower-case name; of a repeated one, all values, joined by newlines."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def number(self) -> int:
        """CSeq; -1 if it is missing."""
        number = read_integer(self.headers.get("cseq", ""), _MAX_NUMBER)
        return -1 if number is None else number


@dataclass(frozen=True, slots=True)
class RtspRequest:
    """A request of a client, or of a server that tests whether its client is alive. headers: as of a response."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Interleaved:
    """A packet on the connection. channel: even for RTP, odd for RTCP."""

    channel: int
    payload: bytes


Received: TypeAlias = RtspResponse | RtspRequest | Interleaved


class RtspReader:
    """Reads a connection in pieces of any size. Holds at most one unfinished message.

    Some cameras send wrong lengths of packets at times. Bytes behind a packet that begin nothing are left out.

    head, body: the longest that a message may have, in bytes. peer: of the connection, for errors.
    """

    def __init__(self, head: int = _MAX_HEAD, body: int = _MAX_BODY, peer: str = "server") -> None:
        self._head, self._body, self._peer = head, body, peer
        self._buffer = bytearray()
        self._wanted = 0  # bytes of an unfinished message whose head has come
        self._has_packets = False

    @property
    def held(self) -> int:
        """Bytes of the unfinished message."""
        return len(self._buffer)

    def receive(self, data: bytes) -> list[Received]:
        """Returns what `data` completes. Raises RemoteProtocolError. Hot path for packets."""
        buffer = self._buffer
        buffer += data
        found: list[Received] = []
        if len(buffer) < self._wanted:
            return found
        self._wanted = 0
        at, end = 0, len(buffer)
        while end - at >= 4:
            if buffer[at] == _DOLLAR:
                following = at + 4 + (buffer[at + 2] << 8 | buffer[at + 3])
                if following > end:
                    break
                found.append(Interleaved(buffer[at + 1], bytes(buffer[at + 4 : following])))
                at, self._has_packets = following, True
                continue
            if buffer[at] in b"\r\n":  # some cameras send empty lines between messages
                at += 1
                continue
            if self._has_packets and _WORD.match(buffer, at) is None:
                found_next = _NEXT.search(buffer, at)
                if found_next is None:
                    at = max(at, end - _NEXT_SIZE + 1)
                    break
                at = found_next.start()
                continue
            message, at = self._read_message(at)
            if message is None:
                break
            found.append(message)
        if at:
            del buffer[:at]
        return found

    def _read_message(self, at: int) -> tuple[Received | None, int]:
        head_end = _HEAD_END.search(self._buffer, at, at + self._head)
        if head_end is None:
            if len(self._buffer) - at > self._head:
                raise RemoteProtocolError("a message without end")
            return None, at
        lines = self._buffer[at : head_end.start()].decode("utf-8", "replace").replace("\r\n", "\n").split("\n")
        if len(lines) > _MAX_HEADERS:
            raise RemoteProtocolError("a message with too many headers")
        headers: dict[str, str] = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            name = name.strip().lower()
            headers[name] = f"{headers[name]}\n{value.strip()}" if name in headers else value.strip()
        length = read_integer(headers.get("content-length", "0"), self._body)
        if length is None:
            raise RemoteProtocolError("a message with an invalid length")
        begin = head_end.end()
        end = begin + length
        if len(self._buffer) < end:
            self._wanted = end - at
            return None, at
        message = _parsed(lines[0], headers, bytes(self._buffer[begin:end]))
        if message is None:
            raise RemoteProtocolError(f"the {self._peer} does not speak RTSP")
        return message, end


def _parsed(first: str, headers: Mapping[str, str], body: bytes) -> Received | None:
    words = first.split(" ", 2)
    if words[0].startswith("RTSP/") and len(words) > 1 and (status := read_integer(words[1], 999, 100)) is not None:
        return RtspResponse(status, headers, body)
    if len(words) == 3 and words[2].startswith("RTSP/"):
        return RtspRequest(words[0][:32], words[1], headers, body)
    return None


def request(method: str, url: str, number: int, headers: Mapping[str, str]) -> bytes:
    """Returns a request. number: CSeq."""
    lines = [f"{method} {url} RTSP/1.0", f"CSeq: {number}", *(f"{name}: {value}" for name, value in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def answer(asked: RtspRequest, status: str, headers: Mapping[str, str] = _NO_HEADERS, body: bytes = b"") -> bytes:
    """Returns the answer to a request. status: with its reason: "200 OK"."""
    number = asked.headers.get("cseq", "0").strip()[:10]
    lines = [f"RTSP/1.0 {status}", f"CSeq: {number if number.isalnum() else '0'}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


def interleaved(channel: int, packet: bytes) -> bytes:
    """Returns a packet as the connection carries it (RFC 2326 §10.12)."""
    return _INTERLEAVED.pack(_DOLLAR, channel, len(packet)) + packet


def interleaved_rtp(
    channel: int, payload_type: int, first: int, stamp: int, ssrc: int, payloads: Sequence[bytes]
) -> bytes:
    """Returns the packets of one unit as the connection carries them; the last one has the marker. Hot path.

    first: sequence number of the first packet.
    """
    last, pack = len(payloads) - 1, _INTERLEAVED_RTP.pack
    parts: list[bytes] = []
    for n, payload in enumerate(payloads):
        kind = payload_type | 0x80 if n == last else payload_type
        parts += (pack(_DOLLAR, channel, 12 + len(payload), 0x80, kind, (first + n) & 0xFFFF, stamp, ssrc), payload)
    return b"".join(parts)


def split_interleaved(data: bytes) -> list[Interleaved]:
    """Returns the packets of whole frames that `interleaved` made. Hot path."""
    found, at, end = [], 0, len(data)
    while at < end:
        following = at + 4 + (data[at + 2] << 8 | data[at + 3])
        found.append(Interleaved(data[at + 1], data[at + 4 : following]))
        at = following
    return found
