"""The UDP socket: segments, refusals of the kernel, and bounded reads."""

from __future__ import annotations

import asyncio
import errno
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from aiohttp import test_utils, web

from gateway.listeners.datagrams import SingleReader
from gateway.listeners.udp_socket import UdpSocket
from gateway.webrtc.addresses import machine_addresses, resolve
from tests.support.clock import Clock
from tests.support.time_outs import at_most

TO = ("127.0.0.1", 9)


class Kernel:
    """Takes the place of a socket. refuses: error number of sendmsg. room: packets that sendto takes."""

    def __init__(self, refuses: int = 0, room: int = 1000) -> None:
        self.refuses, self.room = refuses, room
        self.runs: list[list[int]] = []
        self.single: list[int] = []

    def setsockopt(self, *args: Any) -> None: ...

    def getsockopt(self, *args: Any) -> int:
        return 0

    def sendmsg(self, packets: Sequence[bytes], control: Any, flags: int, address: Any) -> int:
        if self.refuses:
            raise OSError(self.refuses, "refused")
        [(level, kind, size)] = control
        segment = int.from_bytes(size, "little")
        assert (level, kind) == (17, 103) and address == TO
        sizes = [len(packet) for packet in packets]
        if isinstance(packets[0], memoryview):
            sizes = [len(packets[0][at : at + segment]) for at in range(0, len(packets[0]), segment)]
        assert sizes[0] == segment
        self.runs.append(sizes)
        return sum(sizes)

    def sendto(self, packet: bytes, address: Any) -> int:
        if len(self.single) >= self.room:
            raise BlockingIOError
        self.single.append(len(packet))
        return len(packet)


def send(kernel: Kernel, sizes: list[int]) -> tuple[int, UdpSocket]:
    udp = UdpSocket(kernel, lambda *_: None)  # type: ignore[arg-type]
    return udp.send([bytes(size) for size in sizes], TO), udp


def send_run(kernel: Kernel, sizes: list[int]) -> tuple[int, UdpSocket]:
    udp = UdpSocket(kernel, lambda *_: None)  # type: ignore[arg-type]
    return udp.send_run(memoryview(bytes(sum(sizes))), sizes[0], TO), udp


@pytest.mark.parametrize(
    ("sizes", "runs"),
    [
        ([9, 9, 9], [[9, 9, 9]]), ([9, 9, 4], [[9, 9, 4]]), ([9, 4, 4, 9], [[9, 4], [4], [9]]),
        ([4, 9, 9], [[4], [9, 9]]),
        ([9] * 70, [[9] * 64, [9] * 6]), ([1300] * 60, [[1300] * 50, [1300] * 10]),
    ],
)  # fmt: skip
def test_packets_of_equal_length_and_a_shorter_last_one_share_a_call(sizes: list[int], runs: list[list[int]]) -> None:
    kernel = Kernel()
    assert send(kernel, sizes)[0] == len(sizes)
    assert kernel.runs == runs and kernel.single == []


@pytest.mark.parametrize("sizes", [[9, 9, 9], [9, 4], [1300] * 49 + [1]])
def test_a_run_goes_in_one_call(sizes: list[int]) -> None:
    kernel = Kernel()
    assert send_run(kernel, sizes)[0] == len(sizes)
    assert kernel.runs == [sizes] and kernel.single == []


def test_a_run_of_one_packet_needs_no_segments() -> None:
    kernel = Kernel()
    assert send_run(kernel, [9])[0] == 1 and kernel.single == [9]


def test_a_single_packet_needs_no_segments() -> None:
    kernel = Kernel()
    assert send(kernel, [9])[0] == 1 and kernel.single == [9]


@pytest.mark.parametrize(("refusal", "keeps"), [(errno.EMSGSIZE, True), (errno.EINVAL, True), (errno.EIO, False)])
def test_packets_that_cannot_be_segmented_go_one_by_one(refusal: int, keeps: bool) -> None:
    kernel = Kernel(refusal)
    sent, udp = send(kernel, [9, 9, 9])
    assert sent == 3 and kernel.single == [9, 9, 9] and udp.segments == keeps
    kernel = Kernel(refusal, room=2)
    assert send(kernel, [9] * 5)[0] == 2
    kernel = Kernel(refusal)
    sent, udp = send_run(kernel, [9, 9, 4])
    assert sent == 3 and kernel.single == [9, 9, 4] and udp.segments == keeps


@pytest.mark.parametrize("refusal", [errno.EAGAIN, errno.ENOBUFS, errno.ENETUNREACH, errno.EPERM])
def test_a_refusal_of_the_kernel_drops_the_remaining_packets(refusal: int) -> None:
    kernel = Kernel(refusal)
    assert send(kernel, [9, 9, 9])[0] == send_run(kernel, [9, 9, 9])[0] == 0 and kernel.single == []


@contextmanager
def bound(host: str = "127.0.0.1") -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as opened:
        opened.setblocking(False)
        if opened.family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        opened.bind((host, 0))
        yield opened


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel tells the address only on Linux")
@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
@pytest.mark.parametrize("way", ["one", "several", "run", "no segments"])
async def test_answers_come_from_the_address_that_the_client_has_called(host: str, way: str) -> None:
    """Of several addresses of a machine the kernel would choose another one (mediamtx #5243, libsrt #431)."""
    packets = [b"first", b"other", b"end"][: 1 if way == "one" else 3]

    def receive(udp: UdpSocket, address: Any, datagrams: Sequence[bytes], arrivals: Sequence[float]) -> bool:
        udp.segments &= way != "no segments"
        if way == "several":
            udp.send(packets, address)
        else:
            udp.send_run(memoryview(b"".join(packets)), 5, address)
        return True

    with bound(host) as opened, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        udp = UdpSocket(opened, receive)
        udp.start()
        client.settimeout(at_most(5))
        client.connect(("127.0.0.2", opened.getsockname()[1]))  # only answers of this address arrive
        for _ in range(2):
            client.send(b"call")
            assert [await asyncio.to_thread(client.recv, 99) for _ in packets] == packets
        udp.pause()


async def test_one_turn_reads_at_most_64_datagrams() -> None:
    with bound() as opened, bound() as sender:
        got: list[bytes] = []

        def receive(udp: UdpSocket, address: Any, datagrams: Sequence[bytes], arrivals: Sequence[float]) -> bool:
            got.append(datagrams[0])
            return False

        udp = UdpSocket(opened, receive)
        for number in range(100):
            sender.sendto(bytes((number,)), opened.getsockname())
        udp._turn()
        assert 1 <= len(got) <= 64
        while len(got) < 100:
            udp._turn()
        assert udp._turn() is None
        assert got == [bytes((number,)) for number in range(100)]


class Turns:
    """Takes the place of the event loop: notes whether the socket is read, and when the next turn is."""

    def __init__(self) -> None:
        self.reads = True
        self.waits: list[float] = []

    def add_reader(self, opened: Any, callback: Any) -> None:
        self.reads = True

    def remove_reader(self, opened: Any) -> None:
        self.reads = False

    def call_later(self, wait: float, callback: Any) -> Turns:
        self.waits.append(wait)
        return self

    def cancel(self) -> None:
        self.waits.append(-1)


def rests(
    opened: socket.socket, receive: Any, may_delay_reads: bool = True, is_polled: bool = False
) -> tuple[UdpSocket, Turns]:
    udp, loop = UdpSocket(opened, receive, lambda: may_delay_reads, is_polled=is_polled), Turns()
    udp._most_in_rest = 48
    udp._loop = loop  # type: ignore[assignment]
    return udp, loop


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux notes when a datagram comes")
def test_after_media_the_socket_rests_until_it_is_empty() -> None:
    with bound() as opened, bound() as sender:
        got: list[Sequence[bytes]] = []

        def receive(udp: UdpSocket, address: Any, datagrams: Sequence[bytes], arrivals: Sequence[float]) -> bool:
            got.append(datagrams)
            return True

        udp, loop = rests(opened, receive)
        sender.sendto(b"1", opened.getsockname())
        udp._readable()
        assert (loop.reads, loop.waits) == (False, [0.05])
        for data in (b"2", b"3"):
            sender.sendto(data, opened.getsockname())
        udp._readable()
        assert (loop.reads, len(loop.waits)) == (False, 2) and got == [[b"1"], [b"2", b"3"]]
        udp._readable()
        assert (loop.reads, len(loop.waits)) == (True, 2)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux notes when a datagram comes")
def test_a_socket_that_its_owner_reads_rests_also_while_nothing_comes() -> None:
    with bound() as opened, bound() as sender:
        udp, loop = rests(opened, lambda _, address, datagrams, arrivals: datagrams != [b"check"], is_polled=True)
        udp._readable()
        udp._readable()
        assert (loop.reads, loop.waits) == (False, [0.05, 0.05])
        sender.sendto(b"check", opened.getsockname())
        udp._readable()
        assert (loop.reads, len(loop.waits)) == (True, 2)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux notes when a datagram comes")
def test_few_datagrams_make_the_next_rest_longer_only_if_the_rest_was_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "monotonic", Clock(5.0))
    with bound() as opened, bound() as sender:
        udp, loop = rests(opened, lambda _, address, datagrams, arrivals: True, is_polled=True)
        for _ in range(60):
            sender.sendto(b"media", opened.getsockname())
        udp._readable()
        udp.read()
        udp.read()
        udp._readable()
        assert [wait for wait in loop.waits if wait > 0] == pytest.approx([0.04, 0.04, 0.04, 0.05])


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux notes when a datagram comes")
def test_more_datagrams_during_a_rest_make_the_next_rest_shorter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "monotonic", Clock(5.0))  # so no turn ends early
    with bound() as opened, bound() as sender:
        udp, loop = rests(opened, lambda _, address, datagrams, arrivals: True)
        for count in (40, 48, 48, 60, 60, 60, 1, 60):
            for _ in range(count):
                sender.sendto(b"media", opened.getsockname())
            udp._readable()
        expected = [0.05, 0.05, 0.05, 0.04, 0.032, 0.0256, 0.032, 0.0256]
        assert loop.waits == pytest.approx(expected)
        for _ in range(25):
            for _ in range(60):
                sender.sendto(b"media", opened.getsockname())
            udp._readable()
        assert loop.waits[-1] == 0.001


def test_after_datagrams_other_than_media_the_socket_is_read_at_once() -> None:
    with bound() as opened, bound() as sender, bound() as other:
        udp, loop = rests(opened, lambda _, address, datagrams, arrivals: datagrams != [b"check"])
        sender.sendto(b"check", opened.getsockname())
        other.sendto(b"media", opened.getsockname())
        udp._readable()
        assert (loop.reads, loop.waits) == (True, [])


def test_while_a_peer_waits_the_socket_is_read_at_once() -> None:
    with bound() as opened, bound() as sender:
        udp, loop = rests(opened, lambda _, address, datagrams, arrivals: True, may_delay_reads=False)
        sender.sendto(b"media", opened.getsockname())
        udp._readable()
        assert (loop.reads, loop.waits) == (True, [])
        udp.wake()
        assert (loop.reads, loop.waits) == (True, []), "it does not rest"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux notes when a datagram comes")
def test_a_rest_ends_when_a_peer_waits() -> None:
    with bound() as opened, bound() as sender:
        udp, loop = rests(opened, lambda _, address, datagrams, arrivals: True)
        sender.sendto(b"media", opened.getsockname())
        udp._readable()
        udp.wake()
        assert (loop.reads, loop.waits) == (False, [0.05, -1, 0.0])


def test_a_rest_fills_a_quarter_of_the_buffer_at_most() -> None:
    with bound() as opened:
        most = UdpSocket(opened, lambda *_: True)._most_in_rest
        assert 1 <= most <= 512 and most * 2_304 * 4 <= opened.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)


def test_a_socket_without_times_of_arrival_does_not_rest() -> None:
    with bound() as opened, bound() as sender:
        udp, loop = rests(opened, lambda _, address, datagrams, arrivals: True)
        udp._reader = SingleReader(opened)
        sender.sendto(b"1", opened.getsockname())
        udp._readable()
        assert (loop.reads, loop.waits) == (True, [])


def test_an_expensive_turn_ends_and_later_turns_read_the_other_datagrams(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(5.0)
    with bound() as opened, bound() as sender, bound() as other:
        got: list[Any] = []

        def receive(_: UdpSocket, address: Any, datagrams: list[bytes], arrivals: list[float]) -> bool:
            got.append(datagrams[0])
            clock.now += 0.003
            return False

        udp, loop = rests(opened, receive)
        monkeypatch.setattr(time, "monotonic", clock)
        for data in (b"1", b"2"):
            sender.sendto(data, opened.getsockname())
            other.sendto(data, opened.getsockname())
        udp._readable()
        assert got == [b"1"] and (loop.reads, loop.waits) == (False, [0.0])
        for _ in range(3):
            udp._readable()
        assert got == [b"1", b"2"] * 2 and (loop.reads, loop.waits) == (True, [0.0] * 3)
        sender.sendto(b"3", opened.getsockname())
        other.sendto(b"3", opened.getsockname())
        udp._readable()
        udp.pause()
        assert loop.waits == [*[0.0] * 4, -1] and udp._turn() is None, "what was not handled is lost"


def test_an_error_of_one_peer_does_not_end_the_reading() -> None:
    def receive(*_: Any) -> bool:
        raise RuntimeError("a bug")

    with bound() as opened, bound() as sender:
        udp, loop = rests(opened, receive)
        sender.sendto(b"1", opened.getsockname())
        with pytest.raises(RuntimeError):
            udp._readable()
        assert (loop.reads, loop.waits) == (False, [0.0]), "the next turn comes at once"


async def test_a_socket_that_is_closed_while_it_is_read_is_not_read_again() -> None:
    with bound() as opened, bound() as sender, bound() as other:
        got: list[bytes] = []

        def receive(udp: UdpSocket, address: Any, datagrams: Sequence[bytes], arrivals: Sequence[float]) -> bool:
            got.extend(datagrams)
            udp.close()
            return True

        udp = UdpSocket(opened, receive)
        udp.start()
        for one in (sender, other):
            one.sendto(b"x", opened.getsockname())
        async with asyncio.timeout(at_most(10)):
            while not got:
                await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert got == [b"x"]


def test_the_addresses_of_the_machine_have_no_loopback_and_no_repetition() -> None:
    found = machine_addresses(ipv6=True)
    assert len(set(found)) == len(found)
    assert not any(address.startswith(("127.", "fe80")) or address in ("::1", "0.0.0.0") for address in found)
    assert not any(":" in address for address in machine_addresses(ipv6=False))


async def test_names_are_resolved_and_unknown_ones_are_left_out() -> None:
    assert await resolve(["192.0.2.1", "[2001:db8::1]", "name.invalid", "192.0.2.1"]) == ["192.0.2.1", "2001:db8::1"]


@pytest.mark.parametrize(
    ("status", "answer", "found"),
    [
        (200, "203.0.113.7\n", ["203.0.113.7"]),
        (200, "2001:db8::7", ["2001:db8::7"]),
        (200, "<html>203.0.113.7</html>", []),
        (200, "0.0.0.0", []),
        (200, "\u00e9" * 100_000, []),
        (500, "203.0.113.7", []),
    ],
)
async def test_an_address_can_come_from_a_url(status: int, answer: str, found: list[str]) -> None:
    async def reply(request: web.Request) -> web.Response:
        return web.Response(status=status, text=answer)

    app = web.Application()
    app.router.add_get("/ip", reply)
    async with test_utils.TestServer(app) as server:
        url = str(server.make_url("/ip"))
        assert await resolve([url, "192.0.2.1"]) == [*found, "192.0.2.1"]
    assert await resolve([url]) == [], "nobody listens"
