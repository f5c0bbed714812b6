"""An RTMP client that sends exact messages, valid or not, and reads the messages of the server."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import hashlib
import hmac
import os
import ssl
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gateway.formats import amf0
from gateway.protocols.rtmp.chunk_reader import ChunkReader
from gateway.protocols.rtmp.message import Message
from tests.support.builders import AVCC
from tests.support.time_outs import at_most

SECONDS = 10.0  # limit of every wait; after it, the test fails
AUDIO, VIDEO, DATA, COMMAND, COMMAND_AMF3, AGGREGATE = 8, 9, 18, 20, 17, 22
_CSID = {AUDIO: 4, DATA: 5, VIDEO: 6}

AVC_HEADER = b"\x17\x00\x00\x00\x00" + AVCC
AAC_HEADER = b"\xaf\x00\x12\x10"


def picture(number: int, key: bool = False, size: int = 40) -> bytes:
    """The body of a unique H.264 frame (one NAL unit, whose slice of the type I begins a picture)."""
    nal = bytes([0x65 if key else 0x41]) + (0x8880 << 48 | number).to_bytes(8, "big")
    nal = nal.ljust(size, b"x")
    return (b"\x17" if key else b"\x27") + b"\x01\0\0\0" + len(nal).to_bytes(4, "big") + nal


def sound(number: int, size: int = 12) -> bytes:
    """The body of a unique AAC frame."""
    return b"\xaf\x01" + number.to_bytes(8, "big").ljust(size, b"a")


def metadata(**values: Any) -> bytes:
    """@setDataFrame onMetaData, as encoders send it."""
    return amf0.encode("@setDataFrame", "onMetaData", amf0.EcmaArray(values))


def chunk(csid: int, fmt: int = 0) -> bytes:
    """A basic header in its shortest form (§5.3.1.1)."""
    if csid < 64:
        return bytes([fmt << 6 | csid])
    if csid < 320:
        return bytes([fmt << 6, csid - 64])
    return bytes([fmt << 6 | 1, (csid - 64) & 255, (csid - 64) >> 8])


def message(kind: int, payload: bytes, *, time: int = 0, csid: int = 3, stream: int = 0, size: int = 128) -> bytes:
    """One message as chunks of `size` bytes with a full header."""
    extended = time.to_bytes(4, "big") if time >= 0xFFFFFF else b""
    head = chunk(csid) + min(time, 0xFFFFFF).to_bytes(3, "big") + len(payload).to_bytes(3, "big") + bytes([kind])
    parts = [head, stream.to_bytes(4, "little"), extended, payload[:size]]
    for at in range(size, len(payload), size):
        parts += [chunk(csid, 3), extended, payload[at : at + size]]
    return b"".join(parts)


def command(name: str, transaction: float, *values: Any, stream: int = 0, size: int = 128) -> bytes:
    return message(COMMAND, amf0.encode(name, transaction, *values), stream=stream, size=size)


def digest_c1(schema: int, *, version: bytes = b"\x80\x00\x07\x02") -> bytes:
    """A C1 with a client digest, computed independently of the gateway's handshake."""
    packet = bytearray(b"\0\0\0\0" + version + os.urandom(1528))
    base = 8 if schema == 0 else 772
    at = base + 4 + sum(packet[base : base + 4]) % 728
    signed = bytes(packet[:at] + packet[at + 32 :])
    packet[at : at + 32] = hmac.new(b"Genuine Adobe Flash Player 001", signed, hashlib.sha256).digest()
    return bytes(packet)


@dataclass(frozen=True)
class ServerCommand:
    """A command of the server: its name and its information object, if any."""

    name: str
    transaction: float
    values: tuple[Any, ...]
    stream: int

    @property
    def info(self) -> dict[str, Any]:
        return next((v for v in reversed(self.values) if isinstance(v, dict)), {})

    @property
    def code(self) -> str:
        return str(self.info.get("code", ""))

    @property
    def level(self) -> str:
        return str(self.info.get("level", ""))


class Peer:
    """One connection; `heard` has every message read. Use `async with connected(port) as peer`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self.writer = reader, writer
        self._chunks = ChunkReader(max_message=1 << 24, max_pending=1 << 25)
        self._waiting: list[Message] = []
        self.heard: list[Message] = []
        self.answers = True
        self.size = 128  # chunk size that we send with

    @property
    def told_chunk_size(self) -> int:
        """The chunk size that the server announced; Set Chunk Size messages are not in `heard`."""
        return self._chunks.chunk_size

    # ---- raw ----

    async def send(self, *data: bytes) -> None:
        self.writer.write(b"".join(data))
        await self.writer.drain()

    async def need(self, size: int) -> bytes:
        return await asyncio.wait_for(self._reader.readexactly(size), at_most(SECONDS))

    async def handshake(self, c1: bytes = bytes(1536), *, version: int = 3, behind: bytes = b"") -> bytes:
        """Does the client's handshake. behind: bytes in one packet with C2. Returns the server's S0 S1 S2."""
        await self.send(bytes([version]), c1)
        answer = await self.need(3073)
        await self.send(answer[1:1537], behind)
        return answer

    async def read(self, timeout: float = SECONDS) -> Message:
        """Reads the next message. Raises `EOFError` at the end or a reset, and `TimeoutError`."""
        while not self._waiting:
            try:
                data = await asyncio.wait_for(self._reader.read(65536), at_most(timeout))
            except ConnectionError:
                data = b""
            if not data:
                raise EOFError
            self._waiting += self._chunks.receive(data)
        found = self._waiting.pop(0)
        self.heard.append(found)
        if self.answers and found.type_id == 4 and found.payload[:2] == b"\0\6":
            await self.send(message(4, b"\0\7" + found.payload[2:], csid=2, size=self.size))
        return found

    async def until(self, *wanted: str, timeout: float = SECONDS) -> ServerCommand:
        """Reads up to the next command with one of these names or codes, or an error. Raises like `read`."""
        async with asyncio.timeout(at_most(timeout)):
            while True:
                found = await self.read()
                if found.type_id not in (COMMAND, COMMAND_AMF3):
                    continue
                values = amf0.decode(found.payload)
                said = ServerCommand(str(values[0]), float(values[1]), tuple(values[2:]), found.stream_id)  # type: ignore[arg-type]
                if said.name in wanted or said.code in wanted or said.level == "error" or said.name == "_error":
                    return said

    async def closed(self, timeout: float = SECONDS) -> bool:
        """Whether the server closes within `timeout` seconds."""
        try:
            async with asyncio.timeout(at_most(timeout)):
                while True:
                    await self.read()
        except EOFError:
            return True
        except TimeoutError:
            return False

    async def media(self, least: int = 1, kind: int = VIDEO) -> list[Message]:
        """Reads until there are `least` messages of `kind`. Returns all audio and video messages."""
        async with asyncio.timeout(at_most(SECONDS)):
            while sum(m.type_id == kind for m in self.heard) < least:
                await self.read()
        return [m for m in self.heard if m.type_id in (AUDIO, VIDEO)]

    def stop_reading(self) -> None:
        """Stops reading, so that the socket's buffers fill up."""
        transport = self.writer.transport
        assert isinstance(transport, asyncio.Transport)
        transport.pause_reading()

    async def reset(self) -> None:
        """Resets the connection."""
        self.writer.transport.abort()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()

    async def settle(self, turns: int = 1) -> None:
        """Waits until the server has processed all sent data. turns: of its loop, at least."""
        for turn in range(turns):
            stamp = b"\x12\x34" + turn.to_bytes(2, "big")
            await self.send(message(4, b"\0\6" + stamp, csid=2, size=self.size))
            while (await self.read()).payload != b"\0\7" + stamp:
                pass

    # ---- polite ----

    async def command(self, name: str, transaction: float, *values: Any, stream: int = 0) -> None:
        await self.send(command(name, transaction, *values, stream=stream, size=self.size))

    async def chunk_size(self, size: int) -> None:
        await self.send(message(1, size.to_bytes(4, "big"), csid=2, size=self.size))
        self.size = size

    async def connect(self, app: str = "stream", **more: Any) -> ServerCommand:
        """Sends connect and reads the answer; the handshake must be complete."""
        await self.command("connect", 1, {"app": app, "tcUrl": f"rtmp://127.0.0.1/{app}", **more})
        return await self.until("_result")

    async def create_stream(self) -> int:
        await self.command("createStream", 4444, None)
        while (said := await self.until("_result")).transaction != 4444:
            pass  # answers to what was asked before
        return int(said.values[-1])

    async def publish(self, key: str, *, app: str = "stream", kind: str = "live") -> ServerCommand:
        """Does everything from the handshake to the answer to publish."""
        await self.handshake()
        said = await self.connect(app)
        if said.level == "error":
            return said
        await self.create_stream()
        return await self.publish_again(key, kind=kind)

    async def publish_again(self, key: str, *, kind: str = "live", stream: int = 1) -> ServerCommand:
        await self.command("publish", 5, None, key, kind, stream=stream)
        return await self.until("NetStream.Publish.Start")

    async def play(self, name: str, *, app: str = "stream", timeout: float = SECONDS) -> ServerCommand:
        await self.handshake()
        said = await self.connect(app)
        if said.level == "error":
            return said
        await self.command("play", 5, None, name, stream=await self.create_stream())
        return await self.until("NetStream.Play.Start", timeout=timeout)

    async def body(self, kind: int, body: bytes, time: int = 0, stream: int = 1) -> None:
        await self.send(message(kind, body, time=time, csid=_CSID[kind], stream=stream, size=self.size))

    async def headers(self, time: int = 0) -> None:
        """Sends H.264 and AAC sequence headers."""
        await self.body(VIDEO, AVC_HEADER, time)
        await self.body(AUDIO, AAC_HEADER, time)

    async def film(self, times: Iterable[int], *, gop: int = 10, number: int = 0, paced: bool = False) -> None:
        """Sends a picture and a sound at each of these times (ms), the first with this number.

        paced: in real time. A burst of more than a second begins an epoch: its dates would lie in the future.
        """
        loop = asyncio.get_running_loop()
        began, first = loop.time(), None
        for n, time in enumerate(times, number):
            first = time if first is None else first
            if paced:
                await asyncio.sleep(began + (time - first) / 1000 - loop.time())
            await self.body(VIDEO, picture(n, n % gop == 0), time % 2**32)
            await self.body(AUDIO, sound(n), time % 2**32)


@contextlib.asynccontextmanager
async def connected(
    port: int,
    *,
    host: str = "127.0.0.1",
    tls: ssl.SSLContext | None = None,
    first: bytes = b"",
    source: str | None = None,
    answers: bool = True,
) -> AsyncIterator[Peer]:
    """A connection during an `async with` block.

    first: bytes sent before all others and before TLS. source: the local address, one of 127.0.0.0/8. answers: whether
    it answers pings.
    """
    reader, writer = await asyncio.open_connection(host, port, local_addr=(source, 0) if source else None)
    peer = Peer(reader, writer)
    peer.answers = answers
    try:
        if first:
            await peer.send(first)
        if tls is not None:
            await writer.start_tls(tls, server_hostname="localhost")
        yield peer
    finally:
        writer.transport.abort()


def self_signed(folder: Path) -> tuple[Path, Path]:
    """A certificate for localhost and its key, as PEM files."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=2))
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    paths = folder / "cert.pem", folder / "key.pem"
    paths[0].write_bytes(certificate.public_bytes(pem))
    form = serialization.PrivateFormat.PKCS8
    paths[1].write_bytes(key.private_bytes(pem, form, serialization.NoEncryption()))
    return paths


def all_tls_ports(folder: Path) -> dict[str, str]:
    """Settings of a gateway that opens all listeners also with TLS, with a generated certificate."""
    cert, key = self_signed(folder)
    ports = {f"MILLRACE_{name}__PORT": "0" for name in ("RTMPS", "HTTPS", "WSS")}
    return {"MILLRACE_TLS__CERT": str(cert), "MILLRACE_TLS__KEY": str(key), **ports}


def trusting_anyone() -> ssl.SSLContext:
    """The TLS context of a client that accepts any certificate."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
