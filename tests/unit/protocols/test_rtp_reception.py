"""Reception: the values of receiver reports (RFC 3550)."""

import pytest

from gateway.protocols.rtp.reception import Reception
from gateway.protocols.rtp.rtcp import SenderReport


def test_losses_are_counted_in_all_and_since_the_last_report() -> None:
    reception = Reception(5, 8_000)
    for n in range(20):
        if n not in (3, 7, 8, 12, 17):
            reception.receive((65_530 + n) & 0xFFFF, 160 * n, 0.02 * n)
    first = reception.report(1.0)
    assert (first.ssrc, first.fraction_lost, first.lost, first.highest) == (5, (5 << 8) // 20, 5, 65_530 + 19)
    for n in range(20, 40):
        reception.receive((65_530 + n) & 0xFFFF, 160 * n, 0.02 * n)
    second = reception.report(2.0)
    assert (second.fraction_lost, second.lost, second.highest) == (0, 5, 65_530 + 39)
    assert second.jitter == 0


def test_repeated_packets_make_the_loss_negative() -> None:
    reception = Reception(5, 8_000)
    for n in (1, 2, 2, 2, 3):
        reception.receive(n, 0, 0.0)
    report = reception.report(0.0)
    assert (report.lost, report.fraction_lost) == (-2, 0)


def test_jitter_is_the_smoothed_difference_of_transit_times() -> None:
    reception = Reception(5, 90_000)
    assert reception.report(0.0).highest == 0
    jitter, last = 0.0, None
    for n, delay in enumerate([0.0, 0.01, 0.0, 0.03, 0.0, 0.005]):
        reception.receive(n, (0xFFFFFFF0 + 3_000 * n) & 0xFFFFFFFF, n / 30 + delay)
        if last is not None:
            jitter += (abs(delay - last) * 90_000 - jitter) / 16
        last = delay
    assert reception.report(1.0).jitter == int(jitter + 1e-6)
    assert reception._jitter == pytest.approx(jitter)


def test_a_report_confirms_the_last_sender_report() -> None:
    reception = Reception(5, 90_000)
    assert (reception.report(1.0).last_report, reception.report(1.0).delay) == (0, 0)
    reception.take_sender_report(SenderReport(5, 0x1234_5678_9ABC_DEF0, 0, 0, 0), 2.0)
    report = reception.report(2.5)
    assert (report.last_report, report.delay) == (0x5678_9ABC, 32_768)


def test_numbers_of_repaired_packets_are_behind_the_highest() -> None:
    reception = Reception(5, 90_000)
    assert reception.extend_repaired(5) == -1
    number = reception.receive(3, 0, 0.0)
    assert reception.extend_repaired(65_535) == number - 4
    assert reception.extend_repaired(3) == number
    assert reception.extend_repaired(4) == -1
