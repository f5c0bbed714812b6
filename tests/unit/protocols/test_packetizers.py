"""Packetizers: every access unit comes back from its payloads, which are few and of one length."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.media import av1, h264, h265, nal
from gateway.media.errors import InvalidData
from gateway.media.track import Codec, Kind, MediaTrack
from gateway.protocols.rtp.depacketizers import FrameDepacketizer, NalDepacketizer
from gateway.protocols.rtp.packetizers.av1 import Av1Packetizer
from gateway.protocols.rtp.packetizers.nal_units import H264Packetizer, H265Packetizer
from gateway.protocols.rtp.packetizers.packetizer import MAX_PAYLOAD, OpusPacketizer, RtpPacketizer, packetizer_of
from gateway.protocols.rtp.packetizers.vp8 import Vp8Packetizer
from gateway.protocols.rtp.packetizers.vp9 import Vp9Packetizer
from gateway.protocols.rtp.packets import RtpPacket
from gateway.protocols.rtp.sender import group_runs
from tests.support.elementary import elementary
from tests.support.rtp import read_av1, read_vp8, read_vp9

LIMITS = st.sampled_from([100, 101, 333, MAX_PAYLOAD])
SPS = bytes.fromhex("6742c00d8c8d4041812690")
PPS = bytes.fromhex("68ce3c80")
AVCC = b"\x01\x42\xc0\x0d\xff\xe1" + nal.join([SPS], 2) + b"\x01" + nal.join([PPS], 2)
VPS5, SPS5, PPS5 = b"\x40\x01vps", b"\x42\x01sps", b"\x44\x01pps"
HVCC = b"\x01" + bytes(20) + b"\x03\x03" + b"".join(
    bytes((u[0] >> 1, 0, 1)) + nal.join([u], 2) for u in (VPS5, SPS5, PPS5)
)  # fmt: skip


def h264_units(sizes: Sequence[int], header: int = 0x41) -> list[bytes]:
    return [bytes((header,)) + bytes(n * 31 + at & 0xFF for at in range(size)) for n, size in enumerate(sizes)]


def h265_units(sizes: Sequence[int]) -> list[bytes]:
    return [b"\x02\x01" + bytes(n * 31 + at & 0xFF for at in range(1 + size)) for n, size in enumerate(sizes)]


def rejoined(payloads: Sequence[bytes], *, h265: bool = False) -> list[bytes]:
    """The NAL units that our depacketizer finds in these payloads."""
    depacketizer = NalDepacketizer(h265=h265)
    last = len(payloads) - 1
    found = [u for n, p in enumerate(payloads) for u in depacketizer.push(RtpPacket(96, n == last, n, 5, p))]
    # Not nal.split_annexb: it removes zeros from the end of a unit. No unit of these tests has a start code inside.
    return [unit for access_unit in found for unit in access_unit.payload.split(nal.START_CODE)[1:]]


SIZES = st.lists(st.integers(0, 90) | st.integers(0, 5_000), min_size=1, max_size=12)


@given(SIZES, LIMITS)
def test_h264_comes_back_whole(sizes: list[int], limit: int) -> None:
    units = h264_units(sizes)
    payloads = H264Packetizer(AVCC).split(nal.join(units), limit, False)
    assert rejoined(payloads) == units
    assert max(map(len, payloads)) <= limit


@given(SIZES, LIMITS)
def test_h265_comes_back_whole(sizes: list[int], limit: int) -> None:
    units = h265_units(sizes)
    payloads = H265Packetizer(HVCC).split(nal.join(units), limit, False)
    assert rejoined(payloads, h265=True) == units
    assert max(map(len, payloads)) <= limit


def fewest_packets(sizes: Sequence[int], limit: int, header: int) -> int:
    """How many packets the units of these sizes need, in order, by trying every partition of the small ones."""
    best = [0] + [1 << 30] * len(sizes)
    for end in range(1, len(sizes) + 1):
        size = sizes[end - 1]
        alone = 1 if size <= limit else -(-(size - header) // (limit - header - 1))
        best[end] = best[end - 1] + alone
        for begin in range(end - 1):
            if header + sum(2 + s for s in sizes[begin:end]) <= limit:
                best[end] = min(best[end], best[begin] + 1)
    return best[-1]


@given(SIZES, LIMITS)
def test_no_arrangement_of_nal_units_needs_fewer_packets(sizes: list[int], limit: int) -> None:
    units = h264_units(sizes)
    payloads = H264Packetizer(AVCC).split(nal.join(units), limit, False)
    assert len(payloads) == fewest_packets([len(u) for u in units], limit, 1)
    units = h265_units(sizes)
    payloads = H265Packetizer(HVCC).split(nal.join(units), limit, False)
    assert len(payloads) == fewest_packets([len(u) for u in units], limit, 2)


@given(st.integers(0, 200_000), LIMITS)
def test_a_picture_of_one_slice_is_one_run_of_one_length(size: int, limit: int) -> None:
    for packetizer, unit in ((H264Packetizer(AVCC), b"\x41"), (H265Packetizer(HVCC), b"\x02\x01x")):
        payloads = packetizer.split(nal.join([unit + bytes(size)]), limit, False)
        lengths = {len(p) for p in payloads[:-1]}
        assert len(lengths) <= 1
        assert len(payloads[-1]) <= max(lengths, default=limit)
        if len(payloads) > 1 and size > 2 * limit:
            assert len(payloads[0]) - len(payloads[-1]) < len(payloads), "the last is shorter by rounding alone"


def test_a_slice_uses_the_packet_length_before_it_if_no_packet_is_added() -> None:
    # Three fragments of 1,000 each fill their packets; the next slice fits into three of the same length.
    payloads = H264Packetizer(AVCC).split(nal.join(h264_units([3_000, 2_500])), MAX_PAYLOAD, False)
    assert [len(p) for p in payloads] == [1_002, 1_002, 1_002, 1_002, 1_002, 502]
    assert len(group_runs(payloads)) == 1
    # Not at the cost of a packet.
    payloads = H264Packetizer(AVCC).split(nal.join(h264_units([2_000, 2_100])), MAX_PAYLOAD, False)
    assert [len(p) for p in payloads] == [1_002, 1_002, 1_052, 1_052]


def test_parameter_sets_go_before_a_key_frame_without_them_in_one_packet_with_small_units() -> None:
    packetizer = H264Packetizer(AVCC)
    (sei,), idr = h264_units([20], 0x06), b"\x65\x88" + bytes(range(1, 200)) * 15
    payloads = packetizer.split(nal.join([sei, idr]), MAX_PAYLOAD, True)
    assert payloads[0] == b"\x78" + nal.join([SPS, PPS, sei], 2)
    assert rejoined(payloads) == [SPS, PPS, sei, idr]
    assert rejoined(packetizer.split(nal.join([SPS, PPS, idr]), MAX_PAYLOAD, True)) == [SPS, PPS, idr]
    assert rejoined(packetizer.split(nal.join([PPS, idr]), MAX_PAYLOAD, True)) == [SPS, PPS, PPS, idr]
    assert rejoined(packetizer.split(nal.join([idr]), MAX_PAYLOAD, False)) == [idr]
    packetizer5 = H265Packetizer(HVCC)
    idr5 = b"\x26\x01\xaf" + bytes(range(1, 200)) * 10
    payloads = packetizer5.split(nal.join([idr5]), MAX_PAYLOAD, True)
    assert payloads[0] == b"\x60\x01" + nal.join([VPS5, SPS5, PPS5], 2)
    assert rejoined(payloads, h265=True) == [VPS5, SPS5, PPS5, idr5]
    assert rejoined(packetizer5.split(nal.join([VPS5, SPS5, PPS5, idr5]), MAX_PAYLOAD, True), h265=True) == [
        VPS5, SPS5, PPS5, idr5,
    ]  # fmt: skip


def test_delimiters_filler_and_types_that_rtp_uses_are_not_sent() -> None:
    unit = b"\x41slice"
    others = [b"\x09\xf0", b"\x0c\xff\xff", b"\x78\x01", b"\x7c\x85", b"\x00x"]
    assert H264Packetizer(AVCC).split(nal.join([*others, unit]), MAX_PAYLOAD, False) == [unit]
    unit5 = b"\x02\x01slice"
    others5 = [b"\x46\x01\x50", b"\x4c\x01\xff", b"\x60\x01x", b"\x62\x01\x80", b"\x7c\x01x", b"\x02"]
    assert H265Packetizer(HVCC).split(nal.join([*others5, unit5]), MAX_PAYLOAD, False) == [unit5]
    assert H264Packetizer(AVCC).split(nal.join(others), MAX_PAYLOAD, False) == []
    assert H264Packetizer(AVCC).split(b"", MAX_PAYLOAD, False) == []


def test_the_header_of_an_aggregate_combines_the_headers_of_its_units() -> None:
    (aggregate,) = H264Packetizer(AVCC).split(nal.join([b"\x06a", b"\x41b", b"\xc1c"]), MAX_PAYLOAD, False)
    assert aggregate[0] == 0x80 | 0x40 | 24
    (aggregate,) = H265Packetizer(HVCC).split(nal.join([b"\x02\x0b1", b"\x03\x0a2", b"\x02\x0c3"]), MAX_PAYLOAD, False)
    # Layers 1, 33 and 1: the lowest is 1; temporal ids 3, 2 and 4: the lowest is 2.
    assert aggregate[:2] == b"\x60\x0a"


def test_length_fields_of_other_sizes_are_read() -> None:
    two = H264Packetizer(AVCC[:4] + b"\xfd" + AVCC[5:])
    assert two.split(nal.join([b"\x41slice"], 2), MAX_PAYLOAD, False) == [b"\x41slice"]
    with pytest.raises(InvalidData):
        two.split(b"\x00\x09\x41", MAX_PAYLOAD, False)


@given(st.lists(st.binary(min_size=1, max_size=4_000), min_size=1, max_size=5), LIMITS, st.integers(0, 0x7FFF))
def test_vp8_comes_back_with_growing_picture_ids(frames: list[bytes], limit: int, picture: int) -> None:
    packetizer = Vp8Packetizer(picture)
    for n, frame in enumerate(frames):
        payloads = packetizer.split(frame, limit, False)
        read = [read_vp8(p) for p in payloads]
        assert b"".join(p.data for p in read) == frame
        assert [p.start for p in read] == [True] + [False] * (len(read) - 1)
        assert {p.picture for p in read} == {(picture + n) & 0x7FFF}
        assert len(payloads) == -(-len(frame) // (limit - 4))
        assert max(map(len, payloads)) <= limit
        assert len(group_runs(payloads)) == 1
    assert packetizer.split(b"", limit, False) == []


VP9_KEY = bytes.fromhex("82498342") + bytes.fromhex("0013f00b30")  # 320 x 180


@given(st.lists(st.integers(0, 4_000), min_size=1, max_size=5), LIMITS, st.integers(0, 0x7FFF), st.booleans())
def test_vp9_comes_back_with_its_structure_at_key_frames(sizes: list[int], limit: int, picture: int, key: bool) -> None:
    packetizer = Vp9Packetizer(picture)
    for n, size in enumerate(sizes):
        frame = VP9_KEY + bytes(at & 0xFF for at in range(size))
        payloads = packetizer.split(frame, limit, key)
        read = [read_vp9(p) for p in payloads]
        assert b"".join(p.data for p in read) == frame
        assert [p.begin for p in read] == [True] + [False] * (len(read) - 1)
        assert [p.end for p in read] == [False] * (len(read) - 1) + [True]
        assert {p.predicted for p in read} == {not key}
        assert {p.picture for p in read} == {(picture + n) & 0x7FFF}
        assert [p.size for p in read] == [(320, 180) if key else None] + [None] * (len(read) - 1)
        assert max(map(len, payloads)) <= limit
        assert len(group_runs(payloads)) == 1
    assert packetizer.split(b"", limit, False) == []


def test_a_vp9_frame_wrongly_marked_as_key_frame_has_no_structure() -> None:
    (payload,) = Vp9Packetizer().split(b"\x86" + bytes(20), MAX_PAYLOAD, True)
    assert read_vp9(payload).predicted
    with pytest.raises(InvalidData):
        Vp9Packetizer().split(b"\x00" + bytes(20), MAX_PAYLOAD, True)


def leb128(number: int) -> bytes:
    return bytes((number & 0x7F | 0x80, number >> 7 & 0x7F | 0x80, number >> 14)) if number > 127 else bytes((number,))


def obu(kind: int, body: bytes, *, extension: bool = False, sized: bool = True) -> bytes:
    head = bytes((kind << 3 | extension << 2 | sized << 1,)) + (b"\x28" if extension else b"")
    return head + (leb128(len(body)) if sized else b"") + body


@given(st.lists(st.tuples(st.integers(0, 130) | st.integers(0, 4_000), st.booleans()), min_size=1, max_size=9), LIMITS)
def test_av1_comes_back_without_sizes_and_delimiters(parts: list[tuple[int, bool]], limit: int) -> None:
    bodies = [bytes(n * 17 + at & 0xFF for at in range(size)) for n, (size, _) in enumerate(parts)]
    unit = b"".join(obu(6, body, extension=e) for body, (_, e) in zip(bodies, parts, strict=True))
    payloads = Av1Packetizer(b"").split(obu(2, b"") + unit + obu(15, b"pad") + obu(8, b"tiles"), limit, False)
    wanted = [obu(6, body, extension=e, sized=False) for body, (_, e) in zip(bodies, parts, strict=True)]
    assert read_av1(payloads) == wanted
    assert max(map(len, payloads)) <= limit
    assert not payloads[0][0] & 8
    if len(parts) <= 2:
        assert len(payloads) <= -(-(sum(map(len, wanted)) + 2 * len(wanted) - 2) // (limit - 1))


@given(st.integers(0, 100_000), LIMITS)
def test_an_av1_frame_behind_its_sequence_header_is_one_run(size: int, limit: int) -> None:
    payloads = Av1Packetizer(b"").split(obu(1, bytes(11)) + obu(6, bytes(size)), limit, True)
    lengths = {len(p) for p in payloads[:-1]}
    assert len(lengths) <= 1
    assert len(payloads[-1]) <= max(lengths, default=limit)


def test_an_av1_key_frame_begins_a_sequence_with_its_header() -> None:
    header = obu(1, b"sequence")
    packetizer = Av1Packetizer(b"\x81\x00\x0c\x00" + header + obu(5, b"metadata"))
    frame = obu(6, b"frame" * 300)
    for unit in (frame, header + frame):
        payloads = packetizer.split(unit, MAX_PAYLOAD, True)
        assert read_av1([bytes((payloads[0][0] & ~8,)) + payloads[0][1:], *payloads[1:]]) == [
            obu(1, b"sequence", sized=False), obu(6, b"frame" * 300, sized=False),
        ]  # fmt: skip
        assert [p[0] & 8 for p in payloads] == [8, 0]
    assert read_av1(packetizer.split(frame, MAX_PAYLOAD, False)) == [obu(6, b"frame" * 300, sized=False)]
    assert packetizer.split(obu(2, b""), MAX_PAYLOAD, True) == []
    with pytest.raises(InvalidData):
        packetizer.split(b"\x32\x09abc", MAX_PAYLOAD, False)
    last = packetizer.split(obu(6, b"unsized", sized=False), MAX_PAYLOAD, False)
    assert last == [b"\x10" + obu(6, b"unsized", sized=False)]


def test_an_opus_packet_is_a_payload() -> None:
    (payload,) = OpusPacketizer().split(b"\xfcsound", 100, True)
    (unit,) = FrameDepacketizer().push(RtpPacket(111, False, 1, 960, payload))
    assert (unit.timestamp, unit.payload) == (960, b"\xfcsound")
    assert OpusPacketizer().split(b"", 100, True) == []


@pytest.mark.parametrize("name", ["h264", "h264-aud", "h265"])
def test_units_of_real_encoders_come_back(name: str) -> None:
    film = elementary(name)
    packetizer = packetizer_of(film.track)
    assert packetizer is not None
    is_h265 = film.track.codec is Codec.H265
    delimiter = h265.AUD if is_h265 else h264.AUD
    for take in film.takes:
        units = [u for u in nal.split(take.payload) if (u[0] >> 1 & 0x3F if is_h265 else u[0] & 0x1F) != delimiter]
        found = rejoined(packetizer.split(take.payload, MAX_PAYLOAD, take.key), h265=is_h265)
        if take.key:
            record = h265.parse_hvcc(film.track.config) if is_h265 else h264.parse_avcc(film.track.config)
            sets = [*getattr(record, "vps", ()), *record.sps, *record.pps]
            assert found[: len(sets)] == sets
            found = found[len(sets) :]
        assert found == units


def test_av1_of_a_real_encoder_comes_back() -> None:
    film = elementary("av1")
    packetizer = Av1Packetizer(film.track.config)
    for take in film.takes:
        payloads = packetizer.split(take.payload, MAX_PAYLOAD, take.key)
        assert bool(payloads[0][0] & 8) is take.key
        payloads[0] = bytes((payloads[0][0] & ~8,)) + payloads[0][1:]
        found = read_av1(payloads)
        assert take.key is (found[0][0] >> 3 == av1.SEQUENCE_HEADER)
        bodies = [take.payload[begin:end] for kind, _, begin, end in av1.obus(take.payload) if kind != 2]
        assert [u[1:] for u in found][-len(bodies) :] == bodies


@pytest.mark.parametrize(
    ("codec", "config", "kind"),
    [
        (Codec.H264, AVCC, H264Packetizer), (Codec.H265, HVCC, H265Packetizer), (Codec.AV1, b"", Av1Packetizer),
        (Codec.VP8, b"", Vp8Packetizer), (Codec.VP9, b"", Vp9Packetizer), (Codec.OPUS, b"", OpusPacketizer),
    ],
)  # fmt: skip
def test_each_codec_of_receivers_has_its_packetizer(codec: Codec, config: bytes, kind: type) -> None:
    found: RtpPacketizer | None = packetizer_of(MediaTrack(Kind.VIDEO, codec, 1_000, config))
    assert type(found) is kind


def test_other_codecs_have_no_packetizer_and_broken_records_are_errors() -> None:
    assert packetizer_of(MediaTrack(Kind.AUDIO, Codec.FLAC, 48_000, b"")) is None
    for codec in (Codec.H264, Codec.H265, Codec.AV1):
        with pytest.raises(InvalidData):
            packetizer_of(MediaTrack(Kind.VIDEO, codec, 1_000, b"\x05broken"))
