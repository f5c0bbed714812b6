"""How long others wait while strangers, publishers and players flood a listener, one connection and ten at once.

    python -m bench.bench_floods [--listeners rtmp,ws] [--connections 1,10] [--seconds 5] [--only WORDS]

For each flood: /healthcheck is asked on a connection of its own every 20 ms (p50, p99, worst), and a viewer of a
healthy stream notes the longest pause between two pieces of it. A flooder that is thrown out comes back at once. The
clients run in processes of their own, but on the same machine: read the row `calm` first. "Its work" is what the
gateway itself ran between a question and its answer; a busy machine does not change that.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import multiprocessing
import os
import socket
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any, TypeAlias

from bench.harness.procs import usage
from gateway.formats import amf0
from tests.support.gateway import Channel, Gateway, running
from tests.support.rtmp import AUDIO, COMMAND, DATA, command, message, metadata, self_signed, trusting_anyone

Ports: TypeAlias = dict[str, Any]
_PROXY = "127.0.0.2"  # of which the gateway expects PROXY headers
_EVERY = 0.02  # seconds between two questions
_CHUNK = 65536
COLUMNS = (
    *("flood", "connections", "p50 ms", "p99 ms", "worst ms", "p99 of its work ms"),
    *("picture still ms", "processor", "taken"),
)


# ---- flooders ----


@dataclass(frozen=True)
class Target:
    """What a flooder is told."""

    ports: Ports
    key: str  # <id>?sign=… of a channel of its own
    live: str  # id of the healthy stream

    def connect(self, listener: str, source: str = "127.0.0.1") -> socket.socket:
        raw = socket.create_connection(("127.0.0.1", self.ports[listener]), timeout=8, source_address=(source, 0))
        if listener in ("rtmps", "wss", "https"):
            return trusting_anyone().wrap_socket(raw)
        return raw

    def rtmp(self, listener: str, *commands: bytes, source: str = "127.0.0.1", header: bytes = b"") -> socket.socket:
        """After the handshake and `connect`; chunks of 64 kB."""
        sock = self.connect(listener, source)
        sock.sendall(header + b"\x03" + bytes(1536))
        left = 3073
        while left:
            got = sock.recv(left)
            if not got:
                raise ConnectionError("no handshake")
            left -= len(got)
        sock.sendall(bytes(1536) + message(1, struct.pack(">I", _CHUNK), csid=2))
        connect = command("connect", 1, {"app": "stream", "tcUrl": "rtmp://127.0.0.1/stream"}, size=_CHUNK)
        sock.sendall(connect + b"".join(commands))
        return sock

    def publisher(self, listener: str) -> socket.socket:
        sock = self.rtmp(listener, command("publish", 3, None, self.key, "live", stream=1, size=_CHUNK))
        _read_until(sock, b"Publish.Start")
        return sock

    def player(self, listener: str) -> socket.socket:
        sock = self.rtmp(listener, command("play", 3, None, self.live, stream=1, size=_CHUNK))
        _read_until(sock, b"Play.Start")
        return sock

    def websocket(self, listener: str, path: str) -> socket.socket:
        sock = self.connect(listener)
        nonce = base64.b64encode(os.urandom(16)).decode()
        sock.sendall(
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{self.ports[listener]}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {nonce}\r\n\r\n".encode()
        )
        _read_until(sock, b"\r\n\r\n")
        return sock


def _read_until(sock: socket.socket, words: bytes) -> None:
    got = b""
    while words not in got:
        piece = sock.recv(65536)
        if not piece:
            raise ConnectionError("closed")
        got = (got + piece)[-65536:]


@dataclass(frozen=True)
class Flood:
    """open: makes a connection ready; then `piece` is sent without end. reads: it takes the answers."""

    listener: str
    name: str
    open: Callable[[Target, str], socket.socket]
    piece: bytes
    reads: bool = False


def _ask(name: str, *values: Any, times: int, transaction: float = 0, stream: int = 0) -> bytes:
    return command(name, transaction, *values, stream=stream, size=_CHUNK) * times


def _frame(opcode: int, payload: bytes = b"", *, final: bool = True) -> bytes:
    """A short masked frame; the mask is zero."""
    return bytes((0x80 * final | opcode, 0x80 | len(payload))) + bytes(4) + payload


def _rtmp_floods(listener: str) -> list[Flood]:
    stranger, publisher, player = Target.rtmp, Target.publisher, Target.player
    array = amf0.encode("foo", 0) + b"\x0a" + struct.pack(">I", 9000) + b"\x05" * 9000
    items = metadata(**{f"field{n}": float(n) for n in range(2000)})
    ping = message(4, struct.pack(">HI", 6, 1), csid=2)
    hello = b"\x03" + bytes(1536)
    return [
        Flood(
            listener, "no key: unknown commands, answered", stranger, _ask("foo", None, times=500, transaction=5), True
        ),
        Flood(listener, "no key: commands of 9,000 items", stranger, message(COMMAND, array, size=_CHUNK) * 20),
        Flood(listener, "no key: control messages", stranger, message(3, bytes(4), csid=2) * 3000),
        Flood(listener, "no key: pings, answered", stranger, ping * 2000, True),
        Flood(listener, "no key: Set Chunk Size", stranger, message(1, struct.pack(">I", _CHUNK), csid=2) * 3000),
        Flood(listener, "no key: createStream", stranger, _ask("createStream", None, times=500, transaction=2), True),
        Flood(listener, "no key: deleteStream", stranger, _ask("deleteStream", None, 1.0, times=1000)),
        Flood(listener, "no key: empty messages of one byte", stranger, message(AUDIO, b"", csid=4) + b"\xc4" * 60_000),
        Flood(listener, "no key: sound that nobody asked for", stranger, message(AUDIO, b"\xaf\1\0", csid=4) * 3000),
        Flood(listener, "no key: guessed keys", _guess, b""),
        Flood(listener, "connects and leaves", _leave, b""),
        Flood(listener, "handshakes and leaves", _shake, hello),
        Flood(listener, "a player: unknown commands", player, _ask("foo", None, times=500, transaction=5), True),
        Flood(listener, "a player: plays and stops", player, _play_and_stop() * 200, True),
        Flood(listener, "a player: pauses", player, _pauses() * 200, True),
        Flood(listener, "a player: acknowledgements", player, message(3, bytes(4), csid=2) * 3000, True),
        Flood(listener, "a publisher: tiny sounds", publisher, message(AUDIO, b"\xaf\1\0", csid=4, stream=1) * 3000),
        Flood(
            listener, "a publisher: empty sounds", publisher, message(AUDIO, b"", csid=4, stream=1) + b"\xc4" * 60_000
        ),
        Flood(listener, "a publisher: chunks of one byte", _tiny_chunks, _split(bytes(3000)) * 20),
        Flood(listener, "a publisher: script data", publisher, message(DATA, _text(), stream=1, size=_CHUNK) * 500),
        Flood(listener, "a publisher: large metadata", publisher, message(DATA, items, stream=1, size=_CHUNK) * 4),
        Flood(listener, "a publisher: pings", publisher, ping * 2000, True),
    ]


def _play_and_stop() -> bytes:
    return _ask("closeStream", None, times=1, stream=1) + _ask("play", None, "nobody", times=1, stream=1)


def _pauses() -> bytes:
    return _ask("pause", None, True, 0, times=1, stream=1) + _ask("pause", None, False, 0, times=1, stream=1)


def _text() -> bytes:
    return amf0.encode("onTextData", {"text": "x"})


def _split(payload: bytes) -> bytes:
    return message(AUDIO, payload, csid=4, stream=1, size=1)


def _tiny_chunks(target: Target, listener: str) -> socket.socket:
    sock = target.publisher(listener)
    sock.sendall(message(1, struct.pack(">I", 1), csid=2))
    return sock


def _guess(target: Target, listener: str) -> socket.socket:
    guess = command("publish", 3, None, "nobody?sign=1-" + "a" * 64, "live", stream=1, size=_CHUNK)
    sock = target.rtmp(listener, guess)
    _read_until(sock, b"Publish")
    return sock


def _leave(target: Target, listener: str) -> socket.socket:
    return target.connect(listener)


def _shake(target: Target, listener: str) -> socket.socket:
    return target.connect(listener)


def _proxy_header(extra: int = 0) -> bytes:
    body = socket.inet_aton("192.0.2.1") + socket.inet_aton("127.0.0.1") + struct.pack(">HH", 1000, 1935) + bytes(extra)
    return b"\r\n\r\n\0\r\nQUIT\n" + b"\x21\x11" + struct.pack(">H", len(body)) + body


def _proxied(target: Target, listener: str) -> socket.socket:
    return target.rtmp(listener, source=_PROXY, header=_proxy_header(3000))


def _proxy_only(target: Target, listener: str) -> socket.socket:
    sock = target.connect(listener, _PROXY)
    sock.sendall(_proxy_header(4000))
    return sock


def _wrong_key(target: Target, listener: str) -> socket.socket:
    return target.websocket(listener, "/stream/x?sign=1")


def _right_key(target: Target, listener: str) -> socket.socket:
    return target.websocket(listener, f"/stream/{target.key}")


def _ws_floods(listener: str) -> list[Flood]:
    begin = _frame(2, b"x", final=False)
    head = b"GET /healthcheck HTTP/1.1\r\nHost: a\r\n\r\n"
    return [
        Flood(listener, "a wrong key: pings", _wrong_key, _frame(9) * 3000, True),
        Flood(listener, "a wrong key: messages", _wrong_key, _frame(2, b"x" * 100) * 500, True),
        Flood(listener, "a wrong key: close frames", _wrong_key, _frame(8, b"\3\xe8") * 3000, True),
        Flood(listener, "a publisher: pings", _right_key, _frame(9) * 3000, True),
        Flood(listener, "a publisher: pongs", _right_key, _frame(10) * 3000, True),
        Flood(listener, "a publisher: texts", _right_key, _frame(1, b"{}") * 2000, True),
        Flood(listener, "a publisher: empty messages", _right_key, _frame(2) * 3000, True),
        Flood(listener, "a publisher: tiny messages", _right_key, _frame(2, b"x") * 3000, True),
        Flood(
            listener,
            "a publisher: fragments of one byte",
            _right_key,
            begin + _frame(0, b"x", final=False) * 3000,
            True,
        ),
        Flood(listener, "requests and leaves", _leave, head),
        Flood(listener, "half a request", _leave, b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 2000),
        Flood(listener, "connects and leaves", _leave, b""),
    ]


def _http_floods(listener: str) -> list[Flood]:
    def get(path: str, fields: str = "") -> bytes:
        return f"GET {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n".encode()

    made_up = b"".join(get(f"/x{n}/live.m3u8") for n in range(2000))
    return [
        Flood(listener, "pipelined requests", Target.connect, get("/healthcheck") * 1000, True),
        Flood(listener, "requests for made-up channels", Target.connect, made_up, True),
        Flood(
            listener,
            "a player's script",
            Target.connect,
            get("/_player/flv.js", "Accept-Encoding: gzip\r\n") * 500,
            True,
        ),
        Flood(listener, "connects and leaves", _leave, b""),
    ]


FLOODS = [
    *_rtmp_floods("rtmp"),
    Flood("rtmp", "PROXY v2: control messages", _proxied, message(3, bytes(4), csid=2) * 3000),
    Flood("rtmp", "PROXY v2: headers", _proxy_only, b""),
    *_rtmp_floods("rtmps"),
    *_ws_floods("ws"),
    *_ws_floods("wss"),
    *_http_floods("http"),
    *_http_floods("https"),
]


def _flood(
    index: int, targets: Sequence[Target], until: float, sent: Synchronized[int], opened: Synchronized[int]
) -> None:
    """All flooders in one process, which then needs no more than a core; until: monotonic seconds."""
    threads = [threading.Thread(target=_flood_one, args=(FLOODS[index], t, until, sent, opened)) for t in targets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _flood_one(flood: Flood, target: Target, until: float, sent: Synchronized[int], opened: Synchronized[int]) -> None:
    while time.monotonic() < until:
        with contextlib.suppress(OSError), flood.open(target, flood.listener) as sock:
            with opened.get_lock():
                opened.value += 1
            over = threading.Event()
            if flood.reads:
                threading.Thread(target=_drain, args=(sock, over), daemon=True).start()
            try:
                while flood.piece and time.monotonic() < until:
                    count = sock.send(flood.piece)
                    with sent.get_lock():
                        sent.value += count
            finally:
                over.set()


def _drain(sock: socket.socket, over: threading.Event) -> None:
    with contextlib.suppress(OSError):
        while not over.is_set() and sock.recv(1 << 20):
            pass


# ---- the others ----


def _view(port: int, id: str, pause: Synchronized[float], until: float) -> None:
    """A viewer of HTTP-FLV: the longest pause between two reads."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as sock:
        sock.sendall(f"GET /{id}/live.flv HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        for _ in range(10):
            sock.recv(1 << 20)
        last = time.monotonic()
        while (now := time.monotonic()) < until:
            if not sock.recv(1 << 20):
                pause.value = float("inf")
                return
            now = time.monotonic()
            pause.value = max(pause.value, now - last)
            last = now


def _ask_health(port: int) -> float:
    began = time.perf_counter()
    with socket.create_connection(("127.0.0.1", port), timeout=20) as sock:
        sock.sendall(b"GET /healthcheck HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        while sock.recv(4096):
            pass
    return time.perf_counter() - began


def measure(gateway: Gateway, live: Channel, index: int | None, connections: int, seconds: float) -> str:
    """A row of the table. index: of the flood; None: nobody floods."""
    context = multiprocessing.get_context("fork")
    sent, opened, pause = context.Value("L", 0), context.Value("L", 0), context.Value("d", 0.0)
    channels = [gateway.channel(isHls=False) for _ in range(connections)]
    targets = [Target(gateway.ports, channel.obs_key, live.id) for channel in channels]
    until = time.monotonic() + seconds + 1
    processes = [context.Process(target=_view, args=(gateway.ports["http"], live.id, pause, until))]
    if index is not None:
        processes.append(context.Process(target=_flood, args=(index, targets, until, sent, opened)))
    for process in processes:
        process.start()
    time.sleep(1)
    before, began = usage(gateway.process.pid).cpu, time.monotonic()
    waits, works = [], []
    while not waits or time.monotonic() < until:
        worked = _worked(gateway.process.pid)
        waits.append(_ask_health(gateway.ports["http"]))
        works.append(_worked(gateway.process.pid) - worked)
        time.sleep(_EVERY)
    busy = (usage(gateway.process.pid).cpu - before) / (time.monotonic() - began)
    for process in processes:
        process.join(3)
        if process.is_alive():
            process.terminate()
    p50, p99, worst = (_quantile(waits, q) * 1000 for q in (0.5, 0.99, 1.0))
    work = _quantile(works, 0.99) * 1000
    name = "calm" if index is None else f"{FLOODS[index].listener}: {FLOODS[index].name}"
    took = f"{sent.value / 1e6 / seconds:.1f} MB/s, {opened.value} connections"
    return (
        f"| {name} | {connections} | {p50:.0f} | {p99:.0f} | {worst:.0f} | {work:.0f} | {pause.value * 1000:.0f} | "
        f"{busy * 100:.0f} % | {took} |"
    )


def _worked(pid: int) -> float:
    """Seconds that the main thread of a process has run: waiting for a processor does not count."""
    return int(Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()[0]) / 1e9


def _quantile(values: Sequence[float], q: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * q))]


def _wanted(listeners: Sequence[str], only: str) -> list[int]:
    return [n for n, flood in enumerate(FLOODS) if flood.listener in listeners and only in flood.name]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--listeners", default="rtmp,rtmps,ws,wss,http,https")
    parser.add_argument("--connections", default="1,10")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--only", default="", help="floods whose name has these words")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        cert, key = self_signed(Path(folder))
        settings = {
            "MILLRACE_TLS__CERT": str(cert),
            "MILLRACE_TLS__KEY": str(key),
            "MILLRACE_RTMP__PROXY_FROM": f"{_PROXY}/32",
            "MILLRACE_LIMITS__REFUSALS_PER_MINUTE": "0",
            **{f"MILLRACE_{name}__PORT": "0" for name in ("RTMPS", "HTTPS", "WSS")},
        }
        with running(**settings) as gateway:
            live = gateway.channel(isHls=False)
            film = [
                "-f",
                "lavfi",
                "-i",
                "testsrc2=s=320x180:r=30",
                "-c:v",
                "libx264",
                "-preset",
                "ultrafast",
                "-g",
                "30",
            ]
            push = ["ffmpeg", "-nostdin", "-v", "error", "-re", *film, "-pix_fmt", "yuv420p", "-f", "flv", live.push]
            publisher = subprocess.Popen(push)
            try:
                live.wait_live()
                print(f"| {' | '.join(COLUMNS)} |")
                print("|---|---|---|---|---|---|---|---|---|")
                print(measure(gateway, live, None, 0, options.seconds), flush=True)
                for index in _wanted(options.listeners.split(","), options.only):
                    for connections in map(int, options.connections.split(",")):
                        print(measure(gateway, live, index, connections, options.seconds), flush=True)
            finally:
                publisher.terminate()
                publisher.wait()


if __name__ == "__main__":
    main()
