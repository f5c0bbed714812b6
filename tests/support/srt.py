"""Clients of SRT: real programs, the thin link as a program, and a small peer on our own protocol code."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import shlex
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gateway.protocols.srt.calling import REPEAT_SECONDS, Caller
from gateway.protocols.srt.connection import TICK_SECONDS, SrtConnection
from gateway.protocols.srt.packets import PAYLOAD
from gateway.protocols.srt.send_buffer import split
from tests.support.clients import Program
from tests.support.media import Film
from tests.support.time_outs import at_most
from tests.support.tools import lacking

# With this latency in milliseconds, every packet comes in time also on a busy machine.
PATIENT = {"MILLRACE_SRT__LATENCY": "1000"}
SRTLA_SEND = os.environ.get("SRTLA_SEND", "")  # of BELABOX, built from its source


def srt_push(
    film: Film, url: str, *more: str, ffmpeg: str = "ffmpeg", loop: bool = False, options: Sequence[str] = ()
) -> Program:
    """ffmpeg that publishes a film in real time as MPEG-TS. more: of the URL. options: instead of `-c copy`."""
    again = ["-stream_loop", "-1"] if loop else []
    command = [ffmpeg, "-nostdin", "-v", "error", "-re", *again, "-i", str(film.path())]
    return Program([*command, *(options or ("-c", "copy")), "-f", "mpegts", "&".join((url, *more))])


def transmit(source: str, target: str, *options: str) -> Program:
    """srt-live-transmit, libsrt's own program."""
    return Program(["srt-live-transmit", "-a:no", *options, source, target])


def transmit_push(film: Film, url: str) -> Program:
    """ffmpeg that writes a film in real time to srt-live-transmit, which publishes it."""
    make = f"ffmpeg -nostdin -v error -re -i {shlex.quote(str(film.path()))} -c copy -f mpegts -"
    send = f"srt-live-transmit -a:no -q -chunk:1316 file://con {shlex.quote(url)}"
    return Program(["sh", "-c", f"{make} | {send}"])


def transmit_play(url: str, to: Path) -> Program:
    """srt-live-transmit that writes what it plays into a file."""
    return Program(["sh", "-c", f"exec srt-live-transmit -a:no -q {shlex.quote(url)} file://con > {to}"])


def gst_srt_push(film: Film, url: str, stream_id: str) -> Program:
    """GStreamer that publishes an FLV film in real time through srtsink."""
    pipeline = (
        f"filesrc location={film.path()} ! flvdemux name=in in.video ! h264parse ! queue ! out. "
        f"in.audio ! aacparse ! queue ! out. mpegtsmux name=out alignment=7 ! "
        f'srtsink uri="{url}" streamid="{stream_id}" sync=true wait-for-connection=false'
    )
    return Program(["gst-launch-1.0", "-q", *shlex.split(pipeline)])


def gst_srt_play(url: str, stream_id: str) -> Program:
    """GStreamer that plays through srtsrc and prints one hash per picture."""
    pipeline = (
        f'srtsrc uri="{url}" streamid="{stream_id}" ! tsdemux ! h264parse ! avdec_h264 ! videoconvert '
        "! video/x-raw,format=I420 ! checksumsink hash=md5 sync=false"
    )
    return Program(["gst-launch-1.0", "-q", *shlex.split(pipeline)])


@dataclass
class ThinLink:
    """A running `tests.support.udp_link`. port: where it listens. counters: after its end."""

    process: subprocess.Popen[str]
    port: int
    counters: dict[str, object] = field(default_factory=dict)


@contextlib.contextmanager
def thin_link(target: int, **conditions: float | str) -> Iterator[ThinLink]:
    """Runs a thin link to a port. conditions: see `link_conditions.Conditions`."""
    options = [word for name, value in conditions.items() for word in (f"--{name}", str(value))]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.udp_link", "0", str(target), *options],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdout is not None
    link = ThinLink(process, int(process.stdout.readline()))
    try:
        yield link
    finally:
        process.terminate()
        link.counters = json.loads(process.communicate(timeout=at_most(10))[0] or "{}")


class Peer:
    """A caller on a socket of its own. It works while its methods run. Raises HandshakeRefused if the server refuses.

    source: its address.
    received: payloads, in order.
    """

    def __init__(
        self,
        port: int,
        stream_id: str,
        *,
        latency: float = 0.12,
        passphrase: str = "",
        key_size: int = 16,
        source: str = "127.0.0.1",
    ) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((source, 0))
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.socket.connect(("127.0.0.1", port))
        self.socket.setblocking(False)
        self.caller = Caller(stream_id, latency, time.monotonic(), passphrase, key_size)
        self.received: list[bytes] = []
        self.connection: SrtConnection | None = None

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def datagrams(self, seconds: float) -> list[bytes]:
        """Returns what came within some seconds, as soon as something came."""
        select.select([self.socket], [], [], seconds)
        found: list[bytes] = []
        with contextlib.suppress(BlockingIOError, ConnectionRefusedError):
            while len(found) < 64:
                found.append(self.socket.recv(2048))
        return found

    def connect(self, timeout: float = 10.0) -> Peer:
        """Shakes hands. Raises HandshakeRefused, TimeoutError."""
        end = time.monotonic() + at_most(timeout)
        while self.caller.agreement is None:
            if time.monotonic() > end:
                raise TimeoutError("no answer to the handshake")
            self.send_raw(self.caller.datagram)
            repeat_at = time.monotonic() + REPEAT_SECONDS
            while (left := repeat_at - time.monotonic()) > 0:
                asked = self.caller.datagram
                for datagram in self.datagrams(left):
                    self.caller.receive(datagram, time.monotonic())
                if self.caller.agreement is not None or self.caller.datagram is not asked:
                    break
        self.connection = SrtConnection(self.caller.agreement, time.monotonic())
        return self

    def send_raw(self, *datagrams: bytes) -> None:
        for datagram in datagrams:
            with contextlib.suppress(ConnectionRefusedError, BlockingIOError):
                self.socket.send(datagram)

    def push(self, payloads: Sequence[bytes]) -> None:
        assert self.connection is not None
        self.connection.push(payloads, time.monotonic())
        self._flush()

    def run(self, seconds: float, each_tick: Callable[[], object] = lambda: None) -> None:
        """Works for some seconds, or until the connection ends."""
        assert self.connection is not None
        end = time.monotonic() + seconds
        while (now := time.monotonic()) < end and not self.connection.ended:
            each_tick()
            if found := self.datagrams(TICK_SECONDS):
                self.connection.receive(found, [time.monotonic()] * len(found))
            self.connection.tick(now)
            self.received += self.connection.due(now)
            self._flush()

    def play(self, stream: bytes, seconds: float) -> None:
        """Pushes a transport stream within some seconds, and returns when the server has acknowledged all of it."""
        assert self.connection is not None
        payloads, sent, began = split(stream, PAYLOAD), 0, time.monotonic()

        def push() -> None:
            nonlocal sent
            until = min(len(payloads), int((time.monotonic() - began) / seconds * len(payloads)))
            if until > sent:
                self.push(payloads[sent:until])
                sent = until

        while sent < len(payloads) or not self.connection.sent.is_empty:
            self.run(0.1, push)
            if self.connection.ended:
                return

    def close(self) -> None:
        if self.connection is not None:
            self.connection.close(time.monotonic(), "closed")
            self._flush()
        self.socket.close()

    def _flush(self) -> None:
        assert self.connection is not None
        out, self.connection.out = self.connection.out, []
        self.send_raw(*out)


def call(port: int, stream_id: str, timeout: float = 10.0, **options: object) -> Peer:
    """Returns a connected peer. Raises HandshakeRefused, TimeoutError."""
    peer = Peer(port, stream_id, **options)  # type: ignore[arg-type]
    try:
        return peer.connect(timeout)
    except BaseException:
        peer.close()
        raise


_STREAM_ID, _PASSPHRASE = 46, 26  # of SRT_SOCKOPT


def libsrt_refusal(port: int, stream_id: str, passphrase: str = "") -> int:
    """Returns the code with which libsrt itself is refused; 0: it is not. Skips the test without libsrt."""
    name = next((name for name in ("libsrt.so.1.5", "libsrt-gnutls.so.1.5") if _exists(name)), None)
    if name is None:
        lacking("not installed: libsrt")
    library = ctypes.CDLL(name)
    library.srt_startup()
    caller = library.srt_create_socket()
    try:
        for option, text in ((_STREAM_ID, stream_id), (_PASSPHRASE, passphrase)):
            data = text.encode()
            if data:
                assert library.srt_setsockflag(caller, option, data, len(data)) == 0
        address = struct.pack("=HHI8x", socket.AF_INET, socket.htons(port), socket.htonl(0x7F000001))
        if library.srt_connect(caller, address, len(address)) == 0:
            return 0
        return int(library.srt_getrejectreason(caller))
    finally:
        library.srt_close(caller)


def _exists(name: str) -> bool:
    with contextlib.suppress(OSError):
        ctypes.CDLL(name)
        return True
    return False
