"""The figures of a connection on a simulated link: loss, latency, what was sent again and what came too late."""

import pytest

from gateway.protocols.srt.connection import SrtConnection
from tests.unit.protocols.srt.pair import Link, shake_hands


def _link(*, latency: float = 0.24, **link: float) -> Link:
    caller, receiver, _ = shake_hands(latency=latency)
    assert caller.agreement is not None
    return Link(SrtConnection(caller.agreement, 100.0), receiver, **link)  # type: ignore[arg-type]


def _send(link: Link, seconds: float) -> None:
    """Sends 500 packets a second."""
    link.run(seconds, lambda now: link.sender.push([bytes(1316)] * 5, now))


@pytest.mark.parametrize("loss", [0.02, 0.05, 0.2])
def test_the_loss_is_the_share_of_packets_that_did_not_come_the_first_time(loss: float) -> None:
    link = _link(loss=loss, delay=0.02, latency=0.6)
    _send(link, 10)
    state = link.receiver.statistics()
    assert state.loss_percent == pytest.approx(100 * loss, rel=0.25)
    assert state.retransmitted >= 5_000 * loss * 0.8
    assert state.dropped < 10
    assert state.latency_ms == 600
    assert 500 < state.buffer_ms < 700


def test_the_loss_is_forgotten_after_five_seconds_also_on_an_idle_link() -> None:
    link = _link(loss=0.1)
    _send(link, 6)
    assert link.receiver.statistics().loss_percent > 5
    link.loss = 0
    _send(link, 7)
    assert link.receiver.statistics().loss_percent == 0
    link.loss = 0.1
    _send(link, 2)
    assert link.receiver.statistics().loss_percent > 2
    link.loss = 0
    link.run(7)
    assert link.receiver.statistics().loss_percent == 0


def test_a_new_connection_has_no_loss_and_no_round_trip() -> None:
    state = _link().receiver.statistics()
    assert (state.loss_percent, state.rtt_ms, state.buffer_ms) == (0, None, 0)


def test_reordered_packets_and_duplicates_are_no_loss() -> None:
    link = _link(jitter=0.03, delay=0.01, duplicates=0.2)
    _send(link, 12)
    state = link.receiver.statistics()
    assert state.loss_percent < 0.5
    assert state.dropped == 0
    assert link.receiver.received.duplicates > 500


def test_packets_that_come_too_late_are_dropped_and_lost() -> None:
    link = _link(latency=0.05, loss=0.1, delay=0.05)
    _send(link, 8)
    state = link.receiver.statistics()
    assert state.dropped == pytest.approx(400, rel=0.2), "no packet comes a second time soon enough"
    assert state.loss_percent == pytest.approx(10, rel=0.25)


def test_the_counter_of_lost_packets_never_falls() -> None:
    link, before = _link(jitter=0.03, loss=0.05), 0
    for _ in range(100):
        _send(link, 0.05)
        lost = link.receiver.received.lost
        assert lost >= before
        before = lost
