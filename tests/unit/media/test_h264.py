"""avcC and SPS, compared with x264 and PyAV."""

import subprocess
from pathlib import Path

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.media import codecs, h264
from gateway.media.errors import InvalidData
from gateway.media.track import Codec, Kind, MediaTrack
from tests.support.time_outs import at_most
from tests.support.tools import need

SPS = bytes.fromhex("6764000bacd942847e5c0440000003004000000f03c50a6580")
PPS = b"\x68\xeb\xe3\xcb"
AVCC = bytes.fromhex("0164000bffe10019") + SPS + b"\x01\x00\x04" + PPS


@pytest.mark.parametrize(
    ("size", "rate", "arguments"),
    [
        ("1918x1078", "30000/1001", "-pix_fmt yuv420p"),
        ("130x98", "25", "-pix_fmt yuv444p"),
        ("162x90", "60", "-pix_fmt yuv422p10le"),
        ("720x488", "30000/1001", "-pix_fmt yuv420p -flags +ilme+ildct -x264-params interlaced=1"),
        ("160x90", "15", "-profile:v baseline -pix_fmt yuv420p"),
        ("163x91", "15", "-pix_fmt gray -x264-params nal-hrd=vbr -maxrate 1M -bufsize 1M -b:v 500k"),
        ("320x180", "50", "-pix_fmt yuv420p -x264-params cqm=jvt:sar=77/31:overscan=show:colorprim=bt709:chromaloc=1"),
    ],
)
def test_size_and_rate_are_those_of_the_encoder(size: str, rate: str, arguments: str, tmp_path: Path) -> None:
    need("ffmpeg")
    path = tmp_path / "o.mp4"
    subprocess.run(
        ["ffmpeg", "-nostdin", "-v", "error", "-f", "lavfi", "-i", f"testsrc2=s={size}:r={rate}", "-frames:v", "2",
         "-c:v", "libx264", "-preset", "ultrafast", *arguments.split(), str(path)], check=True, timeout=at_most(60),
    )  # fmt: skip
    with av.open(str(path)) as film:
        stream = film.streams.video[0]
        track = MediaTrack(Kind.VIDEO, Codec.H264, 1000, bytes(stream.codec_context.extradata))
        assert codecs.video_size(track) == (stream.width, stream.height)
        assert codecs.frame_rate(track) == pytest.approx(float(stream.average_rate), rel=1e-6)
        avcc = h264.parse_avcc(track.config)
        assert h264.parse_sps(avcc.sps[0]).interlaced == ("interlaced" in arguments)
        rebuilt = h264.parse_avcc(h264.build_avcc(list(avcc.sps), list(avcc.pps)))
        assert rebuilt == avcc
        assert h264.build_avcc(list(avcc.sps), list(avcc.pps)) == track.config


def test_the_record_is_parsed_into_its_fields() -> None:
    assert h264.parse_avcc(AVCC) == h264.Avcc(100, 0, 11, 4, (SPS,), (PPS,))


def test_the_codec_string_is_that_of_rfc_6381() -> None:
    assert h264.codec_string(AVCC) == "avc1.64000B"
    assert h264.codec_string(b"\x01\x4d\x40\x1e\xff\xe0\x00") == "avc1.4D401E"


def test_the_codec_string_uses_the_sps_if_the_record_is_empty() -> None:
    assert h264.codec_string(b"\x01\0\0\0" + AVCC[4:]) == "avc1.64000B"


def test_a_record_that_ends_behind_its_sps_has_no_pps() -> None:
    assert h264.parse_avcc(AVCC[: 8 + len(SPS)]).pps == ()


@pytest.mark.parametrize("size", [3, 2, 1])
def test_any_length_size_is_read(size: int) -> None:
    assert h264.parse_avcc(AVCC[:4] + bytes((0xFC | size - 1,)) + AVCC[5:]).length_size == size


def test_without_parameter_sets_size_and_rate_are_unknown() -> None:
    track = MediaTrack(Kind.VIDEO, Codec.H264, 1000, b"\x01\x64\x00\x1f\xff\xe0\x00")
    assert codecs.video_size(track) is None
    assert codecs.frame_rate(track) is None


@pytest.mark.parametrize("cut", range(1, 8 + len(SPS)))
def test_a_record_cut_short_is_refused(cut: int) -> None:
    with pytest.raises(InvalidData):
        h264.parse_avcc(AVCC[:cut])


@pytest.mark.parametrize("config", [b"\x02" + AVCC[1:], AVCC + bytes(1 << 16), AVCC[:-6] + b"\x01\xff\xff" + PPS])
def test_a_wrong_record_is_refused(config: bytes) -> None:
    with pytest.raises(InvalidData):
        h264.parse_avcc(config)


@pytest.mark.parametrize("unit", [b"", PPS, SPS[:4], SPS[:6], b"\x67\x64\x00\x0b" + bytes(40)])
def test_a_wrong_sps_is_refused(unit: bytes) -> None:
    with pytest.raises(InvalidData):
        h264.parse_sps(unit)


def test_the_picture_size_is_known_with_a_truncated_vui() -> None:
    sps = h264.parse_sps(SPS[:-8])
    assert (sps.width, sps.height, sps.frame_rate) == (160, 120, None)


def test_an_impossible_picture_is_refused() -> None:
    # 1056 x 1056 macroblocks: each side may be, both may not.
    def ue(value: int) -> str:
        code = f"{value + 1:b}"
        return "0" * (len(code) - 1) + code

    fields = [ue(0), ue(0), ue(2), ue(1), "0", ue(1055), ue(1055), "1", "0", "0", "0", "1"]
    bits = "".join(fields)
    body = int(bits.ljust((len(bits) + 7) // 8 * 8, "0"), 2).to_bytes((len(bits) + 7) // 8, "big")
    with pytest.raises(InvalidData, match="1056 x 1056"):
        h264.parse_sps(b"\x67\x42\x00\x1e" + body)


def test_an_avcc_needs_a_valid_number_of_parameter_sets() -> None:
    for sps, pps in (([], [PPS]), ([b"\x67"], [PPS]), ([SPS] * 32, [PPS]), ([SPS], [PPS] * 256)):
        with pytest.raises(InvalidData):
            h264.build_avcc(sps, pps)


@given(st.binary(max_size=80))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for parse in (h264.parse_avcc, lambda d: h264.parse_sps(b"\x67" + d), lambda d: h264.parse_sps(SPS[:4] + d)):
        try:
            parse(data)
        except InvalidData:
            continue


@given(st.binary(max_size=60), st.integers(5, len(SPS)))
def test_a_damaged_sps_gives_a_possible_picture(tail: bytes, kept: int) -> None:
    try:
        sps = h264.parse_sps(SPS[:kept] + tail)
    except InvalidData:
        return
    assert 0 < sps.width <= 16_896
    assert 0 < sps.height <= 2 * 16_896
    assert sps.frame_rate is None or 0 < sps.frame_rate <= 1000
