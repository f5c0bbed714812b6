"""VP8, VP9 and AV1: packets of packetizers and browsers become the same frames again."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.media import av1
from gateway.media.errors import InvalidData
from gateway.protocols.rtp.av1_depacketizer import Av1Depacketizer
from gateway.protocols.rtp.depacketizers import AssembledFrame, ResumableDepacketizer
from gateway.protocols.rtp.packetizers.av1 import Av1Packetizer
from gateway.protocols.rtp.packetizers.packetizer import RtpPacketizer
from gateway.protocols.rtp.packetizers.vp8 import Vp8Packetizer
from gateway.protocols.rtp.packetizers.vp9 import Vp9Packetizer
from gateway.protocols.rtp.packets import RtpPacket
from gateway.protocols.rtp.vp_depacketizers import Vp8Depacketizer, Vp9Depacketizer

VP8_KEY = b"\x10\x02\x00\x9d\x01\x2a" + struct.pack("<HH", 640, 360)
# frame_marker 2, profile 0, key frame, sync code, 8 bits, size 640 x 360
VP9_KEY = bytes.fromhex("824983420027f0167000")
VP9_DELTA = b"\x86"
SEQUENCE = bytes.fromhex("0a0b0000002cd59f3fddaf99")[2:]


def obu(kind: int, payload: bytes) -> bytes:
    return bytes((kind << 3 | 2,)) + av1.leb128(len(payload)) + payload


AV1_KEY = obu(1, SEQUENCE) + obu(6, b"\x10" + bytes(50))
AV1_DELTA = obu(6, b"\x30" + bytes(50))


def feed(depacketizer: ResumableDepacketizer, payloads: list[bytes], timestamp: int = 9) -> list[AssembledFrame]:
    found: list[AssembledFrame] = []
    for n, payload in enumerate(payloads):
        found += depacketizer.push(RtpPacket(96, n == len(payloads) - 1, n, timestamp, payload))
    return found


@pytest.mark.parametrize(
    ("packetizer", "depacketizer", "key", "delta"),
    [
        (Vp8Packetizer(), Vp8Depacketizer(), VP8_KEY, b"\x11ab"),
        (Vp9Packetizer(), Vp9Depacketizer(), VP9_KEY, VP9_DELTA),
        (Av1Packetizer(b""), Av1Depacketizer(), AV1_KEY, AV1_DELTA),
    ],
)
@pytest.mark.parametrize("size", [0, 5, 1_000, 30_000])
def test_frames_pass_through_packets(
    packetizer: RtpPacketizer, depacketizer: ResumableDepacketizer, key: bytes, delta: bytes, size: int
) -> None:
    for frame, is_key in ((key, True), (delta, False)):
        whole = frame + (obu(7, bytes(size)) if isinstance(depacketizer, Av1Depacketizer) and size else bytes(size))
        payloads = packetizer.split(whole, 1_100, is_key)
        assert feed(depacketizer, payloads) == [AssembledFrame(9, whole, 0, is_key)]
        assert [depacketizer.begins_key(p) for p in payloads] == [is_key] + [False] * (len(payloads) - 1)


@pytest.mark.parametrize(
    ("depacketizer", "payloads"),
    [
        (Vp8Depacketizer(), [b"\x00abc"]),  # no begin
        (Vp8Depacketizer(), [b"\x10abc", b"\x10abc"]),  # two begins
        (Vp8Depacketizer(), [b"\x10"]),
        (Vp8Depacketizer(), [b"\x90"]),
        (Vp8Depacketizer(), [b"\x90\x80\x80"]),
        (Vp8Depacketizer(), [b"\x90\xf0\x80\x01\x02\x03"]),  # a descriptor alone
        (Vp8Depacketizer(), [b"\x10\x00\x01"]),  # a key frame without its start code
        (Vp9Depacketizer(), [b"\x04abc"]),
        (Vp9Depacketizer(), [b"\x08\x86", b"\x08\x86"]),
        (Vp9Depacketizer(), [b"\x08\x86"]),  # no end
        (Vp9Depacketizer(), [b"\x80"]),
        (Vp9Depacketizer(), [b"\xfc\x01\x00\x03\x03\x03\x86"]),  # four references
        (Vp9Depacketizer(), [b"\x0e\x18\x00"]),  # a structure that is cut short
        (Vp9Depacketizer(), [b"\x0c\x00"]),  # no frame marker
        (Vp9Depacketizer(), [b"\x0c\x86"] * 9),  # layers
        (Av1Depacketizer(), [b"\x80\x30abc"]),
        (Av1Depacketizer(), [b"\x50\x30abc"]),  # goes on, and ends
        (Av1Depacketizer(), [b"\x50\x30abc", b"\x10\x30abc"]),
        (Av1Depacketizer(), [b"\x10"]),
        (Av1Depacketizer(), [b"\x20\x02\x30a"]),  # two elements are declared
        (Av1Depacketizer(), [b"\x00\x09\x30a"]),
        (Av1Depacketizer(), [b"\x00\xff\xff\xff\xff\xff\xff\xff\xff\x01"]),
        (Av1Depacketizer(), [b"\x10\xb0abc"]),  # the forbidden bit
        (Av1Depacketizer(), [b"\x10\x34"]),  # an extension that is missing
        (Av1Depacketizer(), [b"\x10\x32\x09abc"]),  # a size that is wrong
    ],
)
def test_broken_packets_are_errors(depacketizer: ResumableDepacketizer, payloads: list[bytes]) -> None:
    with pytest.raises(InvalidData):
        feed(depacketizer, payloads)


@pytest.mark.parametrize("make", [Vp8Depacketizer, Vp9Depacketizer, Av1Depacketizer])
def test_pictures_have_a_largest_size(make: type[Vp8Depacketizer | Vp9Depacketizer | Av1Depacketizer]) -> None:
    first, later = {
        Vp8Depacketizer: (b"\x10\x01", b"\x00"),
        Vp9Depacketizer: (b"\x08\x86", b"\x00\x86"),
        Av1Depacketizer: (b"\x50\x30", b"\xd0\x30"),
    }[make]
    depacketizer = make()
    with pytest.raises(InvalidData, match="more than"):
        for n in range(200):
            depacketizer.push(RtpPacket(96, False, n, 0, (later if n else first) + bytes(60_000)))


def test_a_vp8_frame_of_chromium_with_all_fields_is_read() -> None:
    # X, S; I, L, T, K; picture id of 15 bits; TL0PICIDX; TID and KEYIDX
    (frame,) = feed(Vp8Depacketizer(), [b"\x90\xf0\x92\x34\x07\x20" + VP8_KEY, b"\x81\x80\x12rest"])
    assert frame == AssembledFrame(9, VP8_KEY + b"rest", 0, True)


def test_spatial_layers_of_vp9_become_a_superframe() -> None:
    # I, L, F, B, E; picture id; layer; and in layer 1 an inter-layer prediction
    lower = b"\xbc\x05\x00" + VP9_KEY
    upper = b"\xbc\x05\x03" + VP9_DELTA + b"abc"
    (frame,) = feed(Vp9Depacketizer(), [lower, upper])
    index = b"\xd9" + struct.pack("<II", len(VP9_KEY), 4) + b"\xd9"
    assert frame == AssembledFrame(9, VP9_KEY + VP9_DELTA + b"abc" + index, 0, True)
    assert Vp9Depacketizer().begins_key(lower)
    assert not Vp9Depacketizer().begins_key(upper)
    assert not Vp9Depacketizer().begins_key(b"\x68\x00\x00")


def test_av1_obus_with_size_and_delimiters_are_read() -> None:
    delimiter = b"\x12\x00"
    payload = b"\x08" + av1.leb128(2) + delimiter + av1.leb128(len(AV1_DELTA)) + AV1_DELTA
    assert feed(Av1Depacketizer(), [payload]) == [AssembledFrame(9, AV1_DELTA, 0, False)]
    assert feed(Av1Depacketizer(), [b"\x10" + delimiter]) == []


@given(
    sizes=st.lists(st.integers(1, 700), min_size=1, max_size=12), limit=st.integers(20, 600), extension=st.booleans()
)
def test_any_av1_unit_passes_through_packets_of_any_size(sizes: list[int], limit: int, extension: bool) -> None:
    flag, more = (6, b"\x08") if extension else (2, b"")
    unit = b"".join(bytes((6 << 3 | flag,)) + more + av1.leb128(n) + b"\x30" + bytes(n - 1) for n in sizes)
    (frame,) = feed(Av1Depacketizer(), Av1Packetizer(b"").split(unit, limit, False))
    assert frame.payload == unit
    assert not frame.key


@pytest.mark.parametrize(
    ("payload", "key"),
    [
        (AV1_KEY, True),
        (AV1_DELTA, False),
        (obu(1, SEQUENCE) + obu(6, b"\x00abc"), False),  # a key frame that is shown later
        (obu(1, SEQUENCE) + obu(6, b"\x30abc"), False),  # a repeated header
        (obu(6, b"\x10abc"), False),  # without header
        (obu(1, SEQUENCE), False),
    ],
)
def test_av1_key_frames_have_a_sequence_header(payload: bytes, key: bool) -> None:
    (frame,) = feed(Av1Depacketizer(), Av1Packetizer(b"").split(payload, 1_000, False))
    assert (frame.payload, frame.key) == (payload, key)


def test_without_markers_the_next_timestamp_ends_a_frame() -> None:
    for depacketizer, payload in (
        (Vp8Depacketizer(), b"\x10\x01ab"),
        (Vp9Depacketizer(), b"\x0c\x86"),
        (Av1Depacketizer(), b"\x10\x30ab"),
    ):
        assert depacketizer.push(RtpPacket(96, False, 0, 1, payload)) == []
        (frame,) = depacketizer.push(RtpPacket(96, False, 1, 2, payload))
        assert frame.timestamp == 1
