"""Opus: heads in two forms, and packet durations against the encoder's."""

from itertools import pairwise

import pytest
from av import Packet
from av.audio.codeccontext import AudioCodecContext
from hypothesis import given
from hypothesis import strategies as st

from gateway.media import codecs, opus
from gateway.media.errors import InvalidData
from tests.support.elementary import elementary


def decoded(packets: list[bytes | None]) -> bytes:
    decoder = AudioCodecContext.create("libopus", "r")
    decoder.layout, decoder.sample_rate = "stereo", 48_000
    frames = [frame for packet in packets for frame in decoder.decode(Packet(packet))]
    width = decoder.format.bytes * 2
    return b"".join(bytes(frame.planes[0])[: frame.samples * width] for frame in frames)


HEADS = st.builds(
    opus.OpusHead,
    st.integers(1, 2),
    st.integers(0, 65_535),
    st.integers(0, (1 << 32) - 1),
    st.integers(-32_768, 32_767),
    st.just(0),
    st.just(b""),
)


@given(HEADS)
def test_heads_are_the_same_in_all_forms(head: opus.OpusHead) -> None:
    whole = opus.head_bytes(head)
    assert opus.parse_head(whole) == head
    assert opus.parse_head(whole[8:]) == head
    assert opus.parse_head(opus.dops(head)) == head


def test_surround_keeps_its_mapping() -> None:
    head = opus.OpusHead(6, 312, 48_000, 0, 1, bytes((4, 2, 0, 4, 1, 2, 3, 5)))
    assert opus.parse_head(opus.head_bytes(head)) == head
    assert opus.parse_head(opus.dops(head)) == head
    with pytest.raises(InvalidData, match="mapping"):
        opus.parse_head(opus.head_bytes(head)[:-1])


def test_the_encoders_head_and_durations() -> None:
    source = elementary("opus")
    head = opus.parse_head(source.track.config)
    assert (head.channels, head.family) == (2, 0)
    for a, b in pairwise(source.takes):
        assert codecs.samples_per_frame(source.track, a.payload) == b.dts - a.dts
    assert (codecs.audio_rate(source.track), codecs.audio_channels(source.track)) == (48_000, 2)
    assert codecs.codec_string(source.track) == "opus"


@pytest.mark.parametrize(
    ("packet", "samples"),
    [("00", 480), ("18", 2880), ("60", 480), ("80", 120), ("f8", 960), ("f9", 1920), ("fa", 1920), ("fb06", 5760)],
)
def test_the_toc_gives_the_duration(packet: str, samples: int) -> None:
    assert opus.packet_samples(bytes.fromhex(packet)) == samples


@pytest.mark.parametrize("packet", ["", "fb", "fb00", "fb07", "1b03"])
def test_impossible_packets_are_refused(packet: str) -> None:
    with pytest.raises(InvalidData):
        opus.packet_samples(bytes.fromhex(packet))


@pytest.mark.parametrize("config", [b"", b"OpusHead", b"OpusHead\x01\x00" + bytes(9), b"\x10\x02" + bytes(9),
                                    b"\x01\x03" + bytes(9), bytes(2000)])  # fmt: skip
def test_wrong_heads_are_refused(config: bytes) -> None:
    with pytest.raises(InvalidData):
        opus.parse_head(config)


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for parse in (opus.parse_head, opus.packet_samples):
        try:
            parse(data)
        except InvalidData:
            continue


@given(st.integers(0, 63), st.integers(0, 1275), st.integers(0, 1275))
def test_two_packets_of_one_frame_become_one_of_two_frames(configuration: int, first: int, second: int) -> None:
    toc = bytes((configuration << 2,))
    packet = opus.joined(toc + bytes(first), toc + b"\1" * second)
    assert packet is not None
    if opus.packet_samples(toc) <= 2880:
        assert opus.packet_samples(packet) == 2 * opus.packet_samples(toc)
    if first == second:
        assert packet == bytes((toc[0] | 1,)) + bytes(first) + b"\1" * second
    else:  # RFC 6716 §3.2.1
        size, at = packet[1], 2
        if size >= 252:
            size, at = packet[2] * 4 + size, 3
        assert (packet[0], size) == (toc[0] | 2, first)
        assert packet[at:] == bytes(first) + b"\1" * second


@pytest.mark.parametrize(
    ("first", "second"),
    [(b"", b"\xfc"), (b"\xfc", b""), (b"\xfc", b"\xf8"), (b"\xfd\0", b"\xfd\0"), (b"\xff", b"\xff")],
)
def test_other_packets_are_not_joined(first: bytes, second: bytes) -> None:
    assert opus.joined(first, second) is None


def test_joined_packets_decode_to_the_same_sound() -> None:
    takes = [take.payload for take in elementary("opus").takes]
    takes = takes[: len(takes) // 2 * 2]
    pairs = [opus.joined(a, b) for a, b in zip(takes[::2], takes[1::2], strict=True)]
    assert len({len(packet) for packet in takes}) > 1, "packets of different sizes, too"
    assert decoded(pairs) == decoded(takes)
