"""What is read of the colors of pictures, from what x265, SVT-AV1 and libvpx wrote for one gray picture."""

from dataclasses import replace

import pytest

from gateway.formats.mp4.init import init_segment
from gateway.media.colors import NO_COLORS, Colors, VideoSignal
from gateway.media.picture_colors import colors_of
from gateway.media.track import Codec, Kind, MediaTrack
from tests.support.builders import VIDEO

HDR10 = VideoSignal(False, 9, 16, 9)
MASTERING = bytes.fromhex("33c286c41d4c0bb884d03e803d1340420098968000000032")
LIGHT = bytes.fromhex("03e80190")
HVCC = bytes.fromhex(
    "0102200000009000000000001ef000fcfdfafa00000f04a00001001840010c01ffff02200000030090000003000003001e959409a1000100"
    "2d42010102200000030090000003000003001ea0208104d965654a4c2f016a12201208000003000800000300c840a2000100064401c073c0"
    "8927000200094e01900403e8019080001e4e01891833c286c41d4c0bb884d03e803d13404200989680000003003280"
)
HEVC_KEY = bytes.fromhex(
    "000000094e01900403e80190800000001e4e01891833c286c41d4c0bb884d03e803d13404200989680000003003280000000092801ac760d"
    "9091d238"
)
AV1C = bytes.fromhex("81004c000a0d00000002afff805f0a12201208")
AV1_KEY = bytes.fromhex(
    "0a0d00000002afff9f7f2a122012082a060103e80190802a1a02ae1451ec43d7b0a426660f5c500d54390003e8000000005280320d1000b4"
    "02071c30c10002008880"
)
VPCC = bytes.fromhex("020aa20912090000")

HEVC = MediaTrack(Kind.VIDEO, Codec.H265, 1000, HVCC)
AV1 = MediaTrack(Kind.VIDEO, Codec.AV1, 1000, AV1C)
VP9 = MediaTrack(Kind.VIDEO, Codec.VP9, 1000, VPCC)


def without_sei(track: MediaTrack) -> MediaTrack:
    """Returns the track with a record without its last array, which has the SEI messages."""
    config = bytearray(track.config[: track.config.index(bytes.fromhex("27000200094e01"))])
    config[22] -= 1
    return replace(track, config=bytes(config))


def test_hevc_has_its_light_in_the_record_or_in_the_key_frame() -> None:
    whole = Colors(HDR10, MASTERING, LIGHT)
    assert colors_of(HEVC) == whole
    assert colors_of(without_sei(HEVC)) == Colors(HDR10)
    assert colors_of(without_sei(HEVC), HEVC_KEY) == whole


def test_av1_has_its_light_in_metadata_in_other_units() -> None:
    assert colors_of(AV1) == Colors(HDR10)
    assert colors_of(AV1, AV1_KEY) == Colors(HDR10, MASTERING, LIGHT)


def test_vp9_has_its_colors_in_the_record() -> None:
    found = colors_of(VP9)
    assert (found.signal, found.signal.range) == (VideoSignal(False, 9, 18, 9), "HLG")


def test_a_transfer_for_receivers_of_hdr_counts_more_than_that_of_the_vui() -> None:
    """ITU-T H.265 §D.2.38: broadcasts of HLG write the transfer of BT.2020 into the VUI, and HLG into SEI."""
    message = bytes.fromhex("000000064e0193011280")
    assert colors_of(without_sei(HEVC), message).signal.transfer == 18


def test_the_publisher_declares_what_the_pictures_do_not_say() -> None:
    declared = Colors(VideoSignal(False, 9, 18, 9), MASTERING)
    assert colors_of(replace(VIDEO, colors=declared)) == declared
    assert colors_of(replace(without_sei(HEVC), colors=declared)) == Colors(HDR10, MASTERING)


@pytest.mark.parametrize(("track", "key"), [(HEVC, HEVC_KEY), (AV1, AV1_KEY)])
def test_a_damaged_key_frame_still_has_the_colors_of_the_record(track: MediaTrack, key: bytes) -> None:
    for cut in range(len(key)):
        assert colors_of(track, key[:cut]).signal == HDR10


def test_init_segments_have_the_colors_that_are_known() -> None:
    init = init_segment(HEVC, payload=HEVC_KEY)
    assert b"\x00\x00\x00\x13colrnclx" + bytes.fromhex("00090010000900") in init
    assert b"\x00\x00\x00\x20mdcv" + MASTERING in init
    assert b"\x00\x00\x00\x0cclli" + LIGHT in init
    plain = init_segment(VIDEO)
    assert not any(kind in plain for kind in (b"colr", b"mdcv", b"clli"))


def test_colors_of_a_track_without_any_are_unspecified() -> None:
    assert colors_of(VIDEO) == NO_COLORS
    assert colors_of(MediaTrack(Kind.VIDEO, Codec.VP8, 1000, b"")) == NO_COLORS
    assert NO_COLORS.signal.range == "SDR"
