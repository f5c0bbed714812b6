"""RtpBurst: its packets are those of its runs, and later packets follow them in order."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.live.sink import EndReason
from gateway.packaging.rtp.burst import RtpBurst
from gateway.packaging.rtp.viewer import PayloadTypes, RtpViewer
from tests.support.time_outs import at_most

# The time and the number of payloads of each picture. Payloads differ in content and size.
PICTURES = st.lists(st.tuples(st.integers(0, 0xFFFFFFFF), st.integers(1, 80)), min_size=1, max_size=6)


def frames_of(pictures: list[tuple[int, int]]) -> list[tuple[int, list[bytes]]]:
    return [
        (time, [bytes((picture, part)) * (1 + part % 10) for part in range(parts)])
        for picture, (time, parts) in enumerate(pictures)
    ]


class Sender:
    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def send(self, packets: Sequence[bytes]) -> None:
        self.sent += packets

    def send_rtcp(self, packet: bytes) -> None: ...


@given(PICTURES, st.integers(0, 0xFFFF))
def test_each_packet_is_found_by_its_number(pictures: list[tuple[int, int]], first: int) -> None:
    frames = frames_of(pictures)
    burst = RtpBurst(frames, 96, first)
    packets = [packet for run in burst.make_runs() for packet in run]
    assert [packet[12:] for packet in packets] == [payload for _, payloads in frames for payload in payloads]
    for number, packet in enumerate(packets):
        sequence = (first + number) & 0xFFFF
        assert int.from_bytes(packet[2:4], "big") == sequence
        assert burst.make_packet(sequence) == packet
    markers = [packet[1] >> 7 for packet in packets]
    assert sum(markers) == len(frames) and markers[-1]
    assert burst.make_packet((first - 1) & 0xFFFF) is None
    assert burst.make_packet((first + len(packets)) & 0xFFFF) is None


async def test_pictures_during_a_burst_follow_it() -> None:
    sender, ends = Sender(), list[EndReason]()
    viewer = RtpViewer(sender, PayloadTypes(96), ends.append)
    burst = RtpBurst([(n, [bytes((n,)) * 1000] * 30) for n in range(5)], 96, 0)
    viewer.start(burst, 0.0)
    assert viewer.is_starting and len(sender.sent) < 150
    viewer.send([(b"first",), (b"second",)])
    viewer.send([(b"third",)])
    async with asyncio.timeout(at_most(10)):
        while viewer.is_starting:
            await asyncio.sleep(0.001)
    expected = [packet for run in burst.make_runs() for packet in run]
    assert sender.sent == [*expected, b"first", b"second", b"third"]
    assert viewer.make_burst_packet(7) == expected[7] and viewer.make_burst_packet(150) is None
    viewer.close()
    assert viewer.make_burst_packet(7) is None


@pytest.mark.parametrize("closes", [True, False])
async def test_a_second_burst_replaces_the_first(closes: bool) -> None:
    sender, ends = Sender(), list[EndReason]()
    viewer = RtpViewer(sender, PayloadTypes(96), ends.append)
    viewer.start(RtpBurst([(1, [bytes(1000)] * 30)], 96, 0), 0.0)
    sender.sent.clear()
    if closes:
        viewer.close()
        viewer.send([(b"later",)])
        assert sender.sent == [b"later"]
        sender.sent.clear()
    viewer.start(RtpBurst([(2, [b"x"])], 96, 500), 0.0)
    assert [packet[12:] for packet in sender.sent] == [b"x"] and not viewer.is_starting
    viewer.close()
