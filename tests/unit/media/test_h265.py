"""hvcC and SPS, compared with x265 and PyAV."""

import subprocess
from pathlib import Path

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.lib.bit_reader import BitReader
from gateway.media import codecs, h265
from gateway.media.errors import InvalidData
from gateway.media.track import Codec, Kind, MediaTrack
from tests.support.elementary import elementary
from tests.support.time_outs import at_most
from tests.support.tools import need


@pytest.mark.parametrize(
    ("size", "rate", "arguments"),
    [
        ("1918x1078", "30000/1001", "-pix_fmt yuv420p -x265-params log-level=error"),
        ("130x98", "25", "-pix_fmt yuv444p -x265-params log-level=error"),
        ("162x90", "60", "-pix_fmt yuv422p10le -x265-params log-level=error:scaling-list=default"),
        ("160x90", "24", "-pix_fmt gray -x265-params log-level=error:sar=2:overscan=show:colorprim=bt709:aud=1"),
        ("320x180", "50", "-b:v 500k -x265-params log-level=error:hrd=1:vbv-maxrate=999:vbv-bufsize=999"),
        ("320x180", "50", "-pix_fmt yuv420p -x265-params log-level=error:temporal-layers=1:chromaloc=1"),
    ],
)  # fmt: skip
def test_size_and_rate_are_those_of_the_encoder(size: str, rate: str, arguments: str, tmp_path: Path) -> None:
    need("ffmpeg")
    path = tmp_path / "o.mp4"
    subprocess.run(
        ["ffmpeg", "-nostdin", "-v", "error", "-f", "lavfi", "-i", f"testsrc2=s={size}:r={rate}", "-frames:v", "2",
         "-c:v", "libx265", "-preset", "ultrafast", "-tag:v", "hvc1", *arguments.split(), str(path)],
        check=True, timeout=at_most(60),
    )  # fmt: skip
    with av.open(str(path)) as film:
        stream = film.streams.video[0]
        track = MediaTrack(Kind.VIDEO, Codec.H265, 1000, bytes(stream.codec_context.extradata))
        assert codecs.video_size(track) == (stream.width, stream.height)
        assert codecs.frame_rate(track) == pytest.approx(float(stream.average_rate), rel=1e-6)
        hvcc = h265.parse_hvcc(track.config)
        assert (len(hvcc.vps), len(hvcc.sps), len(hvcc.pps), hvcc.length_size) == (1, 1, 1, 4)


def record(fixed: str) -> bytes:
    """An hvcC of 23 bytes without arrays; fixed: the 12 bytes from the profile on."""
    return b"\x01" + bytes.fromhex(fixed) + b"\xf0\0\xfc\xfd\xf8\xf8\0\0\x0f\x00"


@pytest.mark.parametrize(
    ("fixed", "words"),
    [
        # The examples of ISO/IEC 14496-15 §E.3
        ("01 60000000 b00000000000 5d", "hvc1.1.6.L93.B0"),
        ("61 00000000 000000000000 5d", "hvc1.A1.0.H93"),
        ("02 20000000 900000000000 99", "hvc1.2.4.L153.90"),
        ("04 08000000 9d0800000000 78", "hvc1.4.10.L120.9D.8"),
    ],
)
def test_the_codec_string_is_that_of_annex_e(fixed: str, words: str) -> None:
    assert h265.codec_string(record(fixed.replace(" ", ""))) == words


def test_the_record_of_an_encoder_has_a_codec_string() -> None:
    assert h265.codec_string(elementary("h265").track.config).startswith("hvc1.1.6.L")


def test_the_record_knows_its_average_rate() -> None:
    config = bytearray(record("0160000000b000000000005d"))
    config[19:21] = (25 * 256).to_bytes(2, "big")
    track = MediaTrack(Kind.VIDEO, Codec.H265, 1000, bytes(config))
    assert codecs.frame_rate(track) == 25
    assert codecs.video_size(track) is None


def test_every_record_cut_short_is_refused() -> None:
    config = elementary("h265").track.config
    for cut in range(len(config)):
        with pytest.raises(InvalidData):
            h265.parse_hvcc(config[:cut])


def test_a_wrong_record_is_refused() -> None:
    good = record("0160000000b000000000005d")
    for config in (b"\x02" + good[1:], good + bytes(1 << 16), good[:-1] + b"\x01"):
        with pytest.raises(InvalidData):
            h265.parse_hvcc(config)


def test_parameter_sets_of_other_kinds_are_ignored() -> None:
    config = record("0160000000b000000000005d")[:-1] + b"\x01\x27\x00\x01\x00\x02\x4e\x01"
    assert h265.parse_hvcc(config).sps == ()


def test_an_sps_cut_behind_its_size_has_no_rate() -> None:
    sps = h265.parse_hvcc(elementary("h265").track.config).sps[0]
    cut = h265.parse_sps(sps[:-12])
    assert (cut.width, cut.height, cut.frame_rate) == (160, 120, None)


def test_predicted_reference_picture_sets_are_read() -> None:
    # §7.4.8: set 0 is {-1, -2 | 1}; set 1 is predicted from it by +1 (0 falls out), set 2 from that one.
    def ue(value: int) -> str:
        code = f"{value + 1:b}"
        return "0" * (len(code) - 1) + code

    text = ue(2) + ue(1) + (ue(0) + "1") * 2 + ue(0) + "1"
    text += "1" + "0" + ue(0) + "1111"
    text += "1" + "1" + ue(0) + "01" + "00" + "1" + "1"
    bits = BitReader(int(text.ljust(64, "0"), 2).to_bytes(8, "big"), error=InvalidData)
    deltas = h265._short_term_set(bits, 0, ([], []))
    assert deltas == ([-1, -2], [1])
    deltas = h265._short_term_set(bits, 1, deltas)
    assert deltas == ([-1], [1, 2])
    deltas = h265._short_term_set(bits, 2, deltas)
    assert deltas == ([-1, -2], [1])
    assert bits.position == len(text)


@given(st.binary(max_size=120), st.integers(0, 80))
def test_any_bytes_are_read_or_refused(data: bytes, kept: int) -> None:
    sps = h265.parse_hvcc(elementary("h265").track.config).sps[0]
    for parse, start in ((h265.parse_hvcc, b""), (h265.parse_sps, b"\x42\x01"), (h265.parse_sps, sps[:kept])):
        try:
            parse(start + data)
        except InvalidData:
            continue


@pytest.mark.parametrize("unit", [b"", b"\x42\x01", b"\x40\x01" + bytes(20), b"\x42\x01" + bytes(60)])
def test_a_wrong_sps_is_refused(unit: bytes) -> None:
    with pytest.raises(InvalidData):
        h265.parse_sps(unit)
