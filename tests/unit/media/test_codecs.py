"""Tracks as the API describes them."""

import pytest

from gateway.media import codecs
from gateway.media.errors import InvalidData
from gateway.media.track import Codec, Kind, MediaTrack
from tests.support.elementary import elementary


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("h264", {"kind": "video", "codec": "h264", "profile": "High", "width": 160, "height": 120, "frameRate": 30.0}),
        ("h265", {"kind": "video", "codec": "h265", "profile": "Main", "width": 160, "height": 120, "frameRate": 30.0}),
        ("av1", {"kind": "video", "codec": "av1", "profile": "Main", "width": 160, "height": 120, "frameRate": None}),
        ("vp9", {"kind": "video", "codec": "vp9", "profile": "Profile 0", "width": 160, "height": 120,
                 "frameRate": None}),
        ("aac", {"kind": "audio", "codec": "aac", "profile": "LC", "sampleRate": 48_000, "channels": 2}),
        ("opus", {"kind": "audio", "codec": "opus", "profile": None, "sampleRate": 48_000, "channels": 2}),
        ("mp3-low", {"kind": "audio", "codec": "mp3", "profile": None, "sampleRate": 22_050, "channels": 1}),
        ("flac", {"kind": "audio", "codec": "flac", "profile": None, "sampleRate": 48_000, "channels": 1}),
        ("ac3", {"kind": "audio", "codec": "ac3", "profile": None, "sampleRate": 48_000, "channels": 2}),
    ],
)  # fmt: skip
def test_a_track_is_described(name: str, wanted: dict[str, object]) -> None:
    source = elementary(name)
    assert codecs.describe(source.track, source.takes[0].payload) == wanted


@pytest.mark.parametrize(
    ("config", "profile"), [("2b098800", "HE-AAC"), ("130856e59d4880", "HE-AACv2"), ("0990", "Main")]
)
def test_aac_profiles_have_names(config: str, profile: str) -> None:
    assert codecs.describe(MediaTrack(Kind.AUDIO, Codec.AAC, 1000, bytes.fromhex(config)))["profile"] == profile


@pytest.mark.parametrize("codec", list(Codec))
def test_a_broken_configuration_is_described_as_far_as_possible(codec: Codec) -> None:
    for kind in Kind:
        found = codecs.describe(MediaTrack(kind, codec, 1000, b"\xff"), b"\xff")
        assert found["codec"] == codec.value


def test_functions_for_audio_refuse_video_tracks() -> None:
    video, audio = MediaTrack(Kind.VIDEO, Codec.H264, 1000, b""), MediaTrack(Kind.AUDIO, Codec.AAC, 1000, b"\x12\x10")
    for ask in (codecs.audio_rate, codecs.audio_channels):
        with pytest.raises(InvalidData):
            ask(video)
    with pytest.raises(InvalidData):
        codecs.samples_per_frame(video, b"")
    assert codecs.video_size(audio) is None
    assert codecs.frame_rate(audio) is None


def test_opus_without_a_head_is_stereo() -> None:
    assert codecs.audio_channels(MediaTrack(Kind.AUDIO, Codec.OPUS, 1000, b"")) == 2
