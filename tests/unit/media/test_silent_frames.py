"""Silent frames that were written without an encoder decode to zeros."""

from fractions import Fraction

import av
import pytest

from gateway.media import flac
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


def encoded(codec: str, layout: str, rate: int, bit_rate: int = 0, form: str = "fltp") -> tuple[bytes, list[bytes]]:
    """Returns the configuration and some frames of a tone."""
    encoder = av.CodecContext.create(codec, "w")
    assert isinstance(encoder, av.AudioCodecContext)
    encoder.sample_rate, encoder.layout, encoder.format = rate, layout, form
    if bit_rate:
        encoder.bit_rate = bit_rate
    encoder.open()
    count = encoder.frame_size
    frames = []
    for n in range(3):
        frame = av.AudioFrame(form, layout, count)
        frame.sample_rate, frame.pts = rate, n * count
        for plane in frame.planes:
            plane.update((b"\x12\x34\x56\x3d" * plane.buffer_size)[: plane.buffer_size])
        frames += [bytes(packet) for packet in encoder.encode(frame)]
    return bytes(encoder.extradata or b""), frames


def decoded(codec: str, config: bytes, frames: list[bytes]) -> list[av.AudioFrame]:
    """Decodes frames; each error, also of a checksum, is raised."""
    decoder = av.CodecContext.create(codec, "r")
    decoder.options = {"err_detect": "crccheck+bitstream+explode"}
    decoder.extradata = config or None
    return [frame for data in frames for frame in decoder.decode(av.Packet(data))]  # type: ignore[attr-defined]


@pytest.mark.parametrize("rate", [48_000, 44_100, 32_000])
@pytest.mark.parametrize(
    "layout", ["mono", "stereo", "3.0(back)", "3.0", "4.0", "quad(side)", "5.0(side)", "5.1(side)"]
)
@pytest.mark.parametrize("bit_rate", [0, 640_000])
def test_ac3_frames_are_silent_and_like_those_of_the_track(layout: str, rate: int, bit_rate: int) -> None:
    _, frames = encoded("ac3", layout, rate, bit_rate)
    frame = silent_frame(track("", Codec.AC3), frames[0])
    assert frame is not None
    assert frame.seconds == Fraction(1536, rate)
    assert frame.payload[4:7] == frames[0][4:7]
    heard = decoded("ac3", b"", [frames[0], *[frame.payload] * 3])
    assert [(f.sample_rate, f.layout.name) for f in heard] == [(rate, heard[0].layout.name)] * 4
    assert any(any(bytes(plane)) for plane in heard[0].planes)
    assert not any(any(bytes(plane)) for f in heard[2:] for plane in f.planes)  # the first one fades out


@pytest.mark.parametrize(("layout", "form"), [("mono", "s16"), ("stereo", "s16"), ("5.1", "s32")])
@pytest.mark.parametrize("rate", [48_000, 44_100])
def test_flac_frames_are_silent(layout: str, form: str, rate: int) -> None:
    config, frames = encoded("flac", layout, rate, form=form)
    frame = silent_frame(track(config.hex(), Codec.FLAC))
    assert frame is not None
    assert frame.seconds == Fraction(flac.frame_samples(frames[0]), rate)
    heard = decoded("flac", config, [frames[0], *[frame.payload] * 3])
    assert [(f.sample_rate, f.samples) for f in heard] == [(rate, heard[0].samples)] * 4
    assert not any(any(bytes(plane)) for f in heard[1:] for plane in f.planes)


@pytest.mark.parametrize(
    ("codec", "config"),
    [
        (Codec.AAC, "1180"),
        (Codec.AAC, "11"),
        (Codec.AAC, "f8e8501000"),
        (Codec.MP3, ""),
        (Codec.AC3, ""),
        (Codec.FLAC, ""),
    ],
)
def test_unknown_configurations_have_no_silent_frame(codec: Codec, config: str) -> None:
    assert silent_frame(track(config, codec)) is None
