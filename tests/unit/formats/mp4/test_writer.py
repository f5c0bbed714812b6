"""fMP4 of our writers, checked with ffmpeg, PyAV and our own reader."""

from __future__ import annotations

import struct
from pathlib import Path

import av
import pytest

from gateway.formats.mp4 import reader
from gateway.formats.mp4.fragment import Mp4Sample, fragment
from gateway.formats.mp4.init import init_segment
from gateway.media import codecs
from gateway.media.errors import InvalidData, UnsupportedCodec
from gateway.media.track import Codec, Kind, MediaTrack
from tests.support import mp4
from tests.support.elementary import Elementary, assert_same, elementary, played

VIDEO = ["h264", "h264-b", "h265", "av1", "vp9"]
AUDIO = ["aac", "aac-mono", "opus", "mp3", "mp3-low", "flac", "ac3", "eac3"]


def samples_of(source: Elementary) -> list[Mp4Sample]:
    ends = [t.dts for t in source.takes[1:]] + [2 * source.takes[-1].dts - source.takes[-2].dts]
    return [Mp4Sample(e - t.dts, t.cts, t.key, t.payload) for t, e in zip(source.takes, ends, strict=True)]


def written(source: Elementary, path: Path, *, part: int = 15, base: int = 0) -> Path:
    """Writes the stream as an init segment and fragments of `part` samples."""
    first = source.takes[0].payload
    out = [init_segment(source.track, payload=first)]
    samples = samples_of(source)
    for n in range(0, len(samples), part):
        out.append(
            fragment(n // part + 1, 1, base + source.takes[n].dts, samples[n : n + part], styp=n % (2 * part) == 0)
        )
    path.write_bytes(b"".join(out))
    return path


@pytest.mark.parametrize("name", VIDEO)
def test_ffmpeg_decodes_the_same_frames_as_from_the_source(name: str, tmp_path: Path) -> None:
    source = elementary(name)
    got, wanted = played(written(source, tmp_path / "o.mp4")), played(source.path)
    assert_same(got.pictures, wanted.pictures, within=0.000_1)


@pytest.mark.parametrize("name", VIDEO + AUDIO)
def test_pyav_reads_back_all_packets_and_times(name: str, tmp_path: Path) -> None:
    source = elementary(name)
    with av.open(str(written(source, tmp_path / "o.mp4"))) as film:
        stream = film.streams[0]
        packets = [p for p in film.demux(stream) if p.dts is not None]
        assert stream.time_base.denominator == source.track.timescale
        assert [bytes(p) for p in packets] == [t.payload for t in source.takes]
        assert [p.dts for p in packets] == [t.dts for t in source.takes]
        assert [p.pts - p.dts for p in packets] == [t.cts for t in source.takes]
        assert [p.is_keyframe for p in packets] == [t.key for t in source.takes]
        if source.track.codec not in (Codec.MP3, Codec.AC3, Codec.EAC3):
            assert bytes(stream.codec_context.extradata or b"") == source.track.config


@pytest.mark.parametrize("name", ["aac", "aac-mono", "opus", "mp3", "flac", "ac3", "eac3"])
def test_ffmpeg_decodes_the_same_sound_as_from_the_source(name: str, tmp_path: Path) -> None:
    source = elementary(name)
    got = played(written(source, tmp_path / "o.mp4"))
    with av.open(str(source.path)) as film:
        track = film.streams.audio[0]
        assert len(got.sounds) >= len(source.takes) - 2
        assert codecs.audio_rate(source.track, source.takes[0].payload) == track.rate
        assert codecs.audio_channels(source.track, source.takes[0].payload) == track.channels


def test_times_above_32_bits_are_kept(tmp_path: Path) -> None:
    source, base = elementary("h264-b"), 1 << 40
    with av.open(str(written(source, tmp_path / "o.mp4", base=base))) as film:
        assert next(iter(film.demux(video=0))).dts == base


def test_negative_composition_offsets_are_kept(tmp_path: Path) -> None:
    source = elementary("h264-b")
    shift = max(t.cts for t in source.takes)
    samples = [Mp4Sample(s.duration, s.cts - shift, s.key, s.payload) for s in samples_of(source)]
    data = init_segment(source.track) + fragment(1, 1, 90_000, samples)
    path = tmp_path / "o.mp4"
    path.write_bytes(data)
    assert_same(played(path).pictures, played(source.path).pictures, within=0.000_1)
    assert [s.cts for s in reader.parse_fragments(data)[0].samples] == [s.cts for s in samples]


def test_the_reader_reads_back_all_fragments_of_the_writer() -> None:
    source = elementary("h264-b")
    samples = samples_of(source)
    data = b"".join(fragment(n, 7, 1000 * n, samples[:n]) for n in range(1, 5))
    back = reader.parse_fragments(data)
    assert [(f.track_id, f.base_decode_time) for f in back] == [(7, 1000 * n) for n in range(1, 5)]
    assert [f.samples for f in back] == [samples[:n] for n in range(1, 5)]


def test_joined_media_of_parts_equals_the_media_of_their_segment() -> None:
    samples = samples_of(elementary("h264"))[:30]
    parts = [fragment(n, 1, 0, samples[n : n + 10]) for n in (0, 10, 20)]
    assert mp4.mdat(b"".join(parts)) == mp4.mdat(fragment(1, 1, 0, samples))


def test_audio_of_constant_duration_stores_only_sample_sizes() -> None:
    frames = [Mp4Sample(1024, 0, True, bytes([n]) * (n + 1)) for n in range(24)]
    data = fragment(1, 2, 1 << 33, frames)
    assert len(data) == 8 + 16 + 8 + 24 + 20 + 20 + 4 * 24 + 8 + sum(range(1, 25))
    assert reader.parse_fragments(data)[0].samples == frames


@pytest.mark.parametrize("key", [True, False])
def test_sample_flags_distinguish_key_frames_from_other_frames(key: bool) -> None:
    data = fragment(1, 1, 0, [Mp4Sample(1, 0, key, b"a"), Mp4Sample(2, 0, False, b"b")])
    at = data.index(b"trun") + 16
    assert struct.unpack_from(">III", data, at) == (1, 1, 0x02000000 if key else 0x01010000)


def test_a_fragment_may_have_no_samples() -> None:
    assert reader.parse_fragments(fragment(1, 1, 5, []))[0].samples == []


def test_sequence_numbers_wrap() -> None:
    data = fragment((1 << 32) + 3, 1, 0, [])
    assert reader.u32(data, reader.need(data, None, b"moof", b"mfhd"), 4) == 3


def test_a_segment_starts_with_a_styp_box() -> None:
    assert [b.kind for b in reader.boxes(fragment(1, 1, 0, [], styp=True))] == [b"styp", b"moof", b"mdat"]


@pytest.mark.parametrize(
    ("name", "entry", "config_box"),
    [("h264", b"avc1", b"avcC"), ("h265", b"hvc1", b"hvcC"), ("av1", b"av01", b"av1C"), ("vp9", b"vp09", b"vpcC")],
)
def test_the_init_segment_describes_a_video_track(name: str, entry: bytes, config_box: bytes) -> None:
    source = elementary(name)
    data = init_segment(source.track, timescale=90_000, payload=source.takes[0].payload)
    (track,) = mp4.parse_init(data)
    assert (track.track_id, track.timescale, track.handler) == (1, 90_000, b"vide")
    assert (track.entry, track.config_box) == (entry, config_box)
    assert (track.width, track.height) == (160, 120)
    assert track.config.endswith(source.track.config)


@pytest.mark.parametrize(
    ("name", "entry", "config_box", "rate", "channels"),
    [
        ("aac", b"mp4a", b"esds", 48_000, 2),
        ("aac-mono", b"mp4a", b"esds", 44_100, 1),
        ("opus", b"Opus", b"dOps", 48_000, 2),
        ("mp3", b"mp4a", b"esds", 48_000, 2),
        ("mp3-low", b"mp4a", b"esds", 22_050, 1),
        ("flac", b"fLaC", b"dfLa", 48_000, 1),
        ("ac3", b"ac-3", b"dac3", 48_000, 2),
        ("eac3", b"ec-3", b"dec3", 48_000, 2),
    ],
)
def test_the_init_segment_describes_an_audio_track(
    name: str, entry: bytes, config_box: bytes, rate: int, channels: int
) -> None:
    source = elementary(name)
    (track,) = mp4.parse_init(init_segment(source.track, payload=source.takes[0].payload))
    assert (track.handler, track.entry, track.config_box) == (b"soun", entry, config_box)
    assert (track.sample_rate, track.channels) == (rate, channels)


@pytest.mark.parametrize(("name", "box"), [("ac3", b"dac3"), ("eac3", b"dec3"), ("opus", b"dOps"), ("flac", b"dfLa")])
def test_codec_boxes_equal_those_of_ffmpeg(name: str, box: bytes) -> None:
    source = elementary(name)
    (track,) = mp4.parse_init(init_segment(source.track, payload=source.takes[0].payload))
    theirs = source.path.read_bytes()
    at = theirs.index(box) + 4
    assert track.config == theirs[at : at + len(track.config)]


def test_mp3_tracks_have_the_right_object_type() -> None:
    for name, kind in (("mp3", 0x6B), ("mp3-low", 0x69)):
        source = elementary(name)
        data = init_segment(source.track, payload=source.takes[0].payload)
        at = data.index(b"\x04\x80\x80\x80\x0d")
        assert data[at + 5] == kind


def test_an_mp3_track_without_a_frame_is_refused() -> None:
    with pytest.raises(InvalidData, match="only in its frames"):
        init_segment(MediaTrack(Kind.AUDIO, Codec.MP3, 1000, b""))


def test_a_broken_configuration_is_refused() -> None:
    for codec in (Codec.H264, Codec.H265, Codec.AV1, Codec.VP9):
        with pytest.raises(InvalidData):
            init_segment(MediaTrack(Kind.VIDEO, codec, 1000, b"\x07\x08"))


def test_a_codec_of_the_wrong_kind_is_refused() -> None:
    with pytest.raises(UnsupportedCodec):
        init_segment(MediaTrack(Kind.VIDEO, Codec.AAC, 1000, b"\x11\x90"), size=(1, 1))
    with pytest.raises(UnsupportedCodec):
        init_segment(MediaTrack(Kind.AUDIO, Codec.H264, 1000, b""))


def test_a_timescale_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match="timescale"):
        init_segment(MediaTrack(Kind.AUDIO, Codec.OPUS, 1000, b""), timescale=1 << 32)


def test_opus_without_a_header_is_stereo() -> None:
    (track,) = mp4.parse_init(init_segment(MediaTrack(Kind.AUDIO, Codec.OPUS, 1000, b"")))
    assert (track.entry, track.channels, track.sample_rate) == (b"Opus", 2, 48_000)
