"""Outgoing RTP packets: headers, numbers, runs of equal length, the ring that answers NACKs, retransmission."""

import itertools
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocols.rtp.packets import RtpPacket, parse_packet
from gateway.protocols.rtp.retransmission import unwrap, wrap
from gateway.protocols.rtp.rtcp import ntp_time
from gateway.protocols.rtp.sender import SRTP_BYTES, group_runs, rtp_packet
from gateway.protocols.rtp.sent_packets import SentPackets
from tests.support.rtp_sender import RtpSender


def test_a_packet_has_its_header() -> None:
    packet = rtp_packet(96, True, 65535, 1 << 31, 0xDEADBEEF, b"data")
    assert packet == bytes.fromhex("80e0ffff80000000deadbeef") + b"data"
    assert parse_packet(packet) == RtpPacket(96, True, 65535, 1 << 31, b"data")


def test_a_sender_numbers_packets_and_marks_the_last_of_a_picture() -> None:
    sender = RtpSender(7, 96, 65534)
    first = [parse_packet(p) for p in sender.packets([b"ab", b"cd", b"e"], 90, marker=True)]
    assert first == [
        RtpPacket(96, False, 65534, 90, b"ab"),
        RtpPacket(96, False, 65535, 90, b"cd"),
        RtpPacket(96, True, 0, 90, b"e"),
    ]
    assert sender.packets([], 91, marker=True) == []
    assert [parse_packet(p) for p in sender.packets([b"f"], 92, marker=False)] == [RtpPacket(96, False, 1, 92, b"f")]


def test_a_sender_report_counts_packets_and_octets_without_headers() -> None:
    sender = RtpSender(7, 96, 0)
    sender.packets([b"ab", b"cd", b"e"], 90, marker=True)
    sender.packets([b"f"], 180, marker=True)
    report = sender.report(1_700_000_000.5, 12345)
    assert (report.ssrc, report.ntp, report.timestamp) == (7, ntp_time(1_700_000_000.5), 12345)
    assert (report.packets, report.octets, report.blocks) == (4, 6, ())


@given(st.lists(st.integers(13, 1200), max_size=40) | st.lists(st.sampled_from([1100, 1200]), max_size=200))
def test_packets_are_grouped_into_runs_for_segmentation_offload(sizes: list[int]) -> None:
    packets = [bytes((n & 0xFF,)) * size for n, size in enumerate(sizes)]
    runs = group_runs(packets)
    assert [packet for run in runs for packet in run] == packets
    for run in runs:
        size = len(run[0])
        assert all(len(packet) == size for packet in run[:-1])
        assert len(run[-1]) <= size
        assert len(run) <= 64
        assert sum(len(packet) + SRTP_BYTES for packet in run) <= 65_507
    for run, following in itertools.pairwise(runs):  # none could have been longer
        size, full = len(run[0]), len(run) == min(64, 65_000 // (len(run[0]) + SRTP_BYTES))
        assert full or len(run[-1]) < size or len(following[0]) > size


def test_a_packet_above_every_limit_is_a_run_of_its_own() -> None:
    assert group_runs([bytes(65_400)] * 2) == [(bytes(65_400),)] * 2


def unit(first: int, count: int, size: int = 100) -> list[bytes]:
    return [struct.pack(">BBH", 0x80, 96, (first + n) & 0xFFFF).ljust(size, b"\0") for n in range(count)]


def test_sent_packets_are_found_by_sequence_across_the_wrap() -> None:
    sent = SentPackets()
    packets = unit(65534, 4)
    sent.add(packets, 1.0)
    assert [sent.get(n) for n in (65534, 65535, 0, 1)] == packets
    assert sent.get(2) is None
    assert (len(sent), sent.size) == (4, 400)


@pytest.mark.parametrize(
    ("bounds", "kept"), [((10, 1 << 20, 9.0), 9), ((1_000, 700, 9.0), 6), ((1_000, 1 << 20, 0.25), 9)]
)
def test_the_oldest_units_are_removed_at_each_limit(bounds: tuple[int, int, float], kept: int) -> None:
    sent = SentPackets(*bounds)
    for n in range(10):
        sent.add(unit(3 * n, 3), n * 0.125)
    assert len(sent) == kept
    assert sent.size == kept * 100
    assert sent.get(30 - kept - 1) is None
    assert all(sent.get(n) for n in range(30 - kept, 30))


def test_the_newest_unit_stays_at_any_size() -> None:
    sent = SentPackets(10, 1_000, 1.0)
    sent.add(unit(0, 5), 0.0)
    sent.add(unit(5, 100), 0.1)
    assert (len(sent), sent.size) == (100, 10_000)
    sent.add(unit(105, 1), 0.2)
    assert (len(sent), sent.size) == (1, 100)


def test_packets_are_kept_when_their_numbers_wrap() -> None:
    sent = SentPackets(32_768, 1 << 30, 1e9)
    for n in range(0, 140_000, 1_000):
        sent.add(unit(n, 1_000, 12), float(n))
    assert len(sent) == 32_000
    assert all(sent.get((140_000 - n) & 0xFFFF) for n in range(1, 32_001))


@given(
    st.integers(0, 127), st.booleans(), st.integers(0, 65535), st.integers(0, (1 << 32) - 1),
    st.binary(min_size=1, max_size=100), st.integers(0, 15), st.none() | st.integers(0, 5), st.integers(0, 8),
)  # fmt: skip
def test_a_retransmitted_packet_is_restored(
    kind: int, marker: bool, sequence: int, timestamp: int, payload: bytes, sources: int, words: int | None, pad: int
) -> None:
    first = 0x80 | sources | (0x10 if words is not None else 0) | (0x20 if pad else 0)
    extension = b"" if words is None else struct.pack(">HH", 0xBEDE, words) + b"\x55" * 4 * words
    padding = bytes(pad - 1) + bytes((pad,)) if pad else b""
    packet = struct.pack(">BBHII", first, marker << 7 | kind, sequence, timestamp, 42) + b"\xaa" * 4 * sources
    packet += extension + payload + padding
    again = wrap(packet, 97, 43, 7)
    assert len(again) == len(packet) + 2
    read = parse_packet(again)
    assert read == RtpPacket(97, marker, 7, timestamp, sequence.to_bytes(2, "big") + payload)
    assert again[8:12] == (43).to_bytes(4, "big")
    assert unwrap(again, kind, 42) == packet


def test_a_retransmission_without_a_packet_is_ignored() -> None:
    again = wrap(rtp_packet(96, False, 5, 6, 7, b"x"), 97, 8, 9)
    assert unwrap(again, 96, 7) is not None
    assert unwrap(again[:-1], 96, 7) is None  # only the original number
    for size in range(len(again) - 1):
        assert unwrap(again[:size], 96, 7) is None
    assert unwrap(b"\x40" + again[1:], 96, 7) is None
    padded = struct.pack(">BBHII", 0xA0, 97, 1, 2, 8) + bytes(223) + b"\xe0"  # a probe: only padding
    assert unwrap(padded, 96, 7) is None
    assert unwrap(struct.pack(">BBHII", 0x90, 97, 1, 2, 8) + b"\xbe\xde\0\x09abcdef", 96, 7) is None
