"""Reception: extends the sequence numbers of one source, and counts its packets for receiver reports."""

from collections.abc import Sequence
from typing import Final

from gateway.protocols.rtp.packets import RtpPacket
from gateway.protocols.rtp.rtcp import ReportBlock, SenderReport, short_time

# RFC 3550 §A.1. Repaired packets may come late, so one packet far behind does not yet mean new numbers.
_MAX_DROPOUT: Final = 3_000
_MAX_MISORDER: Final = 100
_RESTARTED_BEHIND: Final = 32  # packets in order and far behind: the sender began with new numbers

_CYCLE: Final = 1 << 16
_HALF_CYCLE: Final = 1 << 15
_HALF: Final = 1 << 31
_MASK: Final = (1 << 32) - 1


class Reception:
    """The numbers, losses and jitter of one source (RFC 3550 §A.1, §A.3, §A.8). Repaired packets are not counted.

    If the sender begins with new numbers, the extended numbers continue at least one cycle higher.

    rate: ticks a second of the timestamps.
    """

    __slots__ = (
        "_base", "_behind", "_expected_before", "_highest", "_jitter", "_last_arrival", "_last_timestamp", "_rate",
        "_received", "_received_before", "_report", "_report_arrival", "_ssrc", "_suspect",
    )  # fmt: skip

    def __init__(self, ssrc: int, rate: int) -> None:
        self._ssrc = ssrc
        self._rate = rate
        self._base = self._highest = -1  # extended numbers; -1: none has come
        self._suspect = -1  # the next number after a jump that is not confirmed yet
        self._behind = 0  # confirmed packets far behind, in a row
        self._received = self._received_before = self._expected_before = 0
        self._jitter = 0.0
        self._last_arrival, self._last_timestamp = 0.0, 0
        self._report, self._report_arrival = 0, 0.0  # short NTP time of the last sender report (0: none), its arrival

    def receive(self, sequence: int, timestamp: int, now: float) -> int:
        """Returns the extended number; -1 after a jump, until the next packet confirms it. Hot path."""
        highest = self._highest
        ahead = (sequence - highest) & 0xFFFF
        if highest < 0:
            # The first cycle is 1, so numbers before the first one are not negative.
            number = self._base = self._highest = _CYCLE + sequence
        elif 0 < ahead < _MAX_DROPOUT:
            number = self._highest = highest + ahead
            difference = (now - self._last_arrival) * self._rate - (
                ((timestamp - self._last_timestamp + _HALF) & _MASK) - _HALF
            )
            self._jitter += (abs(difference) - self._jitter) / 16
        else:
            number = self._number_after_jump(sequence, ahead)
            if number <= highest:
                self._received += number >= 0
                return number
        self._received += 1
        self._last_arrival, self._last_timestamp = now, timestamp
        return number

    @property
    def next(self) -> int:
        """The extended number after the highest one."""
        return self._highest + 1

    def receive_all(self, packets: Sequence[RtpPacket], arrivals: Sequence[float]) -> bool:
        """Takes packets that follow the highest one without a gap. Returns False if they do not. Hot path.

        arrivals: monotonic seconds of each.
        """
        first = self._highest + 1
        for number, packet in enumerate(packets, first):
            if (packet.sequence ^ number) & 0xFFFF or not first:
                return False
        jitter, rate, last, last_timestamp = self._jitter, self._rate, self._last_arrival, self._last_timestamp
        for packet, arrival in zip(packets, arrivals, strict=True):
            timestamp = packet.timestamp
            ticks = 0 if timestamp == last_timestamp else ((timestamp - last_timestamp + _HALF) & _MASK) - _HALF
            jitter += (abs((arrival - last) * rate - ticks) - jitter) / 16
            last, last_timestamp = arrival, timestamp
        self._jitter, self._last_arrival, self._last_timestamp = jitter, last, last_timestamp
        self._highest += len(packets)
        self._received += len(packets)
        return True

    def extend_repaired(self, sequence: int) -> int:
        """Returns the extended number of a repaired packet; -1 if it is ahead of all others, so not requested."""
        behind = (self._highest - sequence) & 0xFFFF
        return self._highest - behind if self._highest >= 0 and behind < _HALF_CYCLE else -1

    def take_sender_report(self, report: SenderReport, now: float) -> None:
        """Takes a report of the source. The next receiver report refers to it."""
        self._report, self._report_arrival = short_time(report.ntp), now

    def report(self, now: float) -> ReportBlock:
        """Returns the block of a receiver report, and begins a new interval."""
        expected = self._highest - self._base + 1 if self._highest >= 0 else 0
        lost = expected - self._received
        expected_now, received_now = expected - self._expected_before, self._received - self._received_before
        self._expected_before, self._received_before = expected, self._received
        lost_now = expected_now - received_now
        fraction = min(255, (lost_now << 8) // expected_now) if expected_now > 0 and lost_now > 0 else 0
        delay = round((now - self._report_arrival) * 65536) if self._report else 0
        lost, delay = max(-0x800000, min(0x7FFFFF, lost)), max(0, min(_MASK, delay))
        highest, jitter = max(0, self._highest - _CYCLE) & _MASK, min(_MASK, int(self._jitter))
        return ReportBlock(self._ssrc, fraction, lost, highest, jitter, self._report, delay)

    def _number_after_jump(self, sequence: int, ahead: int) -> int:
        """Returns the number of a packet that is not ahead, or far ahead; -1 for a jump without confirmation."""
        behind = -ahead & 0xFFFF
        confirmed = sequence == self._suspect
        if behind < _MAX_DROPOUT:
            if behind <= _MAX_MISORDER:
                return self._highest - behind
            self._behind = self._behind + 1 if confirmed else 0
            if self._behind < _RESTARTED_BEHIND:
                self._suspect = (sequence + 1) & 0xFFFF
                return self._highest - behind
        elif not confirmed:
            self._suspect = (sequence + 1) & 0xFFFF
            return -1
        self._suspect, self._behind = -1, 0
        self._base = self._highest = (self._highest | 0xFFFF) + 1 + _CYCLE + sequence
        self._received = self._received_before = self._expected_before = 0
        return self._highest
