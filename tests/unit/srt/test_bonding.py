"""Bonded links by simulated time: links that die, lose and reorder, their shares, and the end of a group."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any, cast
from unittest.mock import Mock

import pytest

from gateway.lib.tasks import Tasks
from gateway.protocols.srt.packets import ControlType, control
from gateway.protocols.srt.srtla import NO_GROUP, REG3, SrtlaType
from gateway.srt.bonding import GROUP_SECONDS, MAX_LINKS, BondedGroup, BondingServer
from gateway.srt.link import PATH_SECONDS
from tests.support.link_conditions import Conditions
from tests.support.srtla_sender import SrtlaBonding
from tests.unit.protocols.srt.film import film_of, lost_pictures
from tests.unit.srt.bonded_push import BondedPush, Clock
from tests.unit.srt.test_passphrases import Client

ADDRESSES = ("192.0.2.1", "192.0.2.2", "192.0.2.3")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@contextlib.asynccontextmanager
async def pushing(
    clock: Clock, *addresses: str, latency: float = 1.0, **conditions: float | str
) -> AsyncIterator[BondedPush]:
    """A connected push. conditions: of its links, which have a delay of 10 ms if none is named."""
    async with Tasks("bonded") as tasks:
        of_links = Conditions(**{"delay": 10.0, **conditions})  # type: ignore[arg-type]
        push = BondedPush(tasks, clock, of_links, *addresses or ADDRESSES, latency=latency)
        await push.connect()
        yield push
        for client in tuple(push.clients.values()):
            client.close("over")


def play(push: BondedPush, seconds: float) -> None:
    """Pushes a film, and lets all of it arrive."""
    assert push.connection is not None
    push.run(seconds, film_of(push.connection, seconds, push.clock.now))
    push.run(1.5)


async def test_nothing_is_lost_in_ten_minutes_while_one_of_three_links_dies(clock: Clock) -> None:
    """One link is down for five seconds of each twenty; all lose 1 % and bring packets out of order."""
    dying = {"kill": 20.0, "down": 5.0, "only": ADDRESSES[1]}
    async with pushing(clock, jitter=10, loss=1, seed=4, **dying) as push:
        play(push, 600)
    assert lost_pictures(push.received.payloads, 600) == 0
    assert push.forth.lost > 0.01 * push.forth.received, "the links lose"


async def test_reordering_and_duplicates_between_links_lose_nothing(clock: Clock) -> None:
    async with pushing(clock, jitter=60, reorder=5, duplicate=5, loss=2, burst=3) as push:
        play(push, 60)
    assert lost_pictures(push.received.payloads, 60) == 0


async def test_equal_links_have_equal_shares_and_their_order_is_no_loss(clock: Clock) -> None:
    async with pushing(clock, jitter=5) as push:
        play(push, 10)
        state = push.statistics
        assert {path.peer for path in state.links if path.state == "up" and path.share_percent > 20} == set(ADDRESSES)
        assert state.loss_percent < 1


async def test_a_dead_link_is_down_while_the_push_goes_on_and_comes_back_with_its_share(clock: Clock) -> None:
    async with pushing(clock) as push:
        play(push, 10)
        push.conditions.kill = push.conditions.down = 1  # always
        push.conditions.only = ADDRESSES[2]
        play(push, PATH_SECONDS + 1)
        states = {path.peer: (path.state == "up", path.share_percent) for path in push.statistics.links}
        assert states[ADDRESSES[2]] == (False, 0)
        assert all(is_up for address, (is_up, _) in states.items() if address != ADDRESSES[2])
        push.conditions.kill = 0
        play(push, 10)
        assert [path.state for path in push.statistics.links] == ["up"] * 3
        assert min(path.share_percent for path in push.statistics.links) > 20
        assert not push.received.reason


async def test_the_last_packets_arrive_although_the_link_with_the_most_room_dies(clock: Clock) -> None:
    """No later packet shows the listener what is missing, so only the caller knows that it has to repeat them."""
    last = [bytes([number]) * 188 for number in range(7)]
    async with pushing(clock, latency=2.0) as push:
        play(push, 3)
        for address, link in push.bonding.links.items():  # one has just come back; the others lost much
            link.window = 20.0 if address == ADDRESSES[1] else 1.0
        push.conditions.kill = push.conditions.down = 1  # always
        push.conditions.only = ADDRESSES[1]
        assert push.connection is not None
        push.connection.push(last, clock.now)
        push.run(2.5)
        assert push.received.payloads[-len(last) :] == last


@pytest.mark.parametrize("answer", [ControlType.KEEPALIVE, ControlType.NAK, ControlType.ACK])
def test_a_packet_is_repeated_on_another_link(answer: ControlType) -> None:
    """After no answer, after a request for it, and after an acknowledgement of all packets before it."""
    bonding, packet = SrtlaBonding(*ADDRESSES), bytes(200)  # of number 0
    for address, link in bonding.links.items():
        link.is_up, link.window = True, 20.0 if address == ADDRESSES[1] else 1.0
    for now in (1000.0, 1000.1, 1000.2):
        bonding.forward(packet, now)
        bonding.receive(ADDRESSES[0], control(answer, 0, 0, bytes(4)), now)
    assert len({address for address, _ in bonding.to_links}) == len(ADDRESSES)


async def test_one_link_alone_carries_a_push(clock: Clock) -> None:
    async with pushing(clock, ADDRESSES[0], loss=3) as push:
        play(push, 30)
        assert [(path.peer, path.share_percent) for path in push.statistics.links] == [(ADDRESSES[0], 100)]
    assert lost_pictures(push.received.payloads, 30) == 0


async def test_a_group_ends_when_all_its_links_are_silent(clock: Clock) -> None:
    async with pushing(clock) as push:
        play(push, 3)
        push.conditions.loss = 100
        push.run(GROUP_SECONDS + 2)
        assert push.received.reason
        assert not push.clients
        assert not list(push.server.srt.ticker)


async def test_an_encoder_that_restarts_finds_its_links_registered(clock: Clock) -> None:
    async with pushing(clock) as push:
        play(push, 3)
        clients, began = list(push.clients.values()), clock.now
        await push.connect_again()
        assert clock.now - began < 1
        play(push, GROUP_SECONDS + 2)
        assert list(push.clients.values()) == clients, "the group goes on with the new connection"


async def test_a_group_without_a_connection_ends(clock: Clock) -> None:
    async with pushing(clock) as push:
        play(push, 3)
        clients = set(push.clients.values())
        assert push.received.link is not None
        push.received.link.close("kicked")
        push.run(GROUP_SECONDS - 1)
        assert clients == set(push.clients.values())
        push.run(3)
        assert not clients & set(push.clients.values())


async def test_more_links_than_the_limit_do_not_join(clock: Clock) -> None:
    addresses = [f"192.0.2.{number}" for number in range(1, MAX_LINKS + 3)]
    async with pushing(clock, *addresses) as push:
        play(push, 5)
        assert len(push.statistics.links) == MAX_LINKS
    assert lost_pictures(push.received.payloads, 5) == 0


async def test_the_caller_is_told_the_end_on_its_links(clock: Clock) -> None:
    async with pushing(clock) as push:
        play(push, 2)
        assert push.received.link is not None and push.connection is not None
        push.received.link.close("kicked")
        push.run(1)
        assert push.connection.ended == "the peer has closed"


# ---- which links may join ----


def test_an_id_is_valid_while_its_group_lives(clock: Clock) -> None:
    server, address = BondingServer(Mock()), (ADDRESSES[0], 5000)
    register = server.answer(SrtlaType.REG1.to_bytes(2, "big") + bytes(256), address)
    assert register is not None
    first, again = (Client(each) for each in ADDRESSES[:2])
    server.session(cast(Any, first), address).receive((register,), (clock.now,))
    clock.now += 3 * 3600  # hours after the id was made

    assert server.opens(register, address)
    server.session(cast(Any, again), address).receive((register,), (clock.now,))

    assert first.sent == again.sent == [REG3]
    server.forget(register[2:])
    assert not server.opens(register, address)
    assert server.answer(register, address) == NO_GROUP


# ---- what goes on which link ----


ACK, NAK, KEEP_ALIVE = (control(kind, 1, 0) for kind in (ControlType.ACK, ControlType.NAK, ControlType.KEEPALIVE))


def group_of(*sinks: Client, credit: int) -> BondedGroup:
    """A group whose first link has brought the last packet. credit: bytes that each may get."""
    group = BondedGroup(Mock(), b"id", cast(Any, sinks[0]))
    for sink in sinks:
        assert group.join(cast(Any, sink))
    links = list(group.links.values())
    for link in links:
        link.credit = credit
    group.receive(links[0], (KEEP_ALIVE,), (0.0,))
    return group


def test_answers_go_on_all_links_that_are_up_and_other_packets_on_the_last_one(clock: Clock) -> None:
    last, other, silent = sinks = [Client(address) for address in ADDRESSES]
    group = group_of(*sinks, credit=1_000)
    list(group.links.values())[2].heard = clock.now - PATH_SECONDS
    group.send([ACK, KEEP_ALIVE, NAK])
    assert (last.sent, other.sent, silent.sent) == ([ACK, KEEP_ALIVE, NAK], [ACK, NAK], [])


def test_an_address_gets_no_more_bytes_than_came_from_it(clock: Clock) -> None:
    sink = Client(ADDRESSES[0])
    group = group_of(sink, credit=2 * len(ACK) + 1)
    assert group.send([ACK] * 5) == 2
    assert sink.sent == [ACK] * 2
