"""Decoding a track into pictures and sounds, and encoding them: times, key frames, sizes, bitrates."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import av
import pytest

from gateway.media import codecs, h264, h265
from gateway.media.errors import InvalidData
from gateway.media.track import AccessUnit, Codec, Kind, MediaTrack
from gateway.workers.programs.audio_codec import AudioDecoder, AudioEncoder, AudioSamples
from gateway.workers.programs.codec import (
    CodecFailed,
    DecodedPicture,
    VideoDecoder,
    VideoEncoder,
    VideoRecipe,
    estimate_frame_rate,
)
from gateway.workers.sound_protocol import channels_of
from tests.support.media import VP8, VP9
from tests.support.sources import AAC, X264, Source, pictures, source, tone
from tests.support.sources import h264 as ordinary

RECIPE = VideoRecipe("libx264", 320, 180, 300_000, 450_000, Fraction(30), 1000, preset="ultrafast")


def decoded(film: Source) -> list[DecodedPicture]:
    assert film.tracks.video is not None
    decoder = VideoDecoder(film.tracks.video)
    found = [p for unit in film.of(Kind.VIDEO) for p in decoder.decode(unit)] + decoder.flush()
    assert decoder.damaged == 0
    return found


def encoded(shown: list[DecodedPicture], recipe: VideoRecipe = RECIPE) -> tuple[VideoEncoder, list[AccessUnit]]:
    encoder = VideoEncoder(recipe)
    return encoder, [u for p in shown for u in encoder.encode(p.frame.reformat(format="yuv420p"), p)] + encoder.flush()


def shown_times(units: list[AccessUnit]) -> list[int]:
    return [u.dts + u.cts for u in units]


# ---- decoding ----


def test_decoded_pictures_are_ordered_and_keep_the_data_of_their_units() -> None:
    film = ordinary(bframes=2)
    units = sorted(film.of(Kind.VIDEO), key=lambda u: u.dts + u.cts)
    assert [(p.pts, p.key, p.lead, p.wall) for p in decoded(film)] == [
        (u.dts + u.cts, u.key, u.cts, u.wall) for u in units
    ]


@pytest.mark.parametrize(
    ("codec", "arguments", "container"),
    [
        (Codec.H265, ("-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=none"), "mp4"),
        (Codec.AV1, ("-c:v", "libsvtav1", "-preset", "12"), "mp4"),
        (Codec.VP8, VP8, "matroska"),
        (Codec.VP9, VP9, "matroska"),
        (Codec.H264, (*X264, "-pix_fmt", "yuv420p10le"), "mp4"),
        (Codec.H264, (*X264, "-pix_fmt", "yuv444p"), "mp4"),
    ],
)
def test_every_codec_of_pictures_is_decoded(codec: Codec, arguments: tuple[str, ...], container: str) -> None:
    film = source(*pictures(), "-t", "1", *arguments, container=container)
    assert film.tracks.video is not None and film.tracks.video.codec is codec
    found = decoded(film)
    assert [p.pts for p in found] == sorted(u.dts + u.cts for u in film.units)
    assert (found[0].frame.width, found[0].frame.height) == (320, 180)


def test_a_decoder_starts_at_a_key_frame() -> None:
    film = ordinary(bframes=0)
    units = film.of(Kind.VIDEO)
    assert film.tracks.video is not None
    decoder = VideoDecoder(film.tracks.video)
    found = [p for u in units[5:] for p in decoder.decode(u)]
    assert found[0].pts == next(u.dts + u.cts for u in units[5:] if u.key)


@pytest.mark.parametrize("damage", [b"", b"\0\0\0\1", b"\xff" * 300, bytes(2000)])
def test_damaged_units_are_counted_and_the_rest_is_decoded(damage: bytes) -> None:
    film = ordinary(bframes=0)
    units = film.of(Kind.VIDEO)
    assert film.tracks.video is not None
    decoder = VideoDecoder(film.tracks.video)
    found = []
    for n, unit in enumerate(units):
        found += decoder.decode(replace(unit, payload=damage) if n in (40, 41) else unit)
    assert len(units) - 4 <= len(found) + len(decoder.flush()) <= len(units) - 2 + 2
    later = [u.dts + u.cts for u in units[60:]]
    assert set(later) - {p.pts for p in found} == set()
    assert damage == b"" or decoder.damaged >= 1


def test_two_pictures_with_the_same_time_become_one() -> None:
    film = ordinary(bframes=0)
    first, second, *rest = film.of(Kind.VIDEO)
    assert film.tracks.video is not None
    decoder = VideoDecoder(film.tracks.video)
    for unit in (first, replace(second, dts=first.dts, cts=first.cts), *rest):
        decoder.decode(unit)
    assert decoder.damaged == 1


def test_an_invalid_configuration_raises_codec_failed() -> None:
    with pytest.raises(CodecFailed, match="opus cannot be decoded"):
        AudioDecoder(MediaTrack(Kind.AUDIO, Codec.OPUS, 1000, b"nonsense"), 2)


# ---- encoding ----


def test_every_encoded_picture_keeps_its_time_and_its_key_flag() -> None:
    film = ordinary(bframes=2, gop=25)
    _, units = encoded(decoded(film))
    assert shown_times(units) == sorted(shown_times(film.of(Kind.VIDEO)))
    keys = [(u.dts, u.cts, u.wall) for u in film.of(Kind.VIDEO) if u.key]
    assert [(u.dts, u.cts, u.wall) for u in units if u.key] == keys
    assert all(a.dts < b.dts for a, b in pairwise(units))
    assert all(u.cts >= 0 for u in units)


def test_decode_times_grow_if_the_reordering_of_the_source_changes() -> None:
    frames = decoded(ordinary(bframes=0, seconds=1))
    times = list(range(0, 10 * len(frames), 10))
    odd = [
        replace(p, pts=t, key=n % 7 == 0, lead=(n % 3) * 30) for n, (p, t) in enumerate(zip(frames, times, strict=True))
    ]
    _, units = encoded(odd)
    assert shown_times(units) == times
    assert all(a.dts < b.dts for a, b in pairwise(units))
    assert all(u.cts >= 0 for u in units)


def test_encoded_pictures_can_be_decoded() -> None:
    for name in ("libx264", "libx265"):
        encoder, units = encoded(decoded(ordinary(seconds=1)), replace(RECIPE, encoder=name))
        decoder = VideoDecoder(encoder.track)
        found = [p for u in units for p in decoder.decode(u)] + decoder.flush()
        assert [p.pts for p in found] == shown_times(units)
        assert decoder.damaged == 0


def test_the_configuration_describes_the_pictures() -> None:
    track = VideoEncoder(RECIPE).track
    assert codecs.video_size(track) == (320, 180)
    assert codecs.frame_rate(track) == 30
    assert h264.codec_string(track.config).startswith("avc1.")
    track = VideoEncoder(replace(RECIPE, encoder="libx265")).track
    assert codecs.video_size(track) == (320, 180)
    hvcc = h265.parse_hvcc(track.config)
    sps = h265.parse_sps(hvcc.sps[0])
    assert (hvcc.profile, hvcc.level, hvcc.length_size) == (sps.profile, sps.level, 4)
    assert (len(hvcc.vps), len(hvcc.sps), len(hvcc.pps)) == (1, 1, 1)


@pytest.mark.parametrize(
    ("vps", "sps", "pps"),
    [([], [], []), ([], [b"\x42\x01"], []), ([], [b"\x42\x01" + bytes(8)], []), ([], [b"\x40" + bytes(40)], [])],
)
def test_invalid_parameter_sets_are_refused(vps: list[bytes], sps: list[bytes], pps: list[bytes]) -> None:
    with pytest.raises(InvalidData):
        h265.build_hvcc(vps, sps, pps)


def test_the_configured_profile_is_used() -> None:
    track = VideoEncoder(replace(RECIPE, profile="baseline")).track
    assert h264.parse_avcc(track.config).profile == 66


def test_an_impossible_encoder_raises_codec_failed() -> None:
    with pytest.raises(CodecFailed, match="libx264 cannot encode 319x180"):
        VideoEncoder(replace(RECIPE, width=319))


def test_an_encoder_reports_a_source_faster_than_its_frame_rate() -> None:
    frames = decoded(ordinary(bframes=0))
    encoder = VideoEncoder(replace(RECIPE, rate=Fraction(5)))
    for picture in frames:
        encoder.encode(picture.frame, picture)
    assert encoder.outrun
    encoder = VideoEncoder(RECIPE)
    for picture in frames:
        encoder.encode(picture.frame, picture)
    assert not encoder.outrun


@pytest.mark.parametrize(
    ("times", "claimed", "rate"),
    [
        ([0, 33, 67, 100, 133], None, Fraction(30)),
        ([0, 33, 67, 100, 133], 30000 / 1001, Fraction(30000, 1001)),
        ([0, 33, 67, 100, 133], 25.0, Fraction(30)),
        ([0, 40, 80, 120], 90.0, Fraction(25)),
        ([0, 17, 33, 50, 67, 83, 100], None, Fraction(60)),
        ([0, 90, 180], None, Fraction(100, 9)),
        ([0], 50.0, Fraction(50)),
        ([0], None, Fraction(30)),
        ([0, 5_000], None, Fraction(1)),
        ([0, 1], None, Fraction(240)),
    ],
)
def test_the_frame_rate_is_derived_from_timestamps(times: list[int], claimed: float | None, rate: Fraction) -> None:
    assert estimate_frame_rate(times, 1000, claimed) == rate


# ---- sound ----


def sounds(film: Source) -> list[AudioSamples]:
    assert film.tracks.audio is not None
    decoder = AudioDecoder(film.tracks.audio, channels_of(film.tracks.audio))
    found = [s for unit in film.of(Kind.AUDIO) for s in decoder.decode(unit)]
    assert decoder.damaged == 0
    return found


def voiced(heard: list[AudioSamples], bitrate: int = 64_000, channels: int = 2) -> list[AccessUnit]:
    encoder = AudioEncoder(bitrate, channels, 1000)
    return [u for s in heard for u in encoder.encode(s)] + encoder.flush()


@pytest.mark.parametrize(
    ("codec", "arguments", "container"),
    [
        (Codec.AAC, AAC, "mp4"),
        (Codec.AAC, ("-c:a", "aac", "-ac", "1"), "mp4"),
        (Codec.AAC, ("-c:a", "aac", "-ac", "6"), "mp4"),
        (Codec.OPUS, ("-c:a", "libopus",), "matroska"),
        (Codec.MP3, ("-c:a", "libmp3lame",), "matroska"),
        (Codec.FLAC, ("-c:a", "flac",), "matroska"),
        (Codec.AC3, ("-c:a", "ac3",), "matroska"),
    ],
)  # fmt: skip
def test_every_audio_codec_becomes_aac_of_the_same_duration(
    codec: Codec, arguments: tuple[str, ...], container: str
) -> None:
    film = source(*tone(48000 if codec is Codec.OPUS else 44100), "-t", "3", *arguments, container=container)
    assert film.tracks.audio is not None and film.tracks.audio.codec is codec
    heard = sounds(film)
    units = voiced(heard)
    assert sum(s.frame.samples for s in heard) == pytest.approx(3 * 48_000, abs=4_000)
    assert units[0].dts == pytest.approx(film.units[0].dts, abs=25)
    assert units[-1].dts == pytest.approx(film.units[-1].dts, abs=60)
    assert {u.track.config for u in units} == {AudioEncoder(64_000, 2, 1000).track.config}


def test_encoded_sound_keeps_the_pauses_of_the_source() -> None:
    film = source(*tone(), "-t", "3", *AAC)
    units = [u if u.dts < 1000 else replace(u, dts=u.dts + 500) for u in film.units]
    made = voiced(sounds(replace(film, units=tuple(units))))
    gaps = [(a.dts, b.dts - a.dts) for a, b in pairwise(made) if b.dts - a.dts > 30]
    assert len(gaps) == 1
    assert gaps[0][0] == pytest.approx(1000, abs=60)
    assert gaps[0][1] == pytest.approx(520, abs=45)
    assert made[-1].dts == pytest.approx(units[-1].dts, abs=60)


def test_sound_with_decreasing_timestamps_is_encoded_with_increasing_ones() -> None:
    film = source(*tone(), "-t", "3", *AAC)
    units = [u if u.dts < 2000 else replace(u, dts=u.dts - 1500) for u in film.units]
    made = voiced(sounds(replace(film, units=tuple(units))))
    assert all(a.dts < b.dts for a, b in pairwise(made))


def test_damaged_sound_is_counted() -> None:
    film = source(*tone(), "-t", "1", *AAC)
    assert film.tracks.audio is not None
    decoder = AudioDecoder(film.tracks.audio, 2)
    for n, unit in enumerate(film.units):
        decoder.decode(replace(unit, payload=b"\xff" * 50) if n == 10 else unit)
    assert decoder.damaged == 1


def loud(track: MediaTrack, units: list[AccessUnit]) -> float:
    """Returns the time in seconds of the first loud sample."""
    decoder = AudioDecoder(track, 2)
    for unit in units:
        for sound in decoder.decode(unit):
            samples = memoryview(bytes(sound.frame.planes[0])).cast("f")[: sound.frame.samples]
            for n, value in enumerate(samples):
                if abs(value) > 0.3:
                    return (sound.start + n) / 48_000
    raise AssertionError("nothing was loud")


def test_the_delay_of_a_codec_does_not_move_the_sound() -> None:
    click = "aevalsrc='if(between(t,1,1.005),0.9*sin(2*PI*2000*t),0)':s=44100"
    film = source("-f", "lavfi", "-i", click, "-t", "2", *AAC)
    assert film.tracks.audio is not None
    made = voiced(sounds(film))
    assert loud(made[0].track, made) == pytest.approx(loud(film.tracks.audio, list(film.units)), abs=0.002)


def test_the_installed_av_contains_its_encoders() -> None:
    assert {"libx264", "libx265", "aac"} <= av.codecs_available
