"""An RTSP camera that plays a `Source` in real time over TCP or UDP and can misbehave."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import hashlib
import random
import socket
import ssl
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from gateway.media import h264, nal
from gateway.media.track import AccessUnit, Kind
from tests.support.sources import Source

MTU = 1400


@dataclass
class Request:
    method: str
    url: str
    headers: dict[str, str]


def h264_payloads(unit: AccessUnit) -> list[bytes]:
    """The payloads of one picture: single NAL units, and FU-A for large ones (RFC 6184)."""
    payloads: list[bytes] = []
    for data in nal.split(unit.payload):
        if len(data) <= MTU:
            payloads.append(data)
            continue
        head, body = data[0], data[1:]
        pieces = [body[at : at + MTU] for at in range(0, len(body), MTU)]
        for n, piece in enumerate(pieces):
            flags = (0x80 if n == 0 else 0) | (0x40 if n == len(pieces) - 1 else 0)
            payloads.append(bytes((head & 0xE0 | 28, flags | head & 0x1F)) + piece)
    return payloads


@dataclass
class Camera:
    """Use as `async with Camera(source) as camera`; `camera.url` is its address.

    password: of the user "admin"; Digest with `algorithm`. tls: makes it an rtsps:// address. udp_only: refuses TCP.
    silent_at: the method that is never answered. speed: of playing. answers: replaces the whole answer to a method.
    key_frames: whether it sends any. lose: drops every n-th packet. g711: sends a tone as G.711 in place of the
    source's sound. second_id: whether the second track gets another session id. reports: the RTCP datagrams that came.
    """

    source: Source
    password: str = ""
    algorithm: str = "MD5"
    tls: ssl.SSLContext | None = None
    udp_only: bool = False
    silent_at: str = ""
    answers: dict[str, bytes] = field(default_factory=dict)
    key_frames: bool = True
    lose: int = 0
    g711: bool = False
    second_id: bool = False
    sound_name: str = "MPEG4-GENERIC"
    audio_offset_ms: int = 0
    requests: list[Request] = field(default_factory=list)
    sent: list[tuple[AccessUnit, float]] = field(default_factory=list)
    reports: list[bytes] = field(default_factory=list)

    async def __aenter__(self) -> Self:
        self._tasks: set[asyncio.Task[None]] = set()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self.tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def url(self) -> str:
        user = f"admin:{self.password}@" if self.password else ""
        return f"rtsp{'s' if self.tls else ''}://{user}127.0.0.1:{self.port}/cam/1?profile=main"

    @property
    def base(self) -> str:
        """The base URL of the tracks."""
        return f"rtsp{'s' if self.tls else ''}://127.0.0.1:{self.port}/cam/1/"

    # ---- details ----

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        session = _Session(self, writer)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                lines = head.decode().split("\r\n")
                method, url, _ = lines[0].split(" ")
                headers = dict(line.split(": ", 1) for line in lines[1:] if line)
                self.requests.append(Request(method, url, headers))
                if method == self.silent_at:
                    await asyncio.Event().wait()
                if method in self.answers:
                    writer.write(self.answers[method].replace(b"CSEQ", headers["CSeq"].encode()))
                elif self.password and not self._authorized(method, url, headers):
                    challenge = f'Digest realm="cam", nonce="abc", algorithm={self.algorithm}, qop="auth"'
                    writer.write(_answer(headers, 401, {"WWW-Authenticate": challenge}))
                else:
                    await session.answer(method, url, headers)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # the client or the test has ended
        finally:
            session.close()
            writer.close()

    def _authorized(self, method: str, url: str, headers: dict[str, str]) -> bool:
        text = headers.get("Authorization", "")
        values = {k: v.strip('"') for k, _, v in (part.strip().partition("=") for part in text[7:].split(","))}
        first, second = self._digest(f"admin:cam:{self.password}"), self._digest(f"{method}:{url}")
        fields = (values.get(name, "") for name in ("nonce", "nc", "cnonce", "qop"))
        return values.get("response") == self._digest(":".join((first, *fields, second)))

    def _digest(self, text: str) -> str:
        name = self.algorithm.replace("-", "").lower()
        return hashlib.new(name, text.encode(), usedforsecurity=False).hexdigest()


class _Session:
    def __init__(self, camera: Camera, writer: asyncio.StreamWriter) -> None:
        self.camera = camera
        self.writer = writer
        self.senders: dict[int, Callable[[bytes, bool], None]] = {}
        self.task: asyncio.Task[None] | None = None
        self.transports: list[asyncio.DatagramTransport] = []

    async def answer(self, method: str, url: str, headers: dict[str, str]) -> None:
        camera, more, body = self.camera, {}, b""
        if method == "DESCRIBE":
            body = self.description()
            more = {"Content-Type": "application/sdp", "Content-Base": camera.base}
        elif method == "SETUP":
            transport = headers["Transport"]
            number = int(url.rpartition("=")[2])
            if camera.udp_only and "TCP" in transport:
                self.writer.write(_answer(headers, 461))
                return
            id = "67890" if number and camera.second_id else "12345"
            more = {"Session": f"{id};timeout=4", "Transport": await self.set_up(number, transport)}
        elif method == "PLAY":
            self.writer.write(_answer(headers, 200, {"Session": "12345"}))
            self.task = asyncio.create_task(self.play())
            return
        self.writer.write(_answer(headers, 200, more, body))

    def description(self) -> bytes:
        tracks = self.camera.source.tracks
        lines = ["v=0", "o=- 0 0 IN IP4 127.0.0.1", "s=cam", "t=0 0", "a=control:*"]
        if tracks.video is not None:
            avcc = h264.parse_avcc(tracks.video.config)
            sets = ",".join(base64.b64encode(unit).decode() for unit in (*avcc.sps, *avcc.pps))
            lines += ["m=video 0 RTP/AVP 96", "a=rtpmap:96 H264/90000"]
            lines += [f"a=fmtp:96 packetization-mode=1;sprop-parameter-sets={sets}", "a=control:trackID=0"]
        if self.camera.g711:
            lines += ["m=audio 0 RTP/AVP 0", "a=control:trackID=1"]
        elif tracks.audio is not None:
            config = tracks.audio.config.hex()
            lines += ["m=audio 0 RTP/AVP 97", f"a=rtpmap:97 {self.camera.sound_name}/44100/1", "a=control:trackID=1"]
            lines += [f"a=fmtp:97 mode=AAC-hbr;sizelength=13;indexlength=3;indexdeltalength=3;config={config}"]
        return "\r\n".join([*lines, ""]).encode()

    async def set_up(self, number: int, transport: str) -> str:
        if "TCP" in transport:
            channel = int(transport.rpartition("interleaved=")[2].partition("-")[0])

            def over_tcp(data: bytes, control: bool) -> None:
                self.writer.write(b"$" + bytes((channel + control,)) + struct.pack(">H", len(data)) + data)

            self.senders[number] = over_tcp
            return f"RTP/AVP/TCP;unicast;interleaved={channel}-{channel + 1}"
        port = int(transport.rpartition("client_port=")[2].partition("-")[0])
        loop = asyncio.get_running_loop()
        own, *sockets = _neighbouring_sockets()
        pair = []
        for udp, at, received in zip(sockets, (port, port + 1), ([], self.camera.reports), strict=True):
            udp.connect(("127.0.0.1", at))
            endpoint, _ = await loop.create_datagram_endpoint(functools.partial(_Received, received), sock=udp)
            pair.append(endpoint)
            self.transports.append(endpoint)
        self.senders[number] = lambda data, control: pair[control].sendto(data)
        return f"RTP/AVP;unicast;client_port={port}-{port + 1};server_port={own}-{own + 1}"

    async def play(self) -> None:
        loop = asyncio.get_running_loop()
        began, sequence, count = loop.time(), {0: random.randrange(65536), 1: 65530}, 0
        base = {0: random.randrange(1 << 32), 1: random.randrange(1 << 32)}
        rates = {0: 90_000, 1: 8_000 if self.camera.g711 else 44_100}
        units = self.camera.source.units
        first = min(unit.dts for unit in units)
        for number in self.senders:
            self.report(number, base[number], rates[number])
        for unit, payloads in self.items():
            number = 0 if unit.track.kind is Kind.VIDEO else 1
            due = began + (unit.dts - first) / 1000 - loop.time()
            if due > 0:
                await asyncio.sleep(due)
            self.camera.sent.append((unit, loop.time()))
            time = base[number] + (unit.dts + unit.cts - first) * rates[number] // 1000
            for n, payload in enumerate(payloads):
                count += 1
                mark = 0x80 if n == len(payloads) - 1 else 0
                kind = {0: 96, 1: 0 if self.camera.g711 else 97}[number]
                head = struct.pack(">BBHII", 0x80, mark | kind, sequence[number] & 0xFFFF, time & 0xFFFFFFFF, number)
                sequence[number] += 1
                if not (self.camera.lose and count % self.camera.lose == 0):
                    self.senders[number](head + payload, False)
                # On a busy machine many pictures are due at once. Without turns of the reader, datagrams would be lost.
                await asyncio.sleep(0)

    def items(self) -> Iterator[tuple[AccessUnit, list[bytes]]]:
        for unit in self.camera.source.units:
            if unit.track.kind is Kind.VIDEO:
                if self.camera.key_frames or not unit.key:
                    yield unit, h264_payloads(unit)
            elif self.camera.g711:
                yield unit, [bytes(random.randbytes(186))]
            elif 1 in self.senders:
                yield unit, [struct.pack(">HH", 16, len(unit.payload) << 3) + unit.payload]

    def report(self, number: int, timestamp: int, rate: int) -> None:
        """Sends a sender report. Both tracks start at the same time, with the configured delay of the sound."""
        shift = self.camera.audio_offset_ms / 1000 if number else 0.0
        seconds = 3_900_000_000 + shift
        fraction = int((seconds % 1) * (1 << 32))
        body = struct.pack(">BBHIIIIII", 0x80, 200, 6, number, int(seconds), fraction, timestamp, 0, 0)
        self.senders[number](body, True)

    def close(self) -> None:
        if self.task is not None:
            self.task.cancel()
        for transport in self.transports:
            with contextlib.suppress(Exception):
                transport.abort()


class _Received(asyncio.DatagramProtocol):
    def __init__(self, received: list[bytes]) -> None:
        self._received = received

    def datagram_received(self, data: bytes, addr: object) -> None:
        self._received.append(data)


def _neighbouring_sockets() -> tuple[int, socket.socket, socket.socket]:
    """Returns two sockets with neighbouring ports, and the lower port."""
    while True:
        first, second = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
        first.bind(("127.0.0.1", 0))
        port = first.getsockname()[1]
        try:
            second.bind(("127.0.0.1", port + 1))
        except (OSError, OverflowError):
            first.close()
            second.close()
            continue
        first.setblocking(False)
        second.setblocking(False)
        return port, first, second


def _answer(headers: dict[str, str], status: int, more: dict[str, Any] | None = None, body: bytes = b"") -> bytes:
    lines = [f"RTSP/1.0 {status} Text", f"CSeq: {headers['CSeq']}"]
    lines += [f"{k}: {v}" for k, v in (more or {}).items()] + [f"Content-Length: {len(body)}"]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body
