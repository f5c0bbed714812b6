"""RTP of ffmpeg and GStreamer becomes the pictures that they were given (tests/golden/rtp/README.md)."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.media import av1, h264, h265, nal
from gateway.protocols.rtp.av1_depacketizer import Av1Depacketizer
from gateway.protocols.rtp.depacketizers import AssembledFrame, NalDepacketizer, ResumableDepacketizer
from gateway.protocols.rtp.packets import RtpPacket, parse_packet
from gateway.protocols.rtp.receiver import RtpReceiver
from gateway.protocols.rtp.vp_depacketizers import Vp8Depacketizer, Vp9Depacketizer

GOLDEN = Path(__file__).parents[2] / "golden" / "rtp"

CODECS: dict[str, tuple[str, Callable[[], ResumableDepacketizer]]] = {
    "h264": ("h264.h264", lambda: NalDepacketizer(h265=False)),
    "h265": ("h265.hevc", lambda: NalDepacketizer(h265=True)),
    "vp8": ("vp8.ivf", Vp8Depacketizer),
    "vp9": ("vp9.ivf", Vp9Depacketizer),
    "av1": ("av1.ivf", Av1Depacketizer),
}
CAPTURES = sorted(path.stem for path in GOLDEN.glob("*.rtp"))


def packets(capture: str) -> list[RtpPacket]:
    data, at, found = (GOLDEN / f"{capture}.rtp").read_bytes(), 0, []
    while at < len(data):
        (size,) = struct.unpack_from(">H", data, at)
        packet = parse_packet(data[at + 2 : at + 2 + size], empty=True)
        assert packet is not None
        if packet.payload_type == 96:  # ffmpeg's reports come to the same port
            found.append(packet)
        at += 2 + size
    return found


def received(capture: str, depacketizer: ResumableDepacketizer, *, without: int = -1) -> list[AssembledFrame]:
    track = RtpReceiver(1, 96, 90_000, depacketizer, nack=False)
    found = []
    for n, packet in enumerate(packets(capture)):
        if n != without:
            found += track.push(packet, 0.0)
    found += track.due(1.0).received
    return [item for item in found if isinstance(item, AssembledFrame)]


def pictures(codec: str, data: bytes) -> list[bytes]:
    """The slices of H.264 and H.265 without parameter sets, or the frames of an IVF file."""
    if codec in ("h264", "h265"):
        return slices(codec, data)
    at, found = 32, []
    while at < len(data):
        (size,) = struct.unpack_from("<I", data, at)
        frame = data[at + 12 : at + 12 + size]
        found.append(av1.sample(frame) if codec == "av1" else frame)
        at += 12 + size
    return found


def slices(codec: str, data: bytes) -> list[bytes]:
    units = nal.split_annexb(data)
    if codec == "h264":
        return [unit for unit in units if unit[0] & 0x1F in h264.SLICES]
    return [unit for unit in units if unit[0] >> 1 & 0x3F < h265.VPS]


def test_captures_exist() -> None:
    assert len(CAPTURES) == 9


@pytest.mark.parametrize("capture", CAPTURES)
def test_captures_of_real_senders_give_the_original_pictures(capture: str) -> None:
    codec = capture.partition("-")[2]
    source, make = CODECS[codec]
    frames = received(capture, make())
    found = [p for f in frames for p in slices(codec, f.payload)] if codec[0] == "h" else [f.payload for f in frames]
    assert found == pictures(codec, (GOLDEN / source).read_bytes())
    assert [frame.key for frame in frames] == [n % 4 == 0 for n in range(8)]


@pytest.mark.parametrize("capture", CAPTURES)
def test_a_lost_packet_removes_the_rest_of_its_group(capture: str) -> None:
    codec = capture.partition("-")[2]
    make = CODECS[codec][1]

    def pictures_of(frames: list[AssembledFrame]) -> list[list[bytes]]:
        return [slices(codec, frame.payload) if codec[0] == "h" else [frame.payload] for frame in frames]

    whole = pictures_of(received(capture, make()))
    ends = [n for n, packet in enumerate(packets(capture)) if packet.marker]
    for lost in range(ends[-2]):
        frame = next(n for n, end in enumerate(ends) if lost <= end)
        left = pictures_of(received(capture, make(), without=lost))
        without_group = [picture for n, picture in enumerate(whole) if n // 4 != frame // 4 or n < frame]
        # The first packet of a key frame may have a delimiter only: then nothing is missing.
        assert left == without_group or (left == whole and frame % 4 == 0)
