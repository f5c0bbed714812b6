"""Sound in RTP: frames that are split to packets are joined to the same frames."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.media import aac
from gateway.media.errors import InvalidData
from gateway.media.latm import LatmReader
from gateway.protocols.rtp.depacketizers import AacDepacketizer, Depacketizer
from gateway.protocols.rtp.packetizers.packetizer import RtpPacketizer
from gateway.protocols.rtp.packetizers.sound import AacPacketizer, Ac3Packetizer, Mp3Packetizer
from gateway.protocols.rtp.packets import RtpPacket
from gateway.protocols.rtp.sound_depacketizers import Ac3Depacketizer, LatmDepacketizer, MpegAudioDepacketizer

MP3 = bytes.fromhex("fffbe264") + bytes(1_044 - 4)  # MPEG-1 Layer III, 320 kbit/s, 44.1 kHz, padded: 1,045 bytes
AC3 = bytes.fromhex("0b7700001e4043fe")  # 48 kHz, 448 kbit/s


def mp3() -> bytes:
    from gateway.media import mp3 as reader

    return MP3[:4] + bytes(reader.frame_bytes(MP3) - 4)


MP2 = b"\xff\xfd\xa4\x04" + bytes(572)  # MPEG-1 Layer II, 192 kbit/s, 48 kHz


def ac3() -> bytes:
    from gateway.media import ac3 as reader

    return AC3 + bytes(reader.syncframe_bytes(AC3) - 8)


KINDS: dict[str, tuple[RtpPacketizer, Depacketizer, bytes]] = {
    "aac": (AacPacketizer(), AacDepacketizer(13, 3, 1024), bytes(range(256)) * 4),
    "mp3": (Mp3Packetizer(), MpegAudioDepacketizer(), mp3()),
    "mp2": (Mp3Packetizer(), MpegAudioDepacketizer(), MP2),
    "ac3": (Ac3Packetizer(), Ac3Depacketizer(), ac3()),
}


@pytest.mark.parametrize("limit", [100, 700, 1_170, 5_000])
@pytest.mark.parametrize("name", KINDS)
def test_a_frame_comes_out_as_it_went_in(name: str, limit: int) -> None:
    packetizer, depacketizer, frame = KINDS[name]
    for timestamp in (1, 2):
        payloads = packetizer.split(frame, limit, True)
        assert max(map(len, payloads)) <= limit
        found = [
            joined
            for number, payload in enumerate(payloads)
            for joined in depacketizer.push(RtpPacket(97, False, number, timestamp, payload))
        ]
        assert [joined.payload for joined in found] == [frame]


@pytest.mark.parametrize("has_headers", [False, True])
@pytest.mark.parametrize("count", [1, 3])
def test_aac_with_adts_headers_is_read(count: int, has_headers: bool) -> None:
    """Cameras of anjvision send it without AU headers (mpv's issue 5669), others with them (go2rtc reads both)."""
    raw = [b"\x21" + bytes((n,)) * 200 for n in range(count)]
    header = aac.Adts(aac.parse_asc(b"\x14\x08")).make_header
    frames = [header(len(frame)) + frame for frame in raw]
    sizes = b"".join((len(frame) << 3).to_bytes(2, "big") for frame in frames)
    payload = (len(sizes) * 8).to_bytes(2, "big") + sizes if has_headers else b""
    found = AacDepacketizer(13, 3, 1024).push(RtpPacket(97, True, 0, 9, payload + b"".join(frames)))
    assert [(unit.payload, unit.offset) for unit in found] == [(frame, n * 1024) for n, frame in enumerate(raw)]


GSTREAMER = bytes.fromhex("40002320adca00")  # its StreamMuxConfig, without the fields behind the configuration


def test_aac_in_latm_has_its_configuration_in_the_description() -> None:
    reader = LatmReader(GSTREAMER, is_inside=False)
    asc = aac.parse_asc(reader.config)
    assert (asc.rate, asc.channels, asc.sbr) == (48_000, 2, False)
    depacketizer, frame = LatmDepacketizer(reader, 1024), bytes(range(256)) + b"end"
    element = b"\xff\x04" + frame  # the length: 255 and 4
    assert depacketizer.push(RtpPacket(96, False, 0, 9, element[:100])) == []
    (joined,) = depacketizer.push(RtpPacket(96, True, 1, 9, element[100:]))
    assert (joined.payload, joined.timestamp) == (frame, 9)


def test_a_part_of_latm_is_bounded_and_ends_with_its_time() -> None:
    depacketizer = LatmDepacketizer(LatmReader(GSTREAMER, is_inside=False), 1024)
    with pytest.raises(InvalidData):
        for number in range(100):
            depacketizer.push(RtpPacket(96, False, number, 9, bytes(1_000)))
    depacketizer.push(RtpPacket(96, False, 0, 9, b"\x05ab"))
    (joined,) = depacketizer.push(RtpPacket(96, True, 1, 10, b"\x01x"))
    assert joined.payload == b"x"


def test_a_frame_of_latm_is_no_longer_than_one_of_adts() -> None:
    """Its length has a byte for each 255 bytes, so a length of 16 MB would cost many steps."""
    reader = LatmReader(GSTREAMER, is_inside=False)
    assert len(reader.read(b"\xff" * 32 + b"\x1f" + bytes(8_191))[0]) == 8_191
    for element in (b"\xff" * 32 + b"\x20" + bytes(8_192), b"\xff" * 65_000):
        with pytest.raises(InvalidData, match="8191"):
            reader.read(element)


def test_several_frames_in_a_packet_have_times_of_their_own() -> None:
    frames = MpegAudioDepacketizer().push(RtpPacket(97, False, 0, 9, bytes(4) + mp3() * 3))
    assert [frame.offset for frame in frames] == [0, 2_351, 4_702]
    frames = Ac3Depacketizer().push(RtpPacket(97, False, 0, 9, b"\x00\x03" + ac3() * 3))
    assert [frame.offset for frame in frames] == [0, 1536, 3072]


@pytest.mark.parametrize(
    ("make", "payload"),
    [
        (MpegAudioDepacketizer, bytes(4)),
        (MpegAudioDepacketizer, bytes(4) + b"no frame at all"),
        (MpegAudioDepacketizer, b"\x00\x00\x00\x20" + bytes(40)),
        (MpegAudioDepacketizer, bytes(4) + mp3() + mp3()[:50]),
        (Ac3Depacketizer, bytes(2)),
        (Ac3Depacketizer, b"\x03\x02" + bytes(40)),
        (Ac3Depacketizer, b"\x00\x01" + ac3()[:100]),
    ],
)
def test_packets_without_whole_frames_are_invalid(make: type[MpegAudioDepacketizer], payload: bytes) -> None:
    with pytest.raises(InvalidData):
        make().push(RtpPacket(97, False, 0, 9, payload))


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=8))
def test_any_payloads_give_frames_or_the_documented_error(payloads: list[bytes]) -> None:
    latm = LatmDepacketizer(LatmReader(GSTREAMER, is_inside=False), 1024)
    for depacketizer in (MpegAudioDepacketizer(), Ac3Depacketizer(), latm):
        for number, payload in enumerate(payloads):
            try:
                frames = depacketizer.push(RtpPacket(97, True, number, 9, payload))
            except InvalidData:
                depacketizer.lost()
            else:
                assert sum(len(frame.payload) for frame in frames) <= sum(map(len, payloads))
