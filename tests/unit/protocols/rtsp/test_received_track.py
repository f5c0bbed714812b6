"""RtspTrack: the RTP packets of cameras, also of those that disobey RFC 6184, become whole pictures."""

from __future__ import annotations

import base64

import pytest

from gateway.media import h264, nal
from gateway.media.errors import UnsupportedCodec
from gateway.media.track import AccessUnit, ForeignSound
from gateway.protocols.rtp.packets import RtpPacket
from gateway.protocols.rtsp.received_track import RtspTrack
from gateway.protocols.rtsp.session_description import RtspMedia, parse_description
from tests.support.builders import AVCC

PPS = h264.parse_avcc(AVCC).pps[0]
# Those of the description, and those of a later size.
SPS, OTHER_SPS = h264.parse_avcc(AVCC).sps[0], bytes.fromhex("6742c0158c8d40a0f93506060607844235")
STEP = 3_600  # ticks between two pictures
GROUP = 5  # pictures from one key frame to the next


def slices(picture: int, count: int) -> list[bytes]:
    head = b"\x65" if picture % GROUP == 0 else b"\x41"
    return [head + (b"\x08" if n else b"\x88") + bytes((picture + 1, n + 1)) for n in range(count)]


def sent(markers: str, pictures: int, count: int) -> list[RtpPacket]:
    """Packets of pictures with `count` slices, and of the first slice of another one.

    markers: "right", on "every" NAL unit, on all "slices", or also on the "sets", which have the timestamp of the
    picture before.
    """
    packets: list[RtpPacket] = []
    for picture in range(pictures + 1):
        sps = SPS if picture < GROUP else OTHER_SPS
        units = [*([sps, PPS] if picture % GROUP == 0 else []), *slices(picture, count)]
        for n, unit in enumerate(units):
            is_set, at = unit in (sps, PPS), picture * STEP
            marker = markers == "every" or n == len(units) - 1 or (markers == "slices" and not is_set)
            if markers == "sets" and is_set:
                marker, at = True, at - STEP
            packets.append(RtpPacket(96, marker, len(packets) & 0xFFFF, at & 0xFFFFFFFF, unit))
    return packets[: 1 - count] if count > 1 else packets


@pytest.mark.parametrize("described", [False, True])
@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("markers", ["right", "every", "slices", "sets"])
def test_pictures_are_whole_wherever_the_camera_sets_the_marker(markers: str, count: int, described: bool) -> None:
    sets = ",".join(base64.b64encode(unit).decode() for unit in (SPS, PPS))
    parameters = {"sprop-parameter-sets": sets} if described else {}
    track = RtspTrack(RtspMedia(96, "H264", 90_000, 1, parameters, "video", ""))
    units: list[AccessUnit] = []
    for packet in sent(markers, 98, count):
        units += track.receive(packet, 500 + packet.timestamp)
    units = units[:98]
    assert [nal.split(unit.payload) for unit in units] == [slices(n, count) for n in range(98)]
    shown = [unit.dts + unit.cts for unit in units]
    assert shown == [shown[0] + STEP * n for n in range(98)]
    assert h264.parse_avcc(units[0].track.config).sps == (SPS,)
    assert h264.parse_avcc(units[-1].track.config).sps == (OTHER_SPS,)
    assert track.damaged == 0


@pytest.mark.parametrize("udp", [False, True])
def test_packets_without_payload_have_a_number_and_cost_no_picture(udp: bool) -> None:
    """Padding, and signs of life, also one from before the first packet, which opens a NAT."""
    track = RtspTrack(RtspMedia(96, "H264", 90_000, 1, {}, "video", ""))
    if udp:
        track.use_udp()
    units = track.receive(RtpPacket(96, False, 0, 0, b""), 0)
    for n, packet in enumerate(sent("right", 8, 2)):
        for number, payload in ((2 * n, packet.payload), (2 * n + 1, b"")):
            at = 7_000_000 + packet.timestamp
            units += track.receive(RtpPacket(96, packet.marker and bool(payload), 900 + number, at, payload), at)
    assert [nal.split(unit.payload) for unit in units] == [slices(n, 2) for n in range(8)]
    assert units[0].dts + units[0].cts == 7_000_000
    assert track.damaged == 0


@pytest.mark.parametrize("described", [False, True])
@pytest.mark.parametrize("fragmented", [False, True])
def test_a_key_picture_may_be_one_unit_with_start_codes_inside(fragmented: bool, described: bool) -> None:
    """Cameras with the firmware of V380 send it so: as one unit that begins with the SPS."""
    sets = ",".join(base64.b64encode(unit).decode() for unit in (SPS, PPS))
    parameters = {"sprop-parameter-sets": sets} if described else {}
    track = RtspTrack(RtspMedia(96, "H264", 90_000, 1, parameters, "video", ""))
    units: list[AccessUnit] = []
    number = 0
    for picture in range(3 * GROUP + 1):
        key = picture % GROUP == 0
        unit = nal.join_annexb([*([SPS, PPS] if key else []), *slices(picture, 2)])[4:]
        pieces = [unit[n : n + 20] for n in range(1, len(unit), 20)]
        last = len(pieces) - 1
        parts = [
            bytes((unit[0] & 0xE0 | 28, (n == 0) << 7 | (n == last) << 6 | unit[0] & 0x1F)) + piece
            for n, piece in enumerate(pieces)
        ]
        for n, payload in enumerate(parts if fragmented else [unit]):
            marker = not fragmented or n == last
            units += track.receive(RtpPacket(96, marker, number, picture * STEP, payload), 500 + picture * STEP)
            number += 1
    assert [nal.split(unit.payload) for unit in units[: 3 * GROUP]] == [slices(n, 2) for n in range(3 * GROUP)]
    assert [unit.key for unit in units[: 3 * GROUP]] == [n % GROUP == 0 for n in range(3 * GROUP)]
    assert track.damaged == 0


@pytest.mark.parametrize("extra", [b"\x1f" + bytes(40), b"\x1e\x01", b"\x00\x01"])
def test_packets_of_reserved_types_cost_no_picture(extra: bytes) -> None:
    """VStarCam cameras send data of their own as type 31, with numbers and timestamps of their own choice."""
    track = RtspTrack(RtspMedia(96, "H264", 90_000, 1, {}, "video", ""))
    units: list[AccessUnit] = []
    for n, packet in enumerate(sent("right", 8, 2)):
        for number, payload in ((2 * n, extra), (2 * n + 1, packet.payload)):
            at = packet.timestamp if payload is not extra else 7_000_000
            marker = packet.marker and payload is not extra
            units += track.receive(RtpPacket(96, marker, number, at, payload), packet.timestamp)
    assert [nal.split(unit.payload) for unit in units] == [slices(n, 2) for n in range(8)]
    assert [unit.dts + unit.cts for unit in units] == [STEP * n for n in range(8)]
    assert track.damaged == 0


@pytest.mark.parametrize("place", [0, 1, 2])
def test_fragments_may_be_empty(place: int) -> None:
    """Some cameras send them as the first one, between others, or as the last one."""
    track = RtspTrack(RtspMedia(96, "H264", 90_000, 1, {}, "video", ""))
    units: list[AccessUnit] = []
    for n, packet in enumerate(sent("right", 8, 1)):
        head, body = packet.payload[:1], packet.payload[1:]
        pieces = [body[:2], body[2:]]
        pieces.insert(place, b"")
        for m, piece in enumerate(pieces):
            flags = (m == 0) << 7 | (m == 2) << 6 | head[0] & 0x1F
            payload = bytes((head[0] & 0xE0 | 28, flags)) + piece
            marker = packet.marker and m == 2
            units += track.receive(RtpPacket(96, marker, 3 * n + m, packet.timestamp, payload), packet.timestamp)
    assert [nal.split(unit.payload) for unit in units[:8]] == [slices(n, 1) for n in range(8)]
    assert track.damaged == 0


@pytest.mark.parametrize(("encoding", "codec"), [("L16", "pcm_s16be"), ("PCM", "pcm_s16le")])
def test_samples_of_16_bits_are_read_in_both_orders(encoding: str, codec: str) -> None:
    """Hikvision cameras describe theirs as `PCM/48000` with the payload type of L16, and send little-endian."""
    text = b"m=audio 0 RTP/AVP 11\na=rtpmap:11 %s/48000\n" % encoding.encode()
    (medium,) = parse_description(text).media
    track = RtspTrack(medium)
    assert track.foreign == ForeignSound(codec, 48_000, 1)
    (unit,) = track.receive(RtpPacket(11, False, 1, 0, bytes(320)), 0)
    assert unit.payload == bytes(320)


@pytest.mark.parametrize(
    ("parameters", "config"),
    [
        (b"sizelength=13;indexlength=3;indexdeltalength=3", "1408"),
        (b"config=;mode=AAC-hbr", "1408"),
        (b"mode=AAC-hbr;config=1410", "1410"),
    ],
)
def test_aac_is_read_without_parts_of_its_description(parameters: bytes, config: str) -> None:
    """HIK Media Server and others leave the AudioSpecificConfig out: bluenviron/gortsplib #658."""
    (medium,) = parse_description(
        b"m=audio 0 RTP/AVP 104\na=rtpmap:104 MPEG4-GENERIC/16000\na=fmtp:104 %s\n" % parameters
    ).media
    track = RtspTrack(medium)
    (unit,) = track.receive(RtpPacket(104, True, 1, 0, b"\0\x10\0\x28frame"), 0)
    assert (unit.payload, unit.track.config.hex()) == (b"frame", config)


def test_aac_without_a_configuration_at_an_unknown_rate_is_left_out() -> None:
    (medium,) = parse_description(b"m=audio 0 RTP/AVP 104\na=rtpmap:104 MPEG4-GENERIC/17000\n").media
    with pytest.raises(UnsupportedCodec, match="17000 Hz"):
        RtspTrack(medium)
