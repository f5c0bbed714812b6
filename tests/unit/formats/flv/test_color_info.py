"""`colorInfo` of Enhanced RTMP, as OBS and ffmpeg write it."""

from dataclasses import replace

import pytest

from gateway.formats import amf0
from gateway.formats.flv import muxer
from gateway.formats.flv.color_info import color_info, read_color_info
from gateway.formats.flv.demuxer import MediaDemuxer
from gateway.media.colors import NO_COLORS, Colors, VideoSignal
from gateway.media.track import AccessUnit, AmfValue, Codec, Kind, MediaTrack, Tracks
from gateway.protocols import wire
from tests.unit.media.test_picture_colors import HDR10, HEVC, HVCC, LIGHT, MASTERING

CONFIG: dict[str, AmfValue] = {
    "bitDepth": 10.0, "colorPrimaries": 9.0, "transferCharacteristics": 16.0, "matrixCoefficients": 9.0
}  # fmt: skip
DISPLAY: dict[str, AmfValue] = {
    "redX": 0.68, "redY": 0.32, "greenX": 0.265, "greenY": 0.69, "blueX": 0.15, "blueY": 0.06,
    "whitePointX": 0.3127, "whitePointY": 0.329, "maxLuminance": 1000.0, "minLuminance": 0.005,
}  # fmt: skip
INFO: dict[str, AmfValue] = {
    "colorConfig": CONFIG,
    "hdrCll": {"maxFall": 400.0, "maxCLL": 1000.0},
    "hdrMdcv": DISPLAY,
}
WHOLE = Colors(HDR10, MASTERING, LIGHT, 10)


def metadata(info: AmfValue = None, fourcc: bytes = b"hvc1") -> bytes:
    return b"\xd4" + fourcc + amf0.encode("colorInfo", INFO if info is None else info)


def header() -> bytes:
    return b"\x90hvc1" + HVCC


def test_all_values_are_read_and_written_again() -> None:
    assert read_color_info(amf0.encode("other", 1.0, "colorInfo", INFO)) == WHOLE
    assert amf0.decode(color_info(WHOLE)) == ["colorInfo", INFO]
    assert color_info(NO_COLORS) == b""


@pytest.mark.parametrize(
    "info",
    [
        {}, {"colorConfig": "text"}, {"colorConfig": {"colorPrimaries": float("nan"), "bitDepth": -1.0}},
        {"colorConfig": {"colorPrimaries": 1e300, "matrixCoefficients": float("inf")}},
        {"colorConfig": {"transferCharacteristics": 256.0}},
        {"colorConfig": {"matrixCoefficients": 0.0}},
        {"hdrMdcv": {"maxLuminance": -5.0}, "hdrCll": {"maxCLL": "a"}},
    ],
)  # fmt: skip
def test_values_that_no_colors_have_are_unspecified(info: dict[str, AmfValue]) -> None:
    assert read_color_info(amf0.encode("colorInfo", info)) == NO_COLORS


def test_damaged_metadata_change_nothing() -> None:
    body = metadata()[5:]
    assert all(read_color_info(body[:cut]) is None for cut in range(len(body)))


def test_light_has_bounds() -> None:
    huge = {"hdrCll": {"maxFall": 1e9, "maxCLL": 1e9}, "hdrMdcv": {"maxLuminance": 4e9, "redX": 7.0}}
    found = read_color_info(amf0.encode("colorInfo", huge))
    assert found is not None
    assert (len(found.light), len(found.mastering)) == (4, 24)


def test_metadata_after_the_header_belong_to_the_track() -> None:
    demuxer = MediaDemuxer()
    demuxer.read_video(0, header())
    track = demuxer.read_video(0, metadata())
    assert track == replace(HEVC, colors=WHOLE)
    assert demuxer.read_video(0, metadata()) is None
    assert demuxer.read_video(0, header()) is None
    unit = demuxer.read_video(0, b"\x93hvc1" + b"\0\0\0\1\x26")
    assert isinstance(unit, AccessUnit)
    assert unit.track is demuxer.video_track


def test_metadata_before_the_header_belong_to_the_track() -> None:
    demuxer = MediaDemuxer()
    assert demuxer.read_video(0, metadata()) is None
    assert demuxer.read_video(0, header()) == replace(HEVC, colors=WHOLE)


def test_empty_metadata_take_the_colors_back() -> None:
    demuxer = MediaDemuxer()
    demuxer.read_video(0, header())
    demuxer.read_video(0, metadata())
    assert demuxer.read_video(0, metadata({})) == HEVC


def test_colors_follow_the_header_of_relays_and_players() -> None:
    tracks = Tracks(replace(HEVC, colors=WHOLE), None)
    _, (kind, body) = muxer.sequence_bodies(tracks)
    assert (kind, body[:5], amf0.decode(body[5:])) == (9, b"\x94hvc1", ["colorInfo", INFO])
    again = MediaDemuxer()
    for _, read in muxer.sequence_bodies(tracks):
        again.read_video(0, read)
    assert again.video_track == tracks.video


def test_no_colors_are_written_for_mpegts_js_for_h264_and_where_none_are_declared() -> None:
    declared = Tracks(replace(HEVC, colors=WHOLE), None)
    h264 = MediaTrack(Kind.VIDEO, Codec.H264, 1000, b"c", Colors(VideoSignal(False, 9, 16, 9)))
    assert len(muxer.sequence_bodies(declared, colors=False)) == 1
    assert len(muxer.sequence_bodies(Tracks(h264, None))) == 1
    assert len(muxer.sequence_bodies(Tracks(HEVC, None))) == 1


def test_other_nodes_and_workers_get_the_colors() -> None:
    tracks = Tracks(replace(HEVC, colors=WHOLE), None)
    assert wire.decode_tracks(wire.encode_tracks(tracks)) == tracks
    assert b"colors" not in wire.encode_tracks(Tracks(HEVC, None))
