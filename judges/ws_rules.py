"""Rules of WebSocket (RFC 6455), for servers that do not echo, on raw sockets; the cases follow Autobahn's."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import socket
import struct
import time
from dataclasses import dataclass, field

from judges.findings import Findings

GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
CONTINUATION, BINARY, CLOSE, PING, PONG = 0, 2, 8, 9, 10
ANSWER_SECONDS = 4.0
CLOSED_SECONDS = 6.0
VALID_CODES = (1000, 1001, 1003, 1007, 1009, 1011, 3000, 4999)
# §7.4.2: not to be sent, reserved, or outside the range of codes.
INVALID_CODES = (0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535)
NOT_UTF8 = b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited"
# The connection may end without a close frame.
ENDED = None


@dataclass(frozen=True)
class Frame:
    opcode: int
    final: bool
    reserved: int
    payload: bytes


def frame(opcode: int, payload: bytes = b"", *, final: bool = True, mask: bool = True, reserved: int = 0) -> bytes:
    """A frame as a client sends it (§5.2)."""
    size, bit = len(payload), 0x80 if mask else 0
    head = bytes([(0x80 if final else 0) | reserved << 4 | opcode])
    if size < 126:
        head += bytes([bit | size])
    elif size < 65536:
        head += bytes([bit | 126]) + struct.pack(">H", size)
    else:
        head += bytes([bit | 127]) + struct.pack(">Q", size)
    if not mask:
        return head + payload
    key = os.urandom(4)
    return head + key + bytes(byte ^ key[index & 3] for index, byte in enumerate(payload))


def read_frame(data: bytes, findings: Findings) -> tuple[Frame, bytes] | None:
    """The first frame that a server sent and the rest; None where it is not whole yet."""
    if len(data) < 2:
        return None
    findings.require(not data[1] & 0x80, "5.1 frames of the server are not masked")
    size, at = data[1] & 0x7F, 2
    if size >= 126:
        form, least, width = (">H", 126, 2) if size == 126 else (">Q", 65536, 8)
        if len(data) < 2 + width:
            return None
        size, at = struct.unpack_from(form, data, 2)[0], 2 + width
        findings.require(size >= least, "5.2 lengths have the shortest form", size)
    if len(data) < at + size:
        return None
    found = Frame(data[0] & 15, bool(data[0] & 0x80), data[0] >> 4 & 7, data[at : at + size])
    findings.require(not found.reserved, "5.2 reserved bits are 0", found.reserved)
    return found, data[at + size :]


@dataclass
class Handshake:
    """What the opening request says; None or empty: the field is left out."""

    version: str = "13"
    key: str | None = field(default_factory=lambda: base64.b64encode(os.urandom(16)).decode())
    upgrade: str = "websocket"
    connection: str = "Upgrade"
    method: str = "GET"
    http: str = "HTTP/1.1"
    host: bool = True
    extra: tuple[str, ...] = ()

    def request(self, host: str, port: int, path: str) -> bytes:
        lines = [f"{self.method} {path} {self.http}"]
        fields = {
            "Host": f"{host}:{port}" if self.host else "",
            "Upgrade": self.upgrade,
            "Connection": self.connection,
            "Sec-WebSocket-Key": self.key,
            "Sec-WebSocket-Version": self.version,
        }
        lines += [f"{name}: {value}" for name, value in fields.items() if value]
        return ("\r\n".join([*lines, *self.extra]) + "\r\n\r\n").encode()


class Connection:
    """One connection after its opening request. status 0: no answer came."""

    def __init__(self, host: str, port: int, path: str, opening: Handshake, findings: Findings) -> None:
        self._findings = findings
        self.frames: list[Frame] = []
        self.closed = False
        self._socket = socket.create_connection((host, port), timeout=6)
        self._socket.sendall(opening.request(host, port, path))
        data = b""
        with contextlib.suppress(TimeoutError, ConnectionResetError):
            while b"\r\n\r\n" not in data and (piece := self._socket.recv(4096)):
                data += piece
        head, _, self._data = data.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        self.status = int(first.split()[1]) if first else 0
        self.headers = {line.partition(":")[0].lower(): line.partition(":")[2].strip() for line in lines}

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, *data: bytes) -> None:
        try:
            for piece in data:
                self._socket.sendall(piece)
        except OSError:
            self.closed = True

    def read(self, until: int = CLOSE, seconds: float = ANSWER_SECONDS) -> Frame | None:
        """The next frame with this opcode, or a close frame; media in between is passed over."""
        end = time.monotonic() + seconds
        while True:
            while (found := read_frame(self._data, self._findings)) is not None:
                one, self._data = found
                self.frames.append(one)
                if one.opcode in (until, CLOSE):
                    return one
            if not self._receive(end):
                return None

    def ended(self) -> bool:
        """Whether the server closes TCP within some seconds."""
        end = time.monotonic() + CLOSED_SECONDS
        while self._receive(end):
            self._data = b""
        return self.closed

    def _receive(self, end: float) -> bool:
        left = end - time.monotonic()
        if left <= 0 or self.closed:
            return False
        self._socket.settimeout(left)
        try:
            piece = self._socket.recv(65536)
        except TimeoutError:
            return False
        except OSError:
            piece = b""
        self._data += piece
        self.closed = not piece
        return bool(piece)


class WsJudge:
    """Judges the WebSocket address of a live stream."""

    def __init__(self, host: str, port: int, path: str, findings: Findings) -> None:
        self._address = (host, port, path)
        self.findings = findings

    def open(self, **fields: object) -> Connection:
        return Connection(*self._address, Handshake(**fields), self.findings)  # type: ignore[arg-type]

    def judge(self) -> None:
        self.handshake()
        self.refusals()
        self.pings()
        self.violations()
        self.closes()

    def handshake(self) -> None:
        require, opening = self.findings.require, Handshake()
        with Connection(*self._address, opening, self.findings) as one:
            require(one.status == 101, "4.2.2 an upgrade is 101", one.status)
            digest = hashlib.sha1(f"{opening.key}{GUID}".encode()).digest()
            accept = one.headers.get("sec-websocket-accept")
            require(accept == base64.b64encode(digest).decode(), "4.2.2 Sec-WebSocket-Accept", accept)
            named = "upgrade" in one.headers.get("connection", "").lower()
            require(named, "4.2.2 Connection names Upgrade", one.headers)
            require("sec-websocket-extensions" not in one.headers, "9.1 no extension that was not offered", one.headers)
        for fields in ({"upgrade": "WEBSOCKET"}, {"connection": "keep-alive, Upgrade"}, {"connection": "upgrade"}):
            with self.open(**fields) as one:
                require(one.status == 101, "4.2.1 case and lists of the opening request", f"{fields} {one.status}")

    def refusals(self) -> None:
        cases: dict[str, tuple[dict[str, object], tuple[int, ...]]] = {
            "4.2.2 version 8 is 426 or 400": ({"version": "8"}, (426, 400)),
            "4.2.1 without a version: 426 or 400": ({"version": ""}, (426, 400)),
            "4.2.1 without a key: 400": ({"key": None}, (400, 426)),
            "4.2.1 a key of 15 bytes: 400": ({"key": base64.b64encode(bytes(15)).decode()}, (400,)),
            "4.2.1 a key that is not base64: 400": ({"key": "!!!!"}, (400,)),
            "4.2.1 POST is refused": ({"method": "POST"}, (400, 404, 405, 501, 0)),
            "9112 3.2 without Host: 400": ({"host": False}, (400, 0)),
        }
        for rule, (fields, wanted) in cases.items():
            with self.open(**fields) as one:
                self.findings.require(one.status in wanted, rule, one.status)
                if one.status == 426:
                    version = one.headers.get("sec-websocket-version", "")
                    self.findings.require("13" in version, "4.4 426 names version 13", version)

    def pings(self) -> None:
        require = self.findings.require
        for payload in (b"", b"hello", os.urandom(125)):
            with self.open() as one:
                one.send(frame(PING, payload))
                pong = one.read(PONG)
                same = pong is not None and pong.opcode == PONG and pong.payload == payload
                require(same, "5.5.3 a pong repeats the ping", f"{len(payload)} bytes: {pong}")
        with self.open() as one:
            one.send(frame(PONG, b"unasked"), *[bytes([byte]) for byte in frame(PING, b"bytes")])
            pong = one.read(PONG)
            require(pong is not None and pong.opcode == PONG, "5.5.3 a pong that nobody asked for is ignored", pong)

    def violations(self) -> None:
        cases = {
            "5.5 a ping of 126 bytes": frame(PING, bytes(126)),
            "5.5 a ping in fragments": frame(PING, b"a", final=False),
            "5.1 a frame without mask": frame(BINARY, b"a", mask=False),
            "5.4 a continuation of nothing": frame(CONTINUATION, b"a"),
            "5.4 a message inside another": frame(BINARY, b"a", final=False) + frame(BINARY, b"b"),
        }
        cases |= {f"5.2 reserved bits {bits}": frame(BINARY, b"a", reserved=bits) for bits in (1, 2, 4, 7)}
        cases |= {f"5.2 opcode {opcode}": frame(opcode, b"a") for opcode in (3, 7, 11, 15)}
        for rule, data in cases.items():
            self.closes_with(f"{rule} is a protocol error", data, 1002, ENDED)
        top = b"\x82\xff" + b"\xff" * 8 + b"abcd"
        self.closes_with("5.2 a length with the top bit", top, 1002, 1009, ENDED)
        huge = b"\x82\xff" + struct.pack(">Q", 1 << 40) + b"abcd"
        self.closes_with("7.4.1 an announced terabyte is refused", huge, 1009, 1002, 1003, ENDED)

    def closes(self) -> None:
        self.closes_with("5.5.1 a close without code is answered", frame(CLOSE), 1000, ENDED)
        for code in VALID_CODES:
            self.closes_with(
                f"5.5.1 close {code} is answered", frame(CLOSE, struct.pack(">H", code)), code, 1000, ENDED
            )
        for code in INVALID_CODES:
            data = frame(CLOSE, struct.pack(">H", code))
            self.closes_with(f"7.4.2 close {code} is a protocol error", data, 1002, ENDED)
        self.closes_with("5.5.1 a close of one byte", frame(CLOSE, b"\3"), 1002, ENDED)
        self.closes_with("5.5.1 a reason that is not UTF-8", frame(CLOSE, b"\3\xe8" + NOT_UTF8), 1007, 1002, ENDED)
        self.closes_with("5.5 a close of 126 bytes", frame(CLOSE, b"\3\xe8" + b"a" * 124), 1002, ENDED)
        with self.open() as one:
            one.send(frame(CLOSE, b"\3\xe8") + frame(PING, b"late"))
            one.read(CLOSE)
            late = any(each.opcode == PONG for each in one.frames)
            self.findings.require(not late, "5.5.1 nothing follows the close")

    def closes_with(self, rule: str, data: bytes, *codes: int | None) -> None:
        """The server closes with one of these codes, and TCP after it."""
        with self.open() as one:
            if one.status != 101:
                self.findings.breaks("4.2.2 an upgrade is 101", one.status)
                return
            one.send(data)
            answer = one.read(CLOSE)
            code = struct.unpack(">H", answer.payload[:2])[0] if answer and len(answer.payload) >= 2 else None
            open_still = answer is None and not one.closed
            words = f"close {code}, connection {'closed' if one.closed else 'open'}"
            self.findings.require(not open_still and code in codes, rule, words)
            if answer is not None:
                one.send(frame(CLOSE, answer.payload[:2]))
                self.findings.require(one.ended(), "7.1.1 the server closes TCP", rule)


def judge(host: str, port: int, path: str, findings: Findings) -> None:
    """Judges a WebSocket address: of WS-FLV, or of a push."""
    WsJudge(host, port, path, findings).judge()
