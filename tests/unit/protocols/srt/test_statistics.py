"""The figures of a connection on a simulated link: loss, latency, what was sent again and what came too late."""

import pytest

from tests.unit.protocols.srt.pair import Link, connect


def _send(link: Link, seconds: float) -> None:
    """Sends 500 packets a second."""
    link.run(seconds, lambda now: link.sender.push([bytes(1316)] * 5, now))


@pytest.mark.parametrize("loss", [2, 5, 20])
def test_the_loss_is_the_share_of_packets_that_did_not_come_the_first_time(loss: float) -> None:
    link = connect(loss=loss, delay=20, latency=0.6)
    _send(link, 10)
    state = link.receiver.statistics()
    assert state.loss_percent == pytest.approx(loss, rel=0.25)
    assert state.retransmitted >= 50 * loss * 0.8
    assert state.dropped < 10
    assert state.latency_ms == 600
    assert 500 < state.buffer_ms < 700


def test_the_loss_is_forgotten_after_five_seconds_also_on_an_idle_link() -> None:
    link = connect(latency=0.24, loss=10)
    _send(link, 6)
    assert link.receiver.statistics().loss_percent > 5
    link.conditions.loss = 0
    _send(link, 7)
    assert link.receiver.statistics().loss_percent == 0
    link.conditions.loss = 10
    _send(link, 2)
    assert link.receiver.statistics().loss_percent > 2
    link.conditions.loss = 0
    link.run(7)
    assert link.receiver.statistics().loss_percent == 0


def test_a_new_connection_has_no_loss_and_no_round_trip() -> None:
    state = connect(latency=0.24).receiver.statistics()
    assert (state.loss_percent, state.rtt_ms, state.buffer_ms) == (0, None, 0)


def test_reordered_packets_and_duplicates_are_no_loss() -> None:
    link = connect(latency=0.24, jitter=30, delay=10, duplicate=20)
    _send(link, 12)
    state = link.receiver.statistics()
    assert state.loss_percent < 0.5
    assert state.dropped == 0
    assert link.receiver.received.duplicates > 500


def test_packets_that_come_too_late_are_dropped_and_lost() -> None:
    link = connect(latency=0.05, loss=10, delay=50)
    _send(link, 8)
    state = link.receiver.statistics()
    assert state.dropped == pytest.approx(400, rel=0.2), "no packet comes a second time soon enough"
    assert state.loss_percent == pytest.approx(10, rel=0.25)


def test_the_counter_of_lost_packets_never_falls() -> None:
    link, before = connect(latency=0.24, jitter=30, loss=5), 0
    for _ in range(100):
        _send(link, 0.05)
        lost = link.receiver.received.lost
        assert lost >= before
        before = lost
