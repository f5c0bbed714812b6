"""Digital silence in coded sound: real frames of encoders, single bits, and bytes that are no frames."""

from __future__ import annotations

import functools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.media.silence import is_silent
from gateway.media.track import Codec, Kind, MediaTrack
from tests.support.sources import Source, source

ENCODERS = {"aac": ("-c:a", "aac"), "mp3": ("-c:a", "libmp3lame"), "opus": ("-c:a", "libopus")}
STEREO = MediaTrack(Kind.AUDIO, Codec.AAC, 1000, b"\x11\x90")
SILENCE = bytes.fromhex("211004608c1c")


@functools.cache
def encoded(what: str, encoder: str) -> Source:
    return source("-f", "lavfi", "-i", what, "-t", "1", *ENCODERS[encoder], "-b:a", "96k", container="matroska")


def silent(film: Source) -> list[bool]:
    """Whether each frame is silent, without the first and last ones, which encoders fill."""
    return [is_silent(unit.track, unit.payload) for unit in film.units[5:-3]]


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("layout", ["mono", "stereo"])
def test_frames_of_silence_are_silent(encoder, layout):
    assert all(silent(encoded(f"anullsrc=r=48000:cl={layout}", encoder)))


def test_six_silent_channels_are_silent():
    assert all(silent(encoded("anullsrc=r=48000:cl=5.1", "aac")))


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize(
    "sound", ["0.3*sin(2*PI*440*t)", "0.001*sin(2*PI*440*t)", "0.0001*sin(2*PI*440*t)", "0.0003*(random(0)-0.5)"]
)
def test_frames_of_any_sound_are_not_silent(encoder, sound):
    assert not any(silent(encoded(f"aevalsrc={sound}:s=48000", encoder)))


@pytest.mark.parametrize("encoder", ENCODERS)
def test_sound_in_the_second_channel_only_is_not_silent(encoder):
    assert not any(silent(encoded("aevalsrc=0|0.1*sin(2*PI*440*t):s=48000", encoder)))


def test_short_windows_fillers_and_data_elements_are_read():
    # SCE 0: gain, EIGHT_SHORT_SEQUENCE, max_sfb 2, all windows one group, a section of 2 silent bands, three flags
    channel = "0000000000000000100001011111110000010000"
    filler, data = "1100010" + "0" * 16, "100000000000000111111111"
    for bits in (channel + "111", filler + channel + "111", data + channel + filler + "111"):
        padded = bits.ljust(-(-len(bits) // 8) * 8, "0")
        assert is_silent(STEREO, int(padded, 2).to_bytes(len(padded) // 8, "big"))
    loud = channel.replace("0000010000", "0001010000") + "111" + "0" * 7
    assert not is_silent(STEREO, int(loud.ljust(48, "0"), 2).to_bytes(6, "big"))


def test_a_frame_without_channels_is_not_silent():
    assert not is_silent(STEREO, b"\xe0")


@given(st.binary(max_size=64), st.sampled_from([Codec.AAC, Codec.OPUS, Codec.MP3, Codec.FLAC]))
def test_random_bytes_raise_no_error(frame, codec):
    assert is_silent(MediaTrack(Kind.AUDIO, codec, 1000, b"\x11\x90"), frame) in (True, False)


@given(st.integers(0, len(SILENCE) - 2))
def test_a_truncated_frame_is_not_silent(size):
    assert not is_silent(STEREO, SILENCE[:size])


def test_other_kinds_of_aac_are_unknown():
    low_delay = MediaTrack(Kind.AUDIO, Codec.AAC, 1000, b"\xb9\x90")  # object type 23
    assert not is_silent(low_delay, SILENCE)
    assert not is_silent(MediaTrack(Kind.AUDIO, Codec.AAC, 1000, b""), SILENCE)
