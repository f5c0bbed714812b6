"""Silent frames that were written without an encoder decode to zeros."""

from fractions import Fraction

import av
import pytest

from gateway.media import flac
from gateway.media.ac3 import parse_frame
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


LAYOUTS = ["mono", "stereo", "3.0(back)", "3.0", "4.0", "quad(side)", "5.0(side)", "5.1(side)"]


@pytest.mark.parametrize("rate", [48_000, 44_100, 32_000])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("bit_rate", [0, 640_000])
@pytest.mark.parametrize("codec", [Codec.AC3, Codec.EAC3])
def test_dolby_frames_are_silent_and_like_those_of_the_track(
    codec: Codec, layout: str, rate: int, bit_rate: int
) -> None:
    _, frames = encoded(codec, layout, rate, bit_rate)
    frame = silent_frame(track("", codec), frames[0])
    assert frame is not None
    assert frame.seconds == Fraction(1536, rate)
    assert parse_frame(frame.payload) == parse_frame(frames[0])
    assert len(frame.payload) == len(frames[0])
    heard = decoded(codec, b"", [frames[0], *[frame.payload] * 3])
    assert [(f.sample_rate, f.layout.name) for f in heard] == [(rate, heard[0].layout.name)] * 4
    assert any(any(bytes(plane)) for plane in heard[0].planes)
    assert not any(any(bytes(plane)) for f in heard[2:] for plane in f.planes)  # the first one fades out


def eac3(
    strmtyp: int = 0,
    fscod: int = 0,
    numblkscod: int = 3,
    acmod: int = 2,
    lfeon: int = 0,
    size: int = 256,
    more: str = "",
) -> bytes:
    """Returns a syncframe of E-AC-3 with a valid head. more: digits after dialnorm."""
    digits = f"{strmtyp:02b}000{size // 2 - 1:011b}{fscod:02b}{numblkscod:02b}{acmod:03b}{lfeon}1000011011{more}"
    return b"\x0b\x77" + int(digits.ljust(112, "0"), 2).to_bytes(14, "big") + bytes(size - 16)


@pytest.mark.parametrize("acmod", range(8))
@pytest.mark.parametrize("lfeon", [0, 1])
@pytest.mark.parametrize(
    ("strmtyp", "fscod", "numblkscod", "rate", "samples"),
    [
        *((0, 0, code, 48_000, samples) for code, samples in enumerate((256, 512, 768, 1536))),
        (0, 1, 2, 44_100, 768), (0, 2, 3, 32_000, 1536), (2, 0, 3, 48_000, 1536),
    ],
)  # fmt: skip
def test_eac3_frames_are_silent_in_each_channel_mode_and_rate(
    acmod: int, lfeon: int, strmtyp: int, fscod: int, numblkscod: int, rate: int, samples: int
) -> None:
    given = eac3(strmtyp, fscod, numblkscod, acmod, lfeon)
    frame = silent_frame(track("", Codec.EAC3), given)
    assert frame is not None
    assert frame.seconds == Fraction(samples, rate)
    assert parse_frame(frame.payload) == parse_frame(given)
    heard = decoded("eac3", b"", [frame.payload] * 2)
    channels = (2, 1, 2, 3, 3, 4, 4, 5)[acmod] + lfeon
    assert [(f.sample_rate, f.samples, f.layout.nb_channels) for f in heard] == [(rate, samples, channels)] * 2
    assert not any(any(bytes(plane)) for f in heard for plane in f.planes)


@pytest.mark.parametrize(("half", "rate"), [(0, 24_000), (1, 22_050), (2, 16_000)])
def test_silence_of_eac3_at_half_the_rate_differs_in_its_head_only(half: int, rate: int) -> None:
    """FFmpeg does not decode these rates."""
    frame = silent_frame(track("", Codec.EAC3), eac3(fscod=3, numblkscod=half))
    whole = silent_frame(track("", Codec.EAC3), eac3())
    assert frame is not None and whole is not None
    assert frame.seconds == Fraction(1536, rate)
    assert frame.payload[5:-2] == whole.payload[5:-2]


@pytest.mark.parametrize(
    ("acmod", "before"), [(2, "0"), (2, "110101010"), (0, "0111110"), (0, "110101010" + "11111" + "100001111")]
)
def test_silence_of_eac3_has_the_dependent_substreams_of_the_track(acmod: int, before: str) -> None:
    """7.1 channels: 5.1, and two channels at the back in a substream of their own."""
    back = f"{1 << 9:016b}"  # Lrs and Rrs
    frame = silent_frame(track("", Codec.EAC3), eac3(acmod=7, lfeon=1) + eac3(1, acmod=acmod, more=f"{before}1{back}"))
    assert frame is not None
    assert len(frame.payload) == 512
    assert frame.seconds == Fraction(1536, 48_000)
    heard = decoded("eac3", b"", [frame.payload] * 2)
    assert [(f.samples, f.layout.name) for f in heard] == [(1536, "7.1")] * 2
    assert not any(any(bytes(plane)) for f in heard for plane in f.planes[:8])


def test_syncframes_without_room_for_silence_have_none() -> None:
    assert silent_frame(track("", Codec.EAC3), eac3(size=16)) is None
    assert silent_frame(track("", Codec.EAC3), eac3() + 9 * eac3(1)) is None


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
        (Codec.EAC3, ""),
        (Codec.FLAC, ""),
    ],
)
def test_unknown_configurations_have_no_silent_frame(codec: Codec, config: str) -> None:
    assert silent_frame(track(config, codec)) is None
