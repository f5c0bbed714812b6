"""Listening sockets of the worker slots: which of them accept connections."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from gateway.channels.addresses import OpenPorts
from gateway.cluster.members.worker_slot import WorkerSlot
from gateway.processes.child import Child
from gateway.processes.link_protocol import Begin, ProcessMessage, encode_message
from gateway.processes.master import OpenSockets
from gateway.processes.worker_link import WorkerLink
from gateway.processes.worker_parent import WorkerParent
from gateway.settings.models import ListenAddress, PortSharing

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="several workers need Linux")


@pytest.fixture
def opened() -> Iterator[OpenSockets]:
    addresses = [
        ListenAddress("http", "127.0.0.1", 0),
        ListenAddress("admin", "127.0.0.1", 0, sharing=PortSharing.FIRST),
    ]
    opened = OpenSockets.open(addresses, 2)
    yield opened
    opened.close()


def _connections(opened: OpenSockets, name: str = "http") -> list[int]:
    """The number of connections that each slot gets out of 40."""
    with contextlib.ExitStack() as stack:
        for _ in range(40):
            stack.enter_context(socket.create_connection(("127.0.0.1", opened.ports[name]), 5))
        counts = []
        for (listening,) in opened._sockets[name]:
            counts.append(0)
            with contextlib.suppress(OSError):
                while True:
                    stack.enter_context(listening.accept()[0])
                    counts[-1] += 1
    return counts


@pytest.mark.parametrize("number", [1, 2])
def test_a_slot_without_a_worker_gets_no_connections(opened: OpenSockets, number: int) -> None:
    for _ in range(2):
        opened.stop_listening(number)
    counts = _connections(opened)
    assert (counts[number - 1], sum(counts)) == (0, 40)
    if number == 1:
        assert _connections(opened, "admin") == [40], "no other slot has this port"
    ours, theirs = socket.socketpair()
    with ours:
        Begin(WorkerSlot("h", number, 2, 2, Path("/run"), ""), opened.ports, opened.of(number)).send(ours)
        link = WorkerLink(theirs.detach())
        (adopted,) = link.sockets("http", "", 0)
        with adopted:
            assert min(_connections(opened)) > 0
        link.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_all_datagrams_of_an_address_reach_one_slot_also_while_another_has_no_worker(host: str) -> None:
    opened = OpenSockets.open([ListenAddress("ws", host, 0, transports=("udp",))], 3)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with contextlib.ExitStack() as stack:
        stack.callback(opened.close)
        clients = [stack.enter_context(socket.socket(family, socket.SOCK_DGRAM)) for _ in range(40)]
        for client in clients:
            client.connect((host, opened.ports["ws"]))

        def slots() -> list[set[int]]:
            """The ports of the clients whose datagram each slot has."""
            for client in clients:
                client.send(b"x")
            found = []
            for (listening,) in opened._sockets["ws"]:
                found.append(set[int]())
                with contextlib.suppress(BlockingIOError):
                    while True:
                        found[-1].add(listening.recvfrom(9)[1][1])
            return found

        first = slots()
        assert min(map(len, first)) > 0 and sum(map(len, first)) == 40
        opened.stop_listening(2)
        assert slots() == first


async def test_silence_of_a_worker_counts_since_its_last_message_after_ready() -> None:
    child = Child(
        cast(WorkerParent, None), Begin(WorkerSlot("h", 1, 1, 2, Path("/run"), ""), OpenPorts()), lambda: None
    )
    reader = asyncio.StreamReader()
    listening = asyncio.ensure_future(child._listen(reader, 0))

    async def hear(message: ProcessMessage) -> None:
        reader.feed_data(encode_message(message))
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    await hear(ProcessMessage.ALIVE)
    assert [child.count_silence() for _ in range(2)] == [0, 0], "it starts"
    await hear(ProcessMessage.READY)
    assert [child.count_silence() for _ in range(3)] == [1, 2, 3]
    await hear(ProcessMessage.ALIVE)
    assert child.count_silence() == 1
    reader.feed_eof()
    await listening
    assert [child.count_silence() for _ in range(2)] == [0, 0], "it ends"
