"""AudioSpecificConfig, ADTS and MP3 headers, FLAC and AC-3, compared with the output of encoders."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.media import aac, ac3, codecs, flac, mp3
from gateway.media.errors import InvalidData, UnsupportedCodec
from gateway.media.track import Codec, Kind, MediaTrack
from tests.support.elementary import elementary


def bits(text: str) -> bytes:
    text = text.replace(" ", "")
    return int(text.ljust((len(text) + 7) // 8 * 8, "0"), 2).to_bytes((len(text) + 7) // 8, "big")


@pytest.mark.parametrize(
    ("config", "rate", "channels", "samples", "words"),
    [
        ("1210", 44_100, 2, 1024, "mp4a.40.2"),
        ("1190", 48_000, 2, 1024, "mp4a.40.2"),
        ("1188", 48_000, 1, 1024, "mp4a.40.2"),
        ("11b0", 48_000, 6, 1024, "mp4a.40.2"),
        ("0990", 48_000, 2, 1024, "mp4a.40.1"),
        ("1194", 48_000, 2, 960, "mp4a.40.2"),
        ("2b098800", 48_000, 1, 2048, "mp4a.40.5"),  # explicit hierarchical SBR, 24 → 48 kHz
        ("131056e598", 48_000, 2, 2048, "mp4a.40.5"),  # sync extension, SBR
        ("130856e59d4880", 48_000, 2, 2048, "mp4a.40.29"),  # sync extension, SBR and PS
        ("139056e500", 22_050, 2, 1024, "mp4a.40.2"),  # sync extension that says: no SBR
    ],
)  # fmt: skip
def test_configurations_are_read(config: str, rate: int, channels: int, samples: int, words: str) -> None:
    track = MediaTrack(Kind.AUDIO, Codec.AAC, 1000, bytes.fromhex(config))
    assert codecs.audio_rate(track) == rate
    assert codecs.audio_channels(track) == channels
    assert codecs.samples_per_frame(track, b"") == samples
    assert codecs.codec_string(track) == words


def test_a_configuration_is_read_once() -> None:
    """Configurations are asked for at each frame."""
    config = bytes.fromhex("1210")
    assert aac.parse_asc(config) is aac.parse_asc(bytes(bytearray(config)))


def test_an_explicit_rate_has_24_bits() -> None:
    asc = aac.parse_asc(bits("00010 1111" + f"{44_100:024b}" + "0010 000"))
    assert (asc.rate, asc.channels) == (44_100, 2)
    for wrong in (0, 999, 400_000):
        with pytest.raises(InvalidData, match="Hz"):
            aac.parse_asc(bits("00010 1111" + f"{wrong:024b}" + "0010 000"))


def test_long_object_types_are_read() -> None:
    eld = aac.parse_asc(bits("11111 000111 0011 0010 1 0000000"))
    assert (eld.object_type, eld.core_samples) == (39, 480)
    low_delay = aac.parse_asc(bits("10111 0011 0010 000 0000"))
    assert (low_delay.object_type, low_delay.core_samples) == (23, 512)


def test_a_program_config_element_counts_channels() -> None:
    # one front pair, one front single, one back pair, one LFE: 5.1
    elements = "0000 01 0011 0010 0000 0001 01 000 0000 000" + "1 0000 0 0000 1 0000" + "0000"
    body = "00010 0011 0000 000" + elements
    text = body.replace(" ", "")
    text = text.ljust((len(text) + 7) // 8 * 8, "0") + "00000000"
    asc = aac.parse_asc(bits(text))
    assert (asc.channels, asc.channel_config) == (6, 0)
    assert aac.Adts(asc).make_header(100)[2:4] == bytes.fromhex("4d80")


@pytest.mark.parametrize("config", ["", "12", "1780", "12ff", "1178"])
def test_wrong_configurations_are_refused(config: str) -> None:
    with pytest.raises(InvalidData):
        aac.parse_asc(bytes.fromhex(config))
    with pytest.raises(InvalidData):
        aac.parse_asc(bytes(1 << 13))


def test_sbr_that_does_not_double_the_rate_is_refused() -> None:
    with pytest.raises(InvalidData, match="SBR"):
        aac.parse_asc(bits("00101 1011 0010 0011 00010 000"))


@given(st.binary(max_size=40))
def test_any_configuration_is_read_or_refused(data: bytes) -> None:
    try:
        asc = aac.parse_asc(data)
    except InvalidData:
        return
    assert 1 <= asc.channels <= 128
    assert 1000 <= asc.core_rate <= asc.rate <= 384_000
    assert 0 < asc.samples_per_frame <= 4096


@given(st.integers(0, 8_184))
def test_adts_headers_read_back(size: int) -> None:
    header = aac.Adts(aac.parse_asc(b"\x12\x10")).make_header(size)
    assert header[:3] == b"\xff\xf1\x50"
    assert (header[3] & 3) << 11 | header[4] << 3 | header[5] >> 5 == size + 7
    assert (header[5] & 0x1F) << 6 | header[6] >> 2 == 0x7FF


def test_adts_names_the_core_of_sbr() -> None:
    asc = aac.parse_asc(bytes.fromhex("2b098800"))
    assert aac.Adts(asc).make_header(1)[2:4] == bytes.fromhex("5840")


@pytest.mark.parametrize(
    "config", [b"\x11\x94", bits("11111 000111 0011 0010 1 0000000"), bits("00010 0011 1100 000"),
               bits("00010 1111" + f"{37_800:024b}" + "0010 000")]
)  # fmt: skip
def test_a_configuration_that_adts_cannot_express_is_refused(config: bytes) -> None:
    with pytest.raises(UnsupportedCodec):
        aac.Adts(aac.parse_asc(config))


def test_a_frame_beyond_13_bits_is_refused() -> None:
    with pytest.raises(InvalidData):
        aac.Adts(aac.parse_asc(b"\x12\x10")).make_header(8_185)


@pytest.mark.parametrize(
    ("name", "rate", "channels", "samples"), [("mp3", 48_000, 2, 1152), ("mp3-low", 22_050, 1, 576)]
)
def test_mp3_frames_have_their_rate_channels_and_samples(name: str, rate: int, channels: int, samples: int) -> None:
    source = elementary(name)
    for take in source.takes:
        header = mp3.parse_header(take.payload)
        assert (header.rate, header.channels, header.samples) == (rate, channels, samples)
    assert codecs.samples_per_frame(source.track, source.takes[0].payload) == samples
    assert codecs.codec_string(source.track) == "mp4a.40.34"


@pytest.mark.parametrize("frame", ["", "fffb", "fffd9000", "ffeb9000", "fffb9c00", "fffbf000", "00fb9000"])
def test_a_frame_that_is_not_layer_3_is_refused(frame: str) -> None:
    with pytest.raises(InvalidData):
        mp3.parse_header(bytes.fromhex(frame))


@pytest.mark.parametrize(("name", "samples"), [("ac3", 1536), ("eac3", 1536)])
def test_ac3_frames_have_their_samples_and_channels(name: str, samples: int) -> None:
    source = elementary(name)
    assert codecs.samples_per_frame(source.track, source.takes[0].payload) == samples
    assert codecs.audio_channels(source.track, source.takes[0].payload) == 2
    assert codecs.codec_string(source.track) == {"ac3": "ac-3", "eac3": "ec-3"}[name]


@pytest.mark.parametrize(
    "frame", ["", "0b77000000", "0b770000c0400000", "0b7700003f400000", "0b770000008f0000", "0b770000f0800000"]
)
def test_an_invalid_syncframe_is_refused(frame: str) -> None:
    with pytest.raises(InvalidData):
        ac3.parse_frame(bytes.fromhex(frame))


def test_ac3_channels_follow_the_mode() -> None:
    # acmod 7 (3/2) with LFE: cmixlev, surmixlev in between
    frame = bytes.fromhex("0b770000") + bits("00 011100 01000 000 111 01 01 1") + bytes(8)
    assert (ac3.parse_frame(frame).channels, ac3.parse_frame(frame).rate) == (6, 48_000)
    half = b"\x0b\x77" + bits("00 000 00001111111 11 01 010 0 10000") + bytes(8)
    assert (ac3.parse_frame(half).rate, ac3.parse_frame(half).samples) == (22_050, 1536)


def test_flac_frames_have_their_number_of_samples() -> None:
    source = elementary("flac")
    assert [codecs.samples_per_frame(source.track, t.payload) for t in source.takes[:-1]] == [
        b.dts - a.dts for a, b in zip(source.takes, source.takes[1:], strict=False)
    ]
    assert codecs.codec_string(source.track) == "fLaC"
    info = flac.parse_config(source.track.config)
    assert flac.parse_config(b"fLaC\x80\0\0\x22" + source.track.config[-34:]) == info


@pytest.mark.parametrize(
    ("frame", "samples"),
    [("fff81000 00", 192), ("fff82000 00", 576), ("fff85000 00", 4608), ("fff88000 00", 256), ("fff8f000 00", 32768),
     ("fff86000 00 1f", 32), ("fff97000 c280 03ff", 1024)],
)  # fmt: skip
def test_flac_block_sizes(frame: str, samples: int) -> None:
    assert flac.frame_samples(bytes.fromhex(frame)) == samples


@pytest.mark.parametrize("frame", ["", "fff80000 00", "fff86000 00", "fff87000 00 01", "aaaaaaaaaa"])
def test_an_invalid_flac_frame_is_refused(frame: str) -> None:
    with pytest.raises(InvalidData):
        flac.frame_samples(bytes.fromhex(frame))


def test_the_header_of_a_flac_frame_is_recognized_by_its_checksum() -> None:
    frames = [take.payload for take in elementary("flac").takes]
    assert all(flac.begins_frame(frame) for frame in frames)
    assert flac.begins_frame(bytes.fromhex("fff97000c280 03ff c1")), "a coded number of two bytes"
    for changed in range(6):
        data = bytearray(frames[0])
        data[changed] ^= 4
        assert not flac.begins_frame(bytes(data))
    assert not any(flac.begins_frame(frames[0][:size]) for size in range(6))


def test_flac_without_streaminfo_is_refused() -> None:
    for config in (b"", b"fLaC" + bytes(10), b"\x84" + bytes(40), bytes(34)):
        with pytest.raises(InvalidData):
            flac.parse_config(config)


@given(st.binary(max_size=60))
def test_any_frame_is_read_or_refused(data: bytes) -> None:
    for parse in (mp3.parse_header, ac3.parse_frame, flac.frame_samples, flac.parse_config):
        for start in (b"", b"\xff", b"\x0b\x77", b"fLaC\x80\0\0\x22", b"\xff\xf8"):
            try:
                parse(start + data)
            except InvalidData:
                continue


def test_an_adts_header_is_split_from_its_frame() -> None:
    header = aac.Adts(aac.parse_asc(b"\x11\x88")).make_header(3)
    assert aac.split_adts(header + b"abc") == (b"\x11\x88", 7)
    with_checksum = bytes((header[0], header[1] & 0xFE)) + header[2:] + b"\0\0"
    assert aac.split_adts(with_checksum + b"abc") == (b"\x11\x88", 9)
    for data in (b"", b"abc" * 9, b"\xff\xf1\xff\xff" + bytes(9)):
        with pytest.raises(InvalidData):
            aac.split_adts(data)


@pytest.mark.parametrize(
    ("config", "unusual"),
    [
        ("1190", False),
        ("2b118800", False),  # HE-AAC
        ("eb8a0800", False),  # HE-AAC v2
        ("0990", True),  # Main
        ("2190", True),  # LTP
        ("118004c844002000c40d4c61766335392e33372e313030", True),  # with a program_config_element
        ("11b8", False),  # 7.1 by number 7, which browsers play
        ("11e0", True),  # 7.1 by number 12, as newer encoders write it
        ("11d8", True),  # 6.1
        ("11f0", True),  # 7.1 with two channels above
        ("11e8", True),  # 22.2
        ("1194", True),  # frames of 960 samples
        ("17805622" + "10", True),  # 44,100 Hz as a number
        ("11", False),  # damaged: nothing can be said
    ],
)
def test_aac_that_browsers_refuse_is_known(config: str, unusual: bool) -> None:
    assert aac.is_unusual(bytes.fromhex(config)) is unusual
