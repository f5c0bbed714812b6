"""RTP: packets, their order and times, and the units in them."""

import struct

import pytest

from gateway.media import nal
from gateway.media.errors import InvalidData
from gateway.protocols.rtp.depacketizers import AacDepacketizer, NalDepacketizer
from gateway.protocols.rtp.packets import (
    PacketOrder,
    RtpClock,
    RtpPacket,
    header_extension,
    parse_packet,
    parse_sender_report,
)


def packet(payload: bytes, *, marker: bool = False, sequence: int = 0, timestamp: int = 0) -> RtpPacket:
    return RtpPacket(96, marker, sequence, timestamp, payload)


def test_a_header_with_sources_extension_and_padding_is_read() -> None:
    head = struct.pack(">BBHII", 0xB2, 0xE0, 7, 9, 1) + bytes(8) + b"\xbe\xde\x00\x01" + bytes(4)
    assert parse_packet(head + b"data" + b"\0\0\3") == RtpPacket(96, True, 7, 9, b"data")
    assert parse_packet(head) is None
    assert parse_packet(b"\x40" + bytes(20)) is None
    assert parse_packet(head + b"\xff") is None  # more padding than there is


def test_a_packet_of_padding_is_returned_where_it_is_wanted() -> None:
    padded = struct.pack(">BBHII", 0xA0, 96, 7, 9, 1) + bytes(254) + b"\xff"
    assert parse_packet(padded) is None
    assert parse_packet(padded, empty=True) == RtpPacket(96, False, 7, 9, b"")
    assert parse_packet(struct.pack(">BBHII", 0x80, 96, 7, 9, 1), empty=True) == RtpPacket(96, False, 7, 9, b"")
    assert parse_packet(padded[:100] + b"\xff", empty=True) is None


def extended(profile: int, data: bytes) -> bytes:
    data += bytes(-len(data) % 4)
    return struct.pack(">BBHIIHH", 0x90, 96, 7, 9, 1, profile, len(data) // 4) + data + b"payload"


def test_header_extensions_are_found_in_both_forms() -> None:
    short = extended(0xBEDE, b"\x10a\0\0\x31bc")
    assert [header_extension(short, n) for n in (1, 3, 2)] == [b"a", b"bc", None]
    assert parse_packet(short) == RtpPacket(96, False, 7, 9, b"payload")
    long = extended(0x1000, b"\x01\0\0\x10\x02bc\x05\x01d")
    assert [header_extension(long, n) for n in (1, 16, 5, 2)] == [b"", b"bc", b"d", None]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        struct.pack(">BBHII", 0x80, 96, 7, 9, 1) + b"payload",  # without extensions
        extended(0xBEDE, b"\xf0a\x10b"),  # 15 ends the extensions
        extended(0xBEDE, b"\x03aaaa\x10b"),  # so does a length of padding
        extended(0xBEDE, b"\x1fa"),  # longer than there is
        extended(0x1000, b"\x05\x01d\x01\x09"),
        extended(0x1000, b"\x05\x01d\x01"),
        extended(0xABCD, b"\x10a"),  # another profile
        extended(0xBEDE, b"\x10a")[:15],
        extended(0xBEDE, b"\x10a")[:18],
    ],
)
def test_an_extension_that_is_not_there_is_not_found(data: bytes) -> None:
    assert header_extension(data, 1) is None


def test_a_sender_report_is_found_behind_another_packet() -> None:
    other = struct.pack(">BBHI", 0x80, 202, 1, 5)
    report = struct.pack(">BBHIIIIII", 0x80, 200, 6, 1, 100, 1 << 31, 1234, 0, 0)
    assert parse_sender_report(other + report) == (100.5, 1234)
    assert parse_sender_report(other) is None
    assert parse_sender_report(b"\0") is None


def test_packets_are_sorted_and_a_missing_one_is_skipped_in_the_end() -> None:
    order = PacketOrder()

    def push(number: int) -> list[int]:
        return [p.sequence for p in order.push(packet(b"x", sequence=number & 0xFFFF))]

    assert push(65534) == [65534]
    assert push(0) == []
    assert push(65535) == [65535, 0]
    assert push(65535) == []  # repeated
    assert [push(n) for n in range(2, 34)] == [[]] * 32
    assert push(34) == list(range(2, 35))
    assert push(30_000) == []
    assert push(20) == []  # late


def test_a_clock_goes_on_when_timestamps_wrap() -> None:
    clock = RtpClock(90_000)
    begin = (1 << 32) - 9_000
    assert [clock.stamp((begin + n * 9_000) & 0xFFFFFFFF, 50.0) for n in range(4)] == [50, 9_050, 18_050, 27_050]
    assert clock.time_of(0) == 9_050
    clock.anchor(0, 1_000)
    assert clock.stamp(9_000, 0) == 10_000


def test_an_implausible_announced_start_is_ignored() -> None:
    clock = RtpClock(8_000)
    clock.anchor(0, 0.0)
    assert clock.stamp(4_000_000_000, 77.0) == 77


def fragments(unit: bytes, size: int) -> list[bytes]:
    pieces = [unit[1:][at : at + size] for at in range(0, len(unit) - 1, size)]
    last = len(pieces) - 1
    flags = [(0x80 if n == 0 else 0) | (0x40 if n == last else 0) for n in range(len(pieces))]
    return [
        bytes((unit[0] & 0xE0 | 28, flag | unit[0] & 0x1F)) + piece for flag, piece in zip(flags, pieces, strict=True)
    ]


def test_h264_in_every_kind_of_packet() -> None:
    depacketizer = NalDepacketizer(h265=False)
    sps, pps, slice_ = b"\x67sps", b"\x68pps", b"\x65\x88" + bytes(range(1, 200))
    aggregate = b"\x18" + b"".join(len(u).to_bytes(2, "big") + u for u in (sps, pps))
    assert depacketizer.push(packet(aggregate)) == []
    *begin, end = fragments(slice_, 60)
    for payload in begin:
        assert depacketizer.push(packet(payload)) == []
    (unit,) = depacketizer.push(packet(end, marker=True))
    assert nal.split_annexb(unit.payload) == [sps, pps, slice_]
    # Without markers, the next timestamp ends a unit.
    assert depacketizer.push(packet(b"\x41a", timestamp=5)) == []
    (unit,) = depacketizer.push(packet(b"\x41b", timestamp=6))
    assert (unit.timestamp, nal.split_annexb(unit.payload)) == (5, [b"\x41a"])
    depacketizer.lost()
    with pytest.raises(InvalidData, match="without its begin"):
        depacketizer.push(packet(end, timestamp=6, marker=True))


def test_after_a_marker_inside_a_picture_the_next_timestamp_ends_pictures() -> None:
    depacketizer = NalDepacketizer(h265=False)
    first, other = b"\x41\x88", b"\x41\x08"
    found = []
    for timestamp in range(3):
        for unit in (first, other):
            found += depacketizer.push(packet(unit, marker=True, timestamp=timestamp))
    assert [nal.split_annexb(frame.payload) for frame in found] == [[first], [other], [first, other]]


def test_pictures_with_the_same_timestamp_and_a_marker_stay_apart() -> None:
    depacketizer = NalDepacketizer(h265=False)
    for _ in range(3):
        assert depacketizer.push(packet(b"\x41\x88")) == []
        assert len(depacketizer.push(packet(b"\x41\x08", marker=True))) == 1


def test_a_unit_with_start_codes_inside_is_a_picture() -> None:
    """V380 cameras send parameter sets and the picture as one unit of the first type."""
    depacketizer = NalDepacketizer(h265=False)
    units = [b"\x67sps", b"\x68pps", b"\x65\x88" + bytes(range(1, 200))]
    *begin, end = fragments(nal.START_CODE.join(units), 60)
    for payload in begin:
        assert depacketizer.push(packet(payload)) == []
    (unit,) = depacketizer.push(packet(end, marker=True))
    assert (unit.key, nal.split_annexb(unit.payload)) == (True, units)


def test_a_picture_with_missing_fragments_is_an_error() -> None:
    begin, middle, end = fragments(b"\x65" + bytes(100), 40)
    depacketizer = NalDepacketizer(h265=False)
    with pytest.raises(InvalidData, match="inside"):
        for payload in (b"\x67sps", begin, middle):
            depacketizer.push(packet(payload, marker=payload is middle))
    depacketizer.push(packet(begin))
    with pytest.raises(InvalidData, match="without its end"):
        depacketizer.push(packet(begin))
    depacketizer.lost()
    depacketizer.push(packet(begin))
    with pytest.raises(InvalidData, match="without its end"):
        depacketizer.push(packet(b"\x41a"))
    assert end


@pytest.mark.parametrize("kind", [0, 25, 26, 27, 29, 30, 31])
def test_packets_of_the_interleaved_mode_are_refused(kind: int) -> None:
    with pytest.raises(InvalidData, match=f"type {kind}"):
        NalDepacketizer(h265=False).push(packet(bytes((0x60 | kind,)) + bytes(20)))


def test_units_without_a_slice_are_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """They wait for a slice. Each packet with a timestamp of its own would else cost a look at all of them."""
    joined, looked = NalDepacketizer(h265=False), [0]
    is_slice = NalDepacketizer._is_slice

    def counted(self: NalDepacketizer, unit: bytes) -> bool:
        looked[0] += 1
        return is_slice(self, unit)

    monkeypatch.setattr(NalDepacketizer, "_is_slice", counted)
    for n in range(1_000):
        assert not joined.push(packet(b"\x67\x42\x00", sequence=n, timestamp=n + 1))
    assert looked[0] < 5_000


def test_a_picture_has_a_largest_number_of_units() -> None:
    depacketizer = NalDepacketizer(h265=False)
    aggregate = b"\x18" + b"\0\x01\x41" * 2_000
    with pytest.raises(InvalidData, match="NAL units"):
        for _ in range(3):
            depacketizer.push(packet(aggregate))


@pytest.mark.parametrize(
    ("payload", "begins"),
    [
        (b"\x67sps", True),
        (b"\x18\0\x02\x67a\0\x02\x68b", True),
        (b"\x18\0\x02\x09\xf0\0\x02\x67b", True),
        (b"\x18\0\x02\x06a\0\x02\x65b", False),
        (b"\x18", False),
        (b"\x18\0\x09\x09", False),
        (b"\x65idr", False),
        (b"\x7c\x85idr", False),
        (b"\x41a", False),
    ],
)
def test_parameter_sets_begin_a_key_frame(payload: bytes, begins: bool) -> None:
    assert NalDepacketizer(h265=False).begins_key(payload) is begins


def test_key_frames_are_distinguished_from_other_frames() -> None:
    def kind(unit: bytes, *, h265: bool) -> tuple[bool, bool]:
        (frame,) = NalDepacketizer(h265=h265).push(packet(unit, marker=True))
        return frame.key, frame.leading

    assert kind(b"\x65\x88", h265=False) == (True, False)
    assert kind(b"\x41a", h265=False) == (False, False)
    assert kind(b"\x2a\x01\xafcra", h265=True) == (True, False)
    assert kind(b"\x10\x01rasl", h265=True) == (False, True)
    assert kind(b"\x02\x01trail", h265=True) == (False, False)
    for unit, h265 in ((b"\x65\x08", False), (b"\x65", False), (b"\x2a\x01\x2f", True)):
        with pytest.raises(InvalidData, match="first slice"):
            kind(unit, h265=h265)
    assert NalDepacketizer(h265=True).begins_key(b"\x60\x01\0\x02\x40\x01")
    assert NalDepacketizer(h265=True).begins_key(b"\x42\x01sps")
    assert not NalDepacketizer(h265=True).begins_key(b"\x2a\x01cra")


def test_h265_in_every_kind_of_packet() -> None:
    depacketizer = NalDepacketizer(h265=True)
    vps, slice_ = b"\x40\x01vps", b"\x26\x01\xaf" + bytes(range(1, 100))
    assert depacketizer.push(packet(b"\x60\x01" + len(vps).to_bytes(2, "big") + vps)) == []
    assert depacketizer.push(packet(b"\x62\x01" + bytes((0x80 | 19,)) + slice_[2:50])) == []
    (unit,) = depacketizer.push(packet(b"\x62\x01" + bytes((0x40 | 19,)) + slice_[50:], marker=True))
    assert nal.split_annexb(unit.payload) == [vps, slice_]


@pytest.mark.parametrize("payload", [b"\x1e\0", b"\x18\0\x05ab", b"\x18\0\0\0"])
def test_broken_h264_packets_are_errors(payload: bytes) -> None:
    with pytest.raises(InvalidData):
        NalDepacketizer(h265=False).push(packet(payload))


def test_a_picture_has_a_largest_size() -> None:
    depacketizer = NalDepacketizer(h265=False)
    with pytest.raises(InvalidData):
        for _ in range(200):
            depacketizer.push(packet(b"\x41" + bytes(60_000)))


def test_aac_frames_and_a_frame_over_several_packets() -> None:
    depacketizer = AacDepacketizer(13, 3, 1024)
    headers = struct.pack(">HHH", 32, 3 << 3, 2 << 3)
    found = depacketizer.push(packet(headers + b"abcde", timestamp=7))
    assert [(f.timestamp, f.payload, f.offset) for f in found] == [(7, b"abc", 0), (7, b"de", 1024)]
    first = struct.pack(">HH", 16, 6 << 3)
    assert depacketizer.push(packet(first + b"abcd")) == []
    (frame,) = depacketizer.push(packet(first + b"ef", marker=True))
    assert frame.payload == b"abcdef"
    with pytest.raises(InvalidData):
        AacDepacketizer(13, 2, 1024)


def test_aac_headers_without_index_may_end_inside_a_byte() -> None:
    """AMS32 describes a `sizeLength` of 13 and no index, and sends headers of 13 bits."""
    depacketizer = AacDepacketizer(13, 0, 1024)
    (frame,) = depacketizer.push(packet(struct.pack(">HH", 13, 3 << 3) + b"abc"))
    assert frame.payload == b"abc"
    found = depacketizer.push(packet(struct.pack(">HI", 26, 3 << 19 | 2 << 6) + b"abcde", timestamp=7))
    assert [(f.payload, f.offset) for f in found] == [(b"abc", 0), (b"de", 1024)]
    first = struct.pack(">HH", 13, 6 << 3)
    assert depacketizer.push(packet(first + b"abcd", timestamp=8)) == []
    (frame,) = depacketizer.push(packet(first + b"ef", marker=True, timestamp=8))
    assert frame.payload == b"abcdef"
    assert depacketizer.push(packet(first[:3], timestamp=9)) == []
    (frame,) = AacDepacketizer(13, 3, 1024).push(packet(struct.pack(">HH", 13, 3 << 3) + b"abc"))
    assert frame.payload == b"abc"


def test_an_aac_frame_in_many_fragments_is_joined_and_a_lost_one_leaves_nothing() -> None:
    depacketizer, frame = AacDepacketizer(32, 0, 1024), bytes(range(256)) * 20
    fragments = [packet(struct.pack(">HI", 32, len(frame)) + frame[at : at + 10]) for at in range(0, len(frame), 10)]
    for _ in range(2):
        assert [unit.payload for piece in fragments for unit in depacketizer.push(piece)] == [frame]
        depacketizer.push(fragments[0])
        depacketizer.lost()


def test_an_aac_frame_whose_first_fragment_was_lost_leaves_nothing_in_the_next() -> None:
    depacketizer, head = AacDepacketizer(13, 3, 1024), struct.pack(">HH", 16, 6 << 3)
    depacketizer.push(packet(head + b"def", marker=True, timestamp=0))
    assert depacketizer.push(packet(head + b"ABC", timestamp=1024)) == []
    (frame,) = depacketizer.push(packet(head + b"DEF", marker=True, timestamp=1024))
    assert frame.payload == b"ABCDEF"


@pytest.mark.parametrize("size", [8_192, 0xFFFFFFF0])
def test_an_aac_frame_larger_than_its_mode_allows_is_refused_with_its_first_fragment(size: int) -> None:
    with pytest.raises(InvalidData):
        AacDepacketizer(32, 0, 1024).push(packet(struct.pack(">HI", 32, size) + bytes(1_000)))
