"""Connections over a simulated link: loss, jitter, duplicates, latency, encryption and the ends."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.protocols.srt.connection import IDLE_SECONDS, TICK_SECONDS, Agreement
from gateway.protocols.srt.keys import SendKeys
from gateway.protocols.srt.packets import HEAD, MASK31, WHOLE, ControlType, control
from gateway.protocols.srt.receive_buffer import WINDOW
from tests.support.examples import examples
from tests.unit.protocols.srt.film import PICTURES_PER_SECOND, film_of, lost_pictures
from tests.unit.protocols.srt.pair import Link, connect


def _send(link: Link, count: int, every: int = 5) -> list[bytes]:
    """Sends `every` payloads a tick, `count` in all, and lets the rest arrive."""
    payloads = [n.to_bytes(4, "big") * 329 for n in range(count)]
    left = list(payloads)

    def push(now: float) -> None:
        burst = [left.pop(0) for _ in range(min(every, len(left)))]
        if burst:
            link.sender.push(burst, now)

    link.run(count / every * 0.01 + 2 * link.receiver.received.latency + 1, push)
    return payloads


@pytest.mark.parametrize("passphrase", ["", "a passphrase"])
def test_all_payloads_arrive_in_order_at_their_time(passphrase: str) -> None:
    link = connect(passphrase=passphrase)

    payloads = _send(link, 500)

    assert [payload for _, payload in link.delivered] == payloads
    # The first one was pushed at 100.01. The time base is that of the conclusion, which came without delay.
    assert link.delivered[0][0] == pytest.approx(100.01 + 0.12, abs=0.011)
    assert link.delivered[-1][0] == pytest.approx(101.0 + 0.12, abs=0.011)


@pytest.mark.parametrize(("loss", "latency", "most_lost"), [(1, 0.24, 0), (10, 0.36, 0), (20, 0.6, 5)])
def test_lost_packets_come_again_in_time(loss: float, latency: float, most_lost: int) -> None:
    link = connect(latency=latency, loss=loss, delay=20, jitter=2, seed=7)

    payloads = _send(link, 5_000)

    arrived = [payload for _, payload in link.delivered]
    assert len(payloads) - len(arrived) <= most_lost
    came = set(arrived)
    assert arrived == [payload for payload in payloads if payload in came]
    assert link.receiver.received.lost > 40 * loss
    assert link.receiver.received.dropped == len(payloads) - len(arrived)
    assert link.sender.sent.is_empty


@pytest.mark.parametrize(
    ("loss", "round_trips", "most_lost"), [(10, 6, 0), pytest.param(20, 10, 0.1, marks=pytest.mark.nightly)]
)
def test_six_and_ten_round_trips_are_enough_for_ten_minutes(loss: float, round_trips: int, most_lost: float) -> None:
    """Ten minutes of pictures: of 10 % loss none is lost, of 20 % less than 0.1 %."""
    seconds = 600
    link = connect(latency=round_trips * 0.04, loss=loss, delay=20, jitter=2, seed=5)

    link.run(seconds + 1, film_of(link.sender, seconds))

    lost = lost_pictures([payload for _, payload in link.delivered], seconds)
    assert 100 * lost / (seconds * PICTURES_PER_SECOND) <= most_lost
    assert link.sender.sent.retransmitted > loss / 100 * seconds * 20, "the link loses"
    assert link.sender.sent.is_empty


def test_a_packet_that_is_lost_again_and_again_is_sent_at_nearly_each_request() -> None:
    link = connect(latency=0.4)
    _send(link, 100)
    number, sent = link.sender.agreement.own_first + 100, link.sender.sent
    link.sender.push([b"lost"], link.now)
    link.sender.out = []
    again = []
    for at in range(0, 140, 10):  # milliseconds
        now = link.now + 0.001 * at
        sent.lost([(number, number)], now, 0.045)
        if sent.take(now, int((now - 100) * 1e6)):
            again.append(at)

    # Twice, its answer may still come. Then the time runs out.
    assert again == [0, 50, 70, 90, 110, 130]


def test_the_first_packet_is_requested_often_before_the_round_trip_is_known() -> None:
    """An answer that is lost must not cost the start of a stream."""
    link = connect(latency=0.24)
    link.sender.push([b"first", b"second"], link.now)
    link.receiver.receive(link.sender.out[1:], (link.now,))
    asked = []
    for turn in range(1, 21):  # 200 ms
        asked += link.receiver.out
        link.receiver.out.clear()
        link.receiver.tick(link.now + turn * TICK_SECONDS)

    lists = [datagram for datagram in asked if datagram[:2] == bytes((0x80, ControlType.NAK))]
    assert len(lists) == 10


def test_a_lost_packet_is_mostly_sent_again_once() -> None:
    link = connect(latency=0.24, loss=5, delay=20, jitter=2, seed=1)

    _send(link, 10_000, every=2)

    assert link.sender.sent.retransmitted < 1.25 * link.receiver.received.lost


def test_reordered_packets_are_not_requested_for_long() -> None:
    link = connect(jitter=30, delay=10)

    payloads = _send(link, 3_000)

    assert [payload for _, payload in link.delivered] == payloads
    # In the beginning the tolerance is unknown; later few packets are requested too early.
    assert link.sender.sent.retransmitted < 600
    assert link.receiver.received.tolerance > 0.01


def test_duplicates_are_ignored() -> None:
    link = connect(duplicate=50)

    payloads = _send(link, 500)

    assert [payload for _, payload in link.delivered] == payloads
    assert link.receiver.received.duplicates > 100


def test_packets_that_come_too_late_are_left_out() -> None:
    link = connect(latency=0.05, loss=30, delay=100, seed=3)

    payloads = _send(link, 500)

    arrived = [payload for _, payload in link.delivered]
    assert 200 < len(arrived) < 500
    came = set(arrived)
    assert arrived == [payload for payload in payloads if payload in came]
    assert link.receiver.received.dropped == 500 - len(arrived)


def test_a_push_goes_on_after_an_outage_longer_than_the_window() -> None:
    """libsrt's sender drops what is too late, so its numbers go on during an outage."""
    link = connect()
    _send(link, 100)
    link.conditions.loss = 100
    link.run(IDLE_SECONDS - 1)
    link.conditions.loss = 0
    link.sender.sent._first = link.sender.sent._next = link.sender.sent._next + 8_400

    payloads = _send(link, 1_000)

    assert [payload for _, payload in link.delivered[100:]] == payloads
    assert link.receiver.received.dropped == 8_400
    assert link.sender.sent.is_empty, "the acknowledgements are for the new numbers"


def test_one_stray_number_moves_nothing() -> None:
    link = connect()
    _send(link, 100)
    stray = HEAD.pack(link.sender.sent.next + WINDOW & MASK31, WHOLE, 0, 0)
    link.receiver.receive([stray, stray], [link.now] * 2)

    payloads = _send(link, 100)

    assert [payload for _, payload in link.delivered[100:]] == payloads
    assert (link.receiver.received.refused, link.receiver.received.dropped) == (2, 0)


def test_the_window_does_not_move_while_packets_wait() -> None:
    link = connect()
    link.sender.push([b"waits"], link.now)
    first, second = (HEAD.pack(link.sender.sent.next + n & MASK31, WHOLE, 0, 0) for n in (WINDOW, WINDOW + 1))
    link.receiver.receive([*link.sender.out, first, second], [link.now] * 3)

    link.run(1)

    assert [payload for _, payload in link.delivered] == [b"waits"]
    assert link.receiver.received.refused == 2


def test_numbers_and_time_stamps_wrap() -> None:
    link = connect()
    stamp = 0xFFFF_FFFF - 500_000  # the time stamps wrap after half a second, and the numbers after 200 packets
    began = 100.0 - stamp * 1e-6
    for end in (link.sender, link.receiver):
        old, number = end.agreement, MASK31 - 200
        end.__init__(  # type: ignore[misc]
            Agreement(old.socket, old.peer_socket, number, number, old.window, began, began, stamp, 0.24, 0.24), 100.0
        )
    link.conditions.loss = 2

    payloads = _send(link, 1_000)

    assert [payload for _, payload in link.delivered] == payloads


def test_the_round_trip_and_the_drift_are_measured() -> None:
    link = connect(delay=40)
    _send(link, 5_000)
    # The round trips are counted in ticks of 10 ms.
    assert link.receiver.round_trip.seconds == pytest.approx(0.08, abs=0.02)
    assert link.receiver.statistics().rtt_ms == pytest.approx(80, abs=20)


def test_a_sender_without_answers_ends() -> None:
    link = connect(loss=100)
    _send(link, 5)
    link.run(IDLE_SECONDS + 0.1)
    assert link.receiver.ended == link.sender.ended == "nothing received for too long"


def test_a_shutdown_ends_the_peer() -> None:
    link = connect()
    _send(link, 10)
    link.sender.close(link.now, "done")
    link.run(0.1)
    assert link.receiver.ended == "the peer has closed"


def test_keep_alives_keep_an_idle_connection() -> None:
    link = connect()
    link.run(20)
    assert not link.receiver.ended
    assert not link.sender.ended


def test_a_slow_link_loses_at_the_sender_and_nothing_piles_up() -> None:
    link = connect(latency=0.2)
    link.sender.agreement = link.sender.agreement
    link.conditions.loss = 100  # no acknowledgement comes
    for _ in range(1_000):
        link.now += 0.01
        link.sender.push([bytes(1316)] * 10, link.now)
        link.sender.out.clear()
    assert link.sender.sent.dropped > 8_000
    assert link.sender.sent.unsent + 1_000 < 2_500


def test_a_key_is_renewed_without_loss() -> None:
    link = connect(passphrase="a passphrase", loss=2)
    keys = link.sender.agreement.send_keys
    assert isinstance(keys, SendKeys)
    keys.refresh = 4_500  # announced after 500 packets

    payloads = _send(link, 6_000)

    assert [payload for _, payload in link.delivered] == payloads
    assert not link.receiver.undecrypted
    assert keys.kind == 2


def test_plain_packets_of_a_peer_that_encrypts_are_not_delivered() -> None:
    link = connect(passphrase="a passphrase")
    link.sender.sent._encrypt = None
    _send(link, 20)
    assert not link.delivered
    assert link.receiver.undecrypted == 20


def test_a_peer_that_asks_for_everything_costs_little() -> None:
    link = connect()
    _send(link, 1_000, every=50)
    content = b"".join(word.to_bytes(4, "big") for _ in range(150) for word in (0x8000_0000, MASK31))
    request = control(ControlType.NAK, link.sender.agreement.socket, 0, content)
    for _ in range(100):
        link.sender.receive((request,), (link.now,))
        link.sender.tick(link.now)
    assert len(link.sender.out) < 100 * (64 + 64 + 2)


@settings(max_examples=examples(80, 200), deadline=None)
@given(st.lists(st.binary(max_size=120), max_size=20))
def test_no_datagram_raises(datagrams: list[bytes]) -> None:
    link = connect()
    _send(link, 20)
    for connection in (link.sender, link.receiver):
        connection.receive(datagrams or [b""], [link.now] * max(1, len(datagrams)))
        connection.tick(link.now)
        connection.due(link.now)


def test_a_burst_is_sent_in_steps() -> None:
    """A receiver of Debian takes about 180 packets into its UDP buffer."""
    link = connect()
    link.sender.push([bytes(1316)] * 500, link.now)
    assert len(link.sender.out) == 64
    sizes = []

    def note(now: float) -> None:
        sizes.append(len(link.sender.out))

    link.run(0.5, note)

    assert len(link.delivered) == 500
    assert max(sizes) <= 64
    assert link.delivered[-1][0] - link.delivered[0][0] == pytest.approx(0.07, abs=0.011), "its time stamps rise too"


def test_a_stream_faster_than_the_steps_is_never_more_than_a_second_late() -> None:
    link = connect(delay=0)
    for n in range(300):
        link.sender.push([bytes(1316)] * 90, 100 + n * 0.01)

    assert link.sender.sent.unsent <= 90 * 101


def test_a_peer_that_asks_for_everything_again_and_again_gets_few_answers() -> None:
    link = connect()
    link.sender.push([bytes(1316)] * 20, link.now)
    first = link.sender.agreement.own_first
    everything = struct.pack(">2I", 0x8000_0000 | first - 5_000 & MASK31, first + 5_000 & MASK31) * 100
    request = control(ControlType.NAK, 1, 0, everything)
    link.sender.out = []

    link.sender.receive([request] * 500, [link.now] * 500)

    assert len(link.sender.out) <= 16 * 8
    link.sender.out = []
    link.sender.tick(link.now + 0.01)
    assert link.sender.sent.retransmitted == 20
