"""av1C, sequence headers and samples, against libaom, SVT-AV1, ffmpeg's names and PyAV."""

import subprocess
from pathlib import Path

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.media import av1, codecs, vp9
from gateway.media.errors import InvalidData
from gateway.media.track import Codec, Kind, MediaTrack
from tests.support.elementary import elementary
from tests.support.time_outs import at_most
from tests.support.tools import need


@pytest.mark.parametrize(
    ("arguments", "codec"),
    [
        ("-c:v libaom-av1 -cpu-used 8 -usage realtime -pix_fmt yuv420p", Codec.AV1),
        ("-c:v libsvtav1 -preset 12 -pix_fmt yuv420p10le", Codec.AV1),
        ("-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -pix_fmt yuv420p", Codec.VP9),
        ("-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -pix_fmt yuv444p10le", Codec.VP9),
    ],
)
def test_size_and_name_are_those_of_ffmpeg(arguments: str, codec: Codec, tmp_path: Path) -> None:
    need("ffmpeg")
    subprocess.run(
        ["ffmpeg", "-nostdin", "-v", "error", "-f", "lavfi", "-i", "testsrc2=s=322x182:r=30", "-frames:v", "3",
         *arguments.split(), "-dash_segment_type", "mp4", "-f", "dash", "o.mpd"], check=True,
        timeout=at_most(60), cwd=tmp_path, capture_output=True,
    )  # fmt: skip
    theirs = (tmp_path / "o.mpd").read_text().split('codecs="')[1].split('"')[0]
    film_path = tmp_path / "o.mp4"
    film_path.write_bytes(
        b"".join((tmp_path / n).read_bytes() for n in ("init-stream0.m4s", "chunk-stream0-00001.m4s"))
    )
    with av.open(str(film_path)) as film:
        stream = film.streams.video[0]
        first = bytes(next(iter(film.demux(stream))))
        config = bytes(stream.codec_context.extradata or b"")
        track = MediaTrack(Kind.VIDEO, codec, 1000, config)
        assert codecs.video_size(track, first) == (322, 182)
        ours = codecs.codec_string(track, first)
        # For VP9 the level is the encoder's guess from rate and size, ours from the size alone.
        assert ours == theirs or (codec is Codec.VP9 and ours.split(".")[::3] == theirs.split(".")[::3])
        if codec is Codec.VP9:
            assert codecs.vpcc(track, first).profile == (1 if "444p" in arguments else 0) + 2 * ("10le" in arguments)


def obu(kind: int, payload: bytes) -> bytes:
    return bytes((kind << 3 | 2, len(payload))) + payload


def test_temporal_delimiters_padding_and_tile_lists_are_removed() -> None:
    frame = obu(6, b"frame")
    assert av1.sample(b"\x12\x00" + obu(15, b"pad") + frame + obu(8, b"tiles")) == frame


def test_a_sample_in_order_is_not_copied() -> None:
    sample = elementary("av1").takes[0].payload
    assert av1.sample(sample) is sample
    assert av1.sample(b"\x12\x00" + sample) == sample


def test_the_last_obu_may_have_no_size() -> None:
    assert av1.sample(b"\x12\x00" + b"\x30frame") == b"\x30frame"


def test_the_key_frame_has_the_size_if_the_record_has_none() -> None:
    source = elementary("av1")
    track = MediaTrack(Kind.VIDEO, Codec.AV1, 1000, source.track.config[:4])
    assert codecs.video_size(track) is None
    assert codecs.video_size(track, source.takes[0].payload) == (160, 120)
    assert codecs.frame_rate(track) is None


@pytest.mark.parametrize("data", [b"\x80", b"\x0a", b"\x0a\x05\x00", b"\x0a" + b"\x80" * 8, b"\x0c", b"\x0e\x00"])
def test_broken_obus_are_refused(data: bytes) -> None:
    with pytest.raises(InvalidData):
        av1.obus(data)


def test_too_many_obus_are_refused() -> None:
    with pytest.raises(InvalidData, match="more than"):
        av1.sample(b"\x12\x00" * 5_000)


def test_a_wrong_record_is_refused() -> None:
    for config in (b"\x81\0\0", b"\x01\0\0\0", b"\x81\0\0\0" + bytes(1 << 16)):
        with pytest.raises(InvalidData):
            av1.parse_av1c(config)


@pytest.mark.parametrize(
    ("config", "words"),
    [("81040c00", "av01.0.04M.08"), ("8128ec00", "av01.1.08H.12"), ("81054c00", "av01.0.05M.10")],
)
def test_the_record_is_named(config: str, words: str) -> None:
    assert av1.codec_string(bytes.fromhex(config)) == words


def bits(text: str) -> bytes:
    text = text.replace(" ", "")
    return int(text.ljust((len(text) + 7) // 8 * 8, "0"), 2).to_bytes((len(text) + 7) // 8, "big")


def test_a_sequence_header_with_timing_and_decoder_model_is_read() -> None:
    timing = f"{1:032b}{60:032b}" + "1" + "010" + "1" + f"{9:05b}" + "0" * 42
    point = "0" * 12 + f"{9:05b}" + "1" + "1" + "0" * 10 + "0" * 11 + "1" + "0000"
    header = "000 0 0 1" + timing + "1" + "00000" + point + f"{8:04b}{8:04b}{319:09b}{179:09b}"
    found = av1.parse_sequence_header(bits(header))
    assert found == av1.SequenceHeader(0, 9, 1, 320, 180, 30.0)


def test_a_still_picture_header_is_read() -> None:
    found = av1.parse_sequence_header(bits("001 1 1 00101" + f"{3:04b}{3:04b}{15:04b}{9:04b}"))
    assert (found.profile, found.level, found.width, found.height, found.frame_rate) == (1, 5, 16, 10, None)


@given(st.binary(max_size=80))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for parse in (av1.parse_av1c, av1.sample, av1.sequence_header, av1.parse_sequence_header, vp9.parse_vpcc,
                  vp9.frame_size, vp9.vpcc_of, vp9.vp8_frame_size):  # fmt: skip
        try:
            parse(data)
        except InvalidData:
            continue


def test_vpcc_is_read_with_and_without_its_version() -> None:
    record = bytes.fromhex("001f800202020000")
    assert vp9.parse_vpcc(b"\x01\0\0\0" + record) == vp9.parse_vpcc(record)
    assert vp9.codec_string(vp9.parse_vpcc(record)) == "vp09.00.31.08"
    assert vp9.parse_vpcc(record[:6]).record == record
    for wrong in (b"\x04" + record[1:], b"\x00\x1f\x10" + record[3:], record[:5]):
        with pytest.raises(InvalidData):
            vp9.parse_vpcc(wrong)


def test_vp9_pictures_between_keys_have_no_size() -> None:
    source = elementary("vp9")
    assert vp9.frame_size(source.takes[1].payload) is None
    with pytest.raises(InvalidData, match="neither"):
        vp9.vpcc_of(source.takes[1].payload)


def test_vp8_key_frames_have_their_size() -> None:
    assert vp9.vp8_frame_size(b"\x10\x02\x00\x9d\x01\x2a\x40\x41\xb4\x00") == (320, 180)
    assert vp9.vp8_frame_size(b"\x11") is None
    track = MediaTrack(Kind.VIDEO, Codec.VP8, 1000, b"")
    assert codecs.codec_string(track) == "vp08.00.10.08"
    assert codecs.video_size(track, b"\x10\x02\x00\x9d\x01\x2a\x40\x01\xb4\x00") == (320, 180)
    for wrong in (b"", b"\x10\x02\x00\x9d\x01\x2b\x40\x01\xb4\x00"):
        with pytest.raises(InvalidData):
            vp9.vp8_frame_size(wrong)
