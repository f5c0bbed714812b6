"""Messages between master and worker: complete lines, partial lines, and the first message."""

import asyncio
import socket
from pathlib import Path

import pytest

from gateway.channels.addresses import OpenPorts
from gateway.cluster.members.worker_slot import WorkerSlot
from gateway.lib.sockets import ListenError
from gateway.processes.link_protocol import MAX_LINE, Begin, LineReader, LinkBroken, ProcessMessage, encode_message
from gateway.processes.worker_link import WorkerLink
from tests.support.time_outs import at_most

SLOT = WorkerSlot("0a1b2c3d", 2, 3, 4, Path("/run/millrace"), "a secret", succeeds="0a1b2c3d.2-2")
BEGIN_ALONE = Begin(SLOT, OpenPorts())
BEGIN = Begin(SLOT, OpenPorts(rtmp=1935, admin=8000), {"rtmp": (5, 6)})


def feed_all_ways(data: bytes) -> None:
    expected = LineReader().receive(data)
    lines = LineReader()
    assert [said for n in range(len(data)) for said in lines.receive(data[n : n + 1])] == expected
    lines = LineReader()
    assert lines.receive(data + b'{"say":') == expected


def test_lines_are_read_from_pieces_of_any_size():
    data = BEGIN.encode() + encode_message(ProcessMessage.RETIRE)
    feed_all_ways(data)
    begin, retire = LineReader().receive(data)
    assert Begin.decode(begin, (5, 6)) == BEGIN
    assert retire == {"say": "retire"}


@pytest.mark.parametrize("data", [b"hello\n", b"[1]\n", b"[" * 100_000 + b"\n", b"\xff\n", b"x" * (MAX_LINE + 1)])
def test_an_invalid_line_breaks_the_link(data: bytes):
    with pytest.raises(LinkBroken):
        LineReader().receive(data)


@pytest.mark.parametrize(
    "said",
    [{}, {"slot": 1}, {"slot": {"folder": "x"}, "ports": {}, "sockets": {}}, {"slot": None, "ports": {}, "sockets": 1}],
)
def test_an_invalid_first_message_breaks_the_link(said: dict[str, object]):
    with pytest.raises(LinkBroken):
        Begin.decode(said, ())


@pytest.mark.parametrize("descriptors", [(), (5,)])
def test_a_first_message_without_its_sockets_breaks_the_link(descriptors: tuple[int, ...]):
    (begin,) = LineReader().receive(BEGIN.encode())
    with pytest.raises(LinkBroken, match="not all sockets"):
        Begin.decode(begin, descriptors)


def test_the_repr_of_a_slot_does_not_contain_the_secret():
    assert "a secret" not in repr(SLOT)


def test_a_slot_has_names_for_process_node_and_socket():
    assert (SLOT.name, SLOT.id, SLOT.first) == ("2-3", "0a1b2c3d.2-3", False)
    assert SLOT.socket == Path("/run/millrace/0a1b2c3d.2-3.sock")
    first = WorkerSlot("0a1b2c3d", 1, 1, 4, Path("/run/millrace"), "")
    assert (first.name, first.id, first.first) == ("1", "0a1b2c3d.1", True)


def test_siblings_are_workers_of_the_same_host_with_a_socket(tmp_path: Path):
    slot = WorkerSlot("0a1b2c3d", 1, 1, 4, tmp_path, "")
    for name in ("0a1b2c3d.1.sock", "0a1b2c3d.2-3.sock", "0a1b2c3d.3.counters", "ffffffff.2.sock", "lock"):
        (tmp_path / name).touch()
    assert slot.siblings() == {"0a1b2c3d.2-3": str(tmp_path / "0a1b2c3d.2-3.sock")}


def seated(begin: Begin) -> tuple[WorkerLink, socket.socket]:
    ours, theirs = socket.socketpair()
    begin.send(ours)
    return WorkerLink(theirs.detach()), ours


def test_a_worker_link_gives_each_listener_its_sockets_once():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        seat, master = seated(Begin(SLOT, OpenPorts(http=port), {"http": (listening.fileno(),)}))
    with master:
        (got,) = seat.sockets("http", "0.0.0.0", 8080)
        with got:
            assert got.getsockname()[1] == port
            assert not got.get_inheritable()
        with pytest.raises(ListenError, match="http: the master has opened no port for it"):
            seat.sockets("http", "0.0.0.0", 8080)
        seat.close()


async def test_a_worker_link_forwards_commands_and_stops_when_the_master_ends():
    seat, master = seated(BEGIN_ALONE)
    told: list[ProcessMessage] = []
    heard = asyncio.Event()

    def hear(word: ProcessMessage) -> None:
        told.append(word)
        heard.set()

    seat.listen(hear)
    seat.report_ready()
    assert LineReader().receive(master.recv(1000)) == [{"say": "alive"}, {"say": "ready"}]
    for word in (ProcessMessage.OPENED, ProcessMessage.RETIRE):
        master.sendall(encode_message(word))
        await asyncio.wait_for(heard.wait(), at_most(5))
        heard.clear()
    master.close()
    await asyncio.wait_for(heard.wait(), at_most(5))
    assert told == [ProcessMessage.OPENED, ProcessMessage.RETIRE, ProcessMessage.STOP]
    seat.close()


async def test_commands_that_arrive_with_the_first_message_are_forwarded():
    ours, theirs = socket.socketpair()
    with ours:
        ours.sendall(BEGIN_ALONE.encode() + encode_message(ProcessMessage.OPENED) + encode_message(ProcessMessage.STOP))
        seat = WorkerLink(theirs.detach())
        told: list[ProcessMessage] = []
        seat.listen(told.append)
        assert told == [ProcessMessage.OPENED, ProcessMessage.STOP]
        seat.close()


def test_a_worker_link_without_a_master_raises_link_broken():
    ours, theirs = socket.socketpair()
    ours.close()
    with pytest.raises(LinkBroken, match="no master"):
        WorkerLink(theirs.detach())
