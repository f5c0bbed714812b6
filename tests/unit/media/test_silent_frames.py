"""Silent frames that were written without an encoder decode to zeros."""

from fractions import Fraction

import av
import pytest

from gateway.media.mp3 import parse_header
from gateway.media.silence import is_silent
from gateway.media.silent_frames import silent_frame
from gateway.media.track import Codec, Kind, MediaTrack


def track(config: str, codec: Codec = Codec.AAC) -> MediaTrack:
    return MediaTrack(Kind.AUDIO, codec, 1000, bytes.fromhex(config))


@pytest.mark.parametrize(
    ("config", "channels", "seconds"),
    [
        ("1190", 2, Fraction(1024, 48_000)),
        ("1208", 1, Fraction(1024, 44_100)),
        ("121056e500", 2, Fraction(1024, 44_100)),  # with the extension that ffmpeg writes
        ("1398", 3, Fraction(1024, 22_050)),
        ("11b0", 6, Fraction(1024, 48_000)),
        ("11b8", 8, Fraction(1024, 48_000)),
        ("2b118800", 2, Fraction(1024, 24_000)),  # HE-AAC: 24 kHz, and 48 kHz after SBR
    ],
)
def test_aac_frames_are_silent(config: str, channels: int, seconds: Fraction) -> None:
    given = track(config)
    frame = silent_frame(given)
    assert frame is not None
    assert frame.seconds == seconds
    assert is_silent(given, frame.payload)
    decoder = av.CodecContext.create("aac", "r")
    decoder.extradata = given.config
    decoded = [f for _ in range(4) for f in decoder.decode(av.Packet(frame.payload))]  # type: ignore[attr-defined]
    assert len(decoded) >= 3
    assert decoded[0].layout.nb_channels == channels
    packed = av.AudioResampler("s16")
    assert not any(any(bytes(out.planes[0])) for f in decoded for out in packed.resample(f))


@pytest.mark.parametrize("config", ["", "4f707573486561640101000080bb0000000000"])
def test_opus_frames_are_silent(config: str) -> None:
    given = track(config, Codec.OPUS)
    frame = silent_frame(given)
    assert frame is not None
    assert is_silent(given, frame.payload)
    assert frame.seconds == Fraction(1, 50)


@pytest.mark.parametrize("head", ["fffb9064", "fffa92c4", "fff382c4", "ffe340c4"])
def test_mp3_frames_are_silent_and_like_those_of_the_track(head: str) -> None:
    given = track("", Codec.MP3)
    sample = bytes.fromhex(head)
    frame = silent_frame(given, sample + b"\x55" * 400)
    assert frame is not None
    assert is_silent(given, frame.payload)
    header = parse_header(sample)
    assert frame.seconds == Fraction(header.samples, header.rate)
    decoder = av.CodecContext.create("mp3", "r")
    decoded = [f for _ in range(4) for f in decoder.decode(av.Packet(frame.payload))]  # type: ignore[attr-defined]
    assert len(decoded) >= 3
    assert (decoded[0].sample_rate, decoded[0].layout.nb_channels) == (header.rate, header.channels)
    packed = av.AudioResampler("s16")
    assert not any(any(bytes(out.planes[0])) for f in decoded for out in packed.resample(f))


@pytest.mark.parametrize(
    ("codec", "config"), [(Codec.AAC, "1180"), (Codec.AAC, "11"), (Codec.AAC, "f8e8501000"), (Codec.MP3, "")]
)
def test_unknown_configurations_have_no_silent_frame(codec: Codec, config: str) -> None:
    assert silent_frame(track(config, codec)) is None
