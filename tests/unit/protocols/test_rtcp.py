"""RTCP: written packets are read back, and broken packets are refused."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocols.errors import RemoteProtocolError
from gateway.protocols.rtp import rtcp
from gateway.protocols.rtp.packets import parse_sender_report
from gateway.protocols.rtp.rtcp import Bye, Fir, Nack, Pli, ReceiverReport, ReportBlock, SenderReport, parse

WORDS = st.integers(0, (1 << 32) - 1)
BLOCKS = st.builds(
    ReportBlock, WORDS, st.integers(0, 255), st.integers(-(1 << 23), (1 << 23) - 1), WORDS, WORDS, WORDS, WORDS
)
CNAMES = st.text(st.characters(codec="ascii"), max_size=255)
REPORT = SenderReport(1, 2 << 32, 3, 4, 5, (ReportBlock(6, 7, -8, 9, 10, 11, 12),))


@given(WORDS, st.integers(0, (1 << 64) - 1), WORDS, WORDS, WORDS, st.lists(BLOCKS, max_size=rtcp.MAX_BLOCKS), CNAMES)
def test_a_sender_report_is_read_as_written(
    ssrc: int, ntp: int, timestamp: int, packets: int, octets: int, blocks: list[ReportBlock], cname: str
) -> None:
    report = SenderReport(ssrc, ntp, timestamp, packets, octets, tuple(blocks))
    assert parse(rtcp.sender_report(report, cname)) == [report]


@given(WORDS, st.lists(BLOCKS, max_size=rtcp.MAX_BLOCKS), CNAMES)
def test_a_receiver_report_is_read_as_written(ssrc: int, blocks: list[ReportBlock], cname: str) -> None:
    assert parse(rtcp.receiver_report(ssrc, blocks, cname)) == [ReceiverReport(ssrc, tuple(blocks))]


@given(WORDS, WORDS, st.integers(0, 65535), st.sets(st.integers(0, 30_000), min_size=1, max_size=200))
def test_a_nack_asks_for_the_same_packets_across_the_wrap(sender: int, media: int, first: int, ahead: set[int]) -> None:
    sequences = tuple((first + n) & 0xFFFF for n in sorted(ahead))
    assert parse(rtcp.nack(sender, media, sequences)) == [Nack(sender, media, sequences)]


def test_a_nack_puts_seventeen_neighbours_into_one_entry() -> None:
    assert len(rtcp.nack(1, 2, [(65530 + n) & 0xFFFF for n in range(17)])) == 16
    assert rtcp.nack(1, 2, [5, 6, 22])[12:] == bytes.fromhex("0005 0001 0016 0000")
    assert rtcp.nack(1, 2, [5, 6, 21])[12:] == bytes.fromhex("0005 8001")


def test_a_nack_lists_no_packet_twice() -> None:
    twice = rtcp.feedback(205, 1, 1, 2, bytes.fromhex("0005 0001 0006 0001"))
    assert parse(twice) == [Nack(1, 2, (5, 6, 7))]


def test_a_full_intra_request_and_a_goodbye_are_read() -> None:
    fir = rtcp.feedback(206, 4, 1, 0, struct.pack(">IB3xIB3x", 7, 200, 8, 0))
    assert parse(fir + rtcp.bye(9)) == [Fir(1, ((7, 200), (8, 0))), Bye((9,))]
    assert parse(rtcp.packet(203, 2, struct.pack(">II", 1, 2) + b"\x03end")) == [Bye((1, 2))]


def test_compound_and_reduced_size_are_accepted() -> None:
    assert parse(rtcp.pli(1, 2)) == [Pli(1, 2)]
    assert parse(rtcp.receiver_report(1, [], "c") + rtcp.pli(1, 2)) == [ReceiverReport(1, ()), Pli(1, 2)]


def test_packets_of_unused_kinds_are_left_out() -> None:
    bandwidth = rtcp.feedback(206, 15, 1, 0, b"REMB" + bytes(8))
    transport = rtcp.feedback(205, 15, 1, 2, bytes(12))
    application, extended = rtcp.packet(204, 0, bytes(8)), rtcp.packet(207, 0, bytes(4))
    assert parse(bandwidth + transport + application + extended + rtcp.pli(1, 2)) == [Pli(1, 2)]


def test_padding_is_no_part_of_a_packet() -> None:
    entry = rtcp.nack(1, 2, [5])
    padded = bytes((entry[0] | 0x20,)) + entry[1:3] + bytes((entry[3] + 2,)) + entry[4:] + bytes(7) + b"\x08"
    assert parse(padded) == [Nack(1, 2, (5,))]
    for count in (0, 3, 24):
        with pytest.raises(RemoteProtocolError):
            parse(padded[:-1] + bytes((count,)))


WHOLE = rtcp.sender_report(REPORT, "name") + rtcp.nack(1, 2, [5, 6]) + rtcp.pli(1, 2) + rtcp.bye(1)


def test_a_datagram_that_is_cut_is_refused_or_ends_between_packets() -> None:
    ends = {52, 68, 84, 96, len(WHOLE)}
    for size in range(len(WHOLE)):
        if size in ends:
            assert parse(WHOLE[:size])
        else:
            with pytest.raises(RemoteProtocolError):
                parse(WHOLE[:size])


@pytest.mark.parametrize("behind", [b"\0", b"\x80\xca\0\x01", b"\x40\xca\0\0", bytes(4)])
def test_bytes_behind_the_packets_are_refused(behind: bytes) -> None:
    assert len(parse(WHOLE)) == 4
    with pytest.raises(RemoteProtocolError):
        parse(WHOLE + behind)


@pytest.mark.parametrize(
    ("kind", "count", "body"),
    [(200, 0, 20), (200, 1, 44), (201, 1, 24), (201, 0, 0), (203, 3, 8), (205, 1, 8), (206, 1, 4), (206, 4, 12)],
)
def test_a_packet_too_short_for_its_kind_is_refused(kind: int, count: int, body: int) -> None:
    with pytest.raises(RemoteProtocolError):
        parse(rtcp.packet(kind, count, bytes(body)))


def test_packets_and_sequence_numbers_of_one_datagram_are_bounded() -> None:
    assert len(parse(rtcp.pli(1, 2) * rtcp.MAX_PACKETS)) == rtcp.MAX_PACKETS
    with pytest.raises(RemoteProtocolError):
        parse(rtcp.pli(1, 2) * (rtcp.MAX_PACKETS + 1))
    half = rtcp.nack(1, 2, range(rtcp.MAX_NACKED // 2))
    assert len(parse(half * 2)) == 2
    with pytest.raises(RemoteProtocolError):
        parse(half * 2 + rtcp.nack(1, 2, [1]))
    with pytest.raises(RemoteProtocolError):
        parse(rtcp.nack(1, 2, range(0, 60_000, 2)))


def test_the_round_trip_is_the_time_without_the_delay_at_the_receiver() -> None:
    sent, wall = 1_700_000_000.25, 1_700_000_000.75
    last = rtcp.short_time(rtcp.ntp_time(sent))

    def block(last: int, delay: float) -> ReportBlock:
        return ReportBlock(1, 0, 0, 0, 0, last, int(delay * 65536))

    assert rtcp.round_trip(block(last, 0.42), wall) == pytest.approx(0.08, abs=0.001)
    assert rtcp.round_trip(block(0, 0), wall) is None
    assert rtcp.round_trip(block(last, 0.51), wall) == 0


def test_ntp_time_counts_from_1900() -> None:
    assert rtcp.ntp_time(0.5) == 2_208_988_800 << 32 | 1 << 31
    report = SenderReport(1, rtcp.ntp_time(1_700_000_000.0), 77, 0, 0)
    assert parse_sender_report(rtcp.sender_report(report, "c")) == (1_700_000_000 + 2_208_988_800, 77)
