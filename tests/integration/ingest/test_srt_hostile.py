"""Hostile callers of SRT at a real gateway: others are served at once, and memory stays bounded."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import statistics
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway.protocols.srt.calling import Caller
from gateway.protocols.srt.crypto import EVEN, encode_key_material
from gateway.protocols.srt.listening import HandshakeRefused
from gateway.protocols.srt.packets import (
    HEAD,
    MAGIC,
    WHOLE,
    ControlType,
    HandshakeExtension,
    HandshakeType,
    Parameters,
    SrtHandshake,
    control,
    encode_text,
    handshake_of,
)
from tests.support.clients import pull, take_of, until
from tests.support.gateway import Channel, Gateway
from tests.support.media import Film, judge
from tests.support.shared_gateway import shared_gateway
from tests.support.srt import Peer, call, srt_push
from tests.support.time_outs import at_most

FILM = Film("srt-hostile", seconds=40)
SECONDS = 3.0  # of a flood

gateway = shared_gateway(
    "ffmpeg", films=[FILM], MILLRACE_LIMITS__REFUSALS_PER_MINUTE="0", MILLRACE_STREAM__WAIT_FOR_PUBLISHER="0.1"
)


_OPEN: list[socket.socket] = []


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    for caller in _OPEN:
        caller.close()
    _OPEN.clear()


def resident(gateway: Gateway) -> int:
    """Bytes of memory of the gateway."""
    status = Path(f"/proc/{gateway.process.pid}/status").read_text()
    return 1024 * int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])


def push_id(channel: Channel) -> str:
    return f"publish:{channel.id}?sign={channel.key}"


def opened(gateway: Gateway, address: str = "127.0.0.1") -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    made.bind((address, 0))
    made.connect(("127.0.0.1", gateway.ports["srt"]))
    made.setblocking(False)
    _OPEN.append(made)
    return made


def unread(caller: socket.socket) -> list[bytes]:
    found: list[bytes] = []
    with contextlib.suppress(BlockingIOError, ConnectionRefusedError):
        while True:
            found.append(caller.recv(2048))
    return found


def send(caller: socket.socket, datagram: bytes) -> int:
    with contextlib.suppress(BlockingIOError, ConnectionRefusedError):
        return caller.send(datagram)
    return 0


def conclusion(cookie: int, stream_id: str, peer: int = 4711, window: int = 8192, *more: tuple[int, bytes]) -> bytes:
    extensions = [
        (int(HandshakeExtension.PARAMETERS_REQUEST), Parameters(0x10503, 0x3F, 120, 120).encode()),
        (int(HandshakeExtension.STREAM_ID), encode_text(stream_id)),
        *more,
    ]
    handshake = SrtHandshake(5, 0, 5, 77, 1500, window, HandshakeType.CONCLUSION, peer, cookie, extensions=extensions)
    return control(0, 0, 0, handshake.encode())


def cookie_of(caller: socket.socket) -> int:
    """Returns the cookie of the caller's address."""
    end = time.monotonic() + at_most(10)
    while time.monotonic() < end:
        send(caller, Caller("", 0.12, 0.0).datagram)
        time.sleep(0.05)
        for answer in unread(caller):
            handshake = handshake_of(answer)
            if handshake is not None and handshake.extension == MAGIC:
                return handshake.cookie
    raise TimeoutError("no cookie")


@contextlib.contextmanager
def flood(attack: Callable[[], object], seconds: float = SECONDS) -> Iterator[Callable[[], bool]]:
    """Repeats an attack in a thread. Yields whether it still runs."""
    end, over = time.monotonic() + seconds, threading.Event()

    def run() -> None:
        while time.monotonic() < end and not over.is_set():
            attack()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield thread.is_alive
    finally:
        over.set()
        thread.join()


def waits(gateway: Gateway, goes_on: Callable[[], bool]) -> list[float]:
    """Seconds that honest callers wait for a refusal, which needs both round trips of the handshake."""
    found = []
    while goes_on():
        began = time.monotonic()
        with contextlib.suppress(HandshakeRefused):
            call(gateway.ports["srt"], "publish:nobody?sign=1-2").close()
        found.append(time.monotonic() - began)
        time.sleep(0.02)
    return found


def quiet_waits(gateway: Gateway) -> list[float]:
    """Waits without a flood: the machine may be busy with other tests."""
    end = time.monotonic() + 1
    return waits(gateway, lambda: time.monotonic() < end)


def assert_short(found: list[float], quiet: list[float]) -> None:
    allowed = max(0.1, 4 * statistics.median(quiet))
    assert statistics.median(found) <= allowed, (allowed, sorted(found))


@contextlib.contextmanager
def watched(gateway: Gateway) -> Iterator[Channel]:
    """An honest push and an honest viewer, who gets every frame."""
    channel = gateway.channel()
    FILM.hashes()
    with srt_push(FILM, channel.srt_push) as publisher:
        channel.wait_live()
        with pull(channel.srt, seconds=8) as viewer:
            yield channel
            judge(take_of(viewer), FILM)
        assert publisher.running, publisher.errors[-400:]
    assert '"level":"error"' not in gateway.log


def test_inductions_keep_nobody_waiting_and_get_no_more_than_they_sent(gateway: Gateway) -> None:
    with watched(gateway):
        before, stranger, sent = resident(gateway), opened(gateway, "127.0.0.9"), 0
        datagram = Caller("", 0.12, 0.0).datagram

        def attack() -> None:
            nonlocal sent
            for _ in range(50):
                sent += send(stranger, datagram)
            time.sleep(0.002)

        quiet = quiet_waits(gateway)
        with flood(attack) as goes_on:
            found = waits(gateway, goes_on)
        time.sleep(0.3)
        assert sum(map(len, unread(stranger))) <= sent
        assert_short(found, quiet)
        assert resident(gateway) < before + 20_000_000


def test_conclusions_keep_nobody_waiting(gateway: Gateway) -> None:
    """With a forged cookie, and with a good one and ever new sockets, passphrases and stream ids of 512 bytes."""
    with watched(gateway):
        before = resident(gateway)
        caller, forged = opened(gateway, "127.0.0.9"), opened(gateway, "127.0.0.10")
        cookie, chance, sent, answered = cookie_of(caller), random.Random(7), 0, 0

        def attack() -> None:
            nonlocal sent, answered
            for _ in range(10):
                sent += send(forged, conclusion(chance.getrandbits(32), "read:x"))
                stream_id = f"publish:{chance.randbytes(240).hex()}?sign=1-2"
                send(caller, conclusion(cookie, stream_id, chance.randrange(1, 1 << 30)))
                answered += len(unread(caller))
            time.sleep(0.004)

        quiet = quiet_waits(gateway)
        with flood(attack) as goes_on:
            found = waits(gateway, goes_on)
        time.sleep(0.3)
        assert not unread(forged), "a forged cookie gets nothing"
        assert answered > 100
        assert_short(found, quiet)
        assert resident(gateway) < before + 20_000_000


def test_ten_thousand_stream_ids_of_512_bytes_leave_nothing(gateway: Gateway) -> None:
    before, answered, sent = resident(gateway), 0, 0
    caller = opened(gateway)
    cookie = cookie_of(caller)
    while sent < 10_000:
        for _ in range(20):
            sent += 1
            send(caller, conclusion(cookie, f"read:{os.urandom(253).hex()}"[:512], sent))
        time.sleep(0.005)
        answered += len(unread(caller))
    assert answered > 1_000
    assert resident(gateway) < before + 20_000_000


def test_callers_that_never_show_a_key_are_limited(gateway: Gateway) -> None:
    """Each address and port has its own session until the answer to its request."""
    before = resident(gateway)
    callers = [opened(gateway, f"127.0.1.{n}") for n in range(1, 201)]
    for caller in callers:
        send(caller, conclusion(cookie_of(caller), "read:nobody"))
    time.sleep(1)
    assert all(sum(map(len, unread(caller))) <= 2_000 for caller in callers)
    assert resident(gateway) < before + 20_000_000


def test_viewers_that_never_acknowledge_cost_little_and_silent_ones_are_forgotten(gateway: Gateway) -> None:
    with watched(gateway) as channel:
        before = resident(gateway)
        with contextlib.ExitStack() as stack:
            silent = [stack.enter_context(call(gateway.ports["srt"], f"read:{channel.id}")) for _ in range(20)]
            until(lambda: channel.session()["viewers"]["srt"] == 21, "all watch")
            alive = silent[:10]

            def is_over() -> bool:
                for peer in alive:
                    assert peer.connection is not None
                    socket_id = peer.connection.agreement.peer_socket
                    peer.send_raw(control(ControlType.KEEPALIVE, socket_id, 0, bytes(4)))
                return bool(channel.session()["viewers"]["srt"] <= 11)

            until(is_over, "the silent ones are forgotten")
            assert channel.session()["viewers"]["srt"] >= 10, "those with keep-alives stay"
            assert resident(gateway) < before + 40_000_000


def test_a_viewer_that_asks_for_everything_again_gets_a_bounded_rate(gateway: Gateway) -> None:
    with watched(gateway) as channel, call(gateway.ports["srt"], f"read:{channel.id}", latency=5.0) as peer:
        peer.run(1)
        agreement = peer.connection.agreement if peer.connection is not None else None
        assert agreement is not None
        everything = struct.pack(">2I", 0x8000_0000 | agreement.first, agreement.first + 8_000 & 0x7FFF_FFFF)
        request = control(ControlType.NAK, agreement.peer_socket, 0, everything * 100)
        came = 0

        def attack() -> None:
            nonlocal came
            peer.send_raw(request)
            came += sum(map(len, unread(peer.socket)))
            time.sleep(0.001)

        quiet = quiet_waits(gateway)
        with flood(attack) as goes_on:
            found = waits(gateway, goes_on)
        assert came < SECONDS * 15_000_000, "less than 120 Mbit/s"
        assert_short(found, quiet)


def test_a_claimed_window_of_years_costs_nothing(gateway: Gateway) -> None:
    with watched(gateway) as channel:
        before, caller = resident(gateway), opened(gateway)
        send(caller, conclusion(cookie_of(caller), f"read:{channel.id}", 4711, 0xFFFF_FFFF))
        time.sleep(5)
        assert unread(caller)
        assert resident(gateway) < before + 20_000_000


def test_forged_packets_with_a_guessed_socket_change_nothing(gateway: Gateway) -> None:
    """Also from the address of the caller: the socket's id must be known."""
    channel = gateway.channel()
    with call(gateway.ports["srt"], push_id(channel)) as peer:
        assert peer.connection is not None
        agreement = peer.connection.agreement
        stranger, chance = opened(gateway, "127.0.0.9"), random.Random(7)
        for _ in range(500):
            guess = chance.randrange(1 << 30)
            for kind in (ControlType.SHUTDOWN, ControlType.ACK, ControlType.DROP, ControlType.EXTENDED):
                send(stranger, control(kind, agreement.peer_socket, 0, os.urandom(64)))
                peer.send_raw(control(kind, guess, 0, os.urandom(64)))
            send(stranger, HEAD.pack(agreement.own_first, WHOLE, 0, agreement.peer_socket) + bytes(188))
        peer.run(0.5)
        assert not unread(stranger)
        assert not peer.connection.ended
        assert peer.connection.sent.is_empty


def test_key_material_that_changes_with_each_packet_costs_little(gateway: Gateway) -> None:
    secret = "a long passphrase"
    channel = gateway.channel(srtPassphrase=secret)
    with watched(gateway), call(gateway.ports["srt"], push_id(channel), passphrase=secret) as peer:
        assert peer.connection is not None
        socket_id = peer.connection.agreement.peer_socket
        materials = [encode_key_material(secret, os.urandom(16), {EVEN: os.urandom(16)}) for _ in range(20)]

        def attack() -> None:
            for material in materials:
                peer.send_raw(
                    control(ControlType.EXTENDED, socket_id, 0, material, subtype=HandshakeExtension.KEYS_REQUEST)
                )
            peer.send_raw(HEAD.pack(os.getpid(), WHOLE | 1 << 27, 0, socket_id) + os.urandom(188))
            time.sleep(0.002)

        quiet = quiet_waits(gateway)
        with flood(attack) as goes_on:
            found = waits(gateway, goes_on)
        assert_short(found, quiet)


def test_noise_of_strangers_and_callers_is_ignored(gateway: Gateway) -> None:
    with watched(gateway):
        stranger, chance = opened(gateway), random.Random(7)
        peer = Peer(gateway.ports["srt"], "read:nobody")
        for number in range(3_000):
            noise = chance.randbytes(chance.randrange(0, 1500))
            send(stranger, noise)
            peer.send_raw(b"\x80\0\0\0" + bytes(12) + noise)
            if not number % 100:
                time.sleep(0.01)
        assert sum(map(len, unread(stranger))) <= 3_000 * 1500
        peer.close()
