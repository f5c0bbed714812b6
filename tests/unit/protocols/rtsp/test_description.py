"""The description of a stream, as players read it."""

from __future__ import annotations

import pytest

from gateway.media.track import Codec, Kind, MediaTrack
from gateway.protocols.rtsp.description import SentTrack, sent_track, write_description
from gateway.protocols.rtsp.received_track import RtspTrack
from gateway.protocols.rtsp.session_description import parse_description
from tests.support.builders import AUDIO, VIDEO


def described(*tracks: SentTrack | None) -> str:
    return write_description([track for track in tracks if track is not None], "192.0.2.1", "c1", 3).decode()


def test_tracks_are_described_so_that_a_pull_reads_the_same_configuration() -> None:
    text = described(sent_track(VIDEO, None), sent_track(AUDIO, None))
    found = parse_description(text.encode())
    assert [medium.control for medium in found.media] == ["trackID=0", "trackID=1"]
    assert [medium.payload_type for medium in found.media] == [96, 97]
    assert found.control == "*"
    video, audio = (RtspTrack(medium) for medium in found.media)
    assert video.kind is Kind.VIDEO and audio.kind is Kind.AUDIO
    assert audio.samples.track is not None and audio.samples.track.config == AUDIO.config
    assert "\r\no=- 3 3 IN IP4 192.0.2.1\r\n" in text


@pytest.mark.parametrize(
    ("codec", "line"),
    [
        (Codec.VP8, "VP8/90000"),
        (Codec.VP9, "VP9/90000"),
        (Codec.AV1, "AV1/90000"),
        (Codec.OPUS, "opus/48000/2"),
        (Codec.MP3, "MPA/90000"),
    ],
)
def test_each_codec_has_its_name_and_clock(codec: Codec, line: str) -> None:
    kind = Kind.AUDIO if codec in (Codec.OPUS, Codec.MP3) else Kind.VIDEO
    assert f" {line}\r\n" in described(sent_track(MediaTrack(kind, codec, 1000, b""), None))


def test_ac3_has_the_rate_and_the_channels_of_a_frame() -> None:
    track = MediaTrack(Kind.AUDIO, Codec.AC3, 1000, b"")
    frame = bytes.fromhex("0b7700001e4043fe") + bytes(100)
    sent = sent_track(track, frame)
    assert sent is not None and " ac3/48000/2\r\n" in described(sent)
    assert sent_track(track, None) is None, "before the first frame"


def test_codecs_that_rtp_does_not_carry_are_left_out() -> None:
    assert sent_track(None, None) is None
    assert sent_track(MediaTrack(Kind.AUDIO, Codec.FLAC, 1000, b""), None) is None
    assert sent_track(MediaTrack(Kind.AUDIO, Codec.AAC, 1000, b""), None) is None, "a damaged configuration"


def test_an_address_of_ipv6_is_marked_so() -> None:
    assert "c=IN IP6 ::\r\n" in write_description([], "2001:db8::1", "c1", 1).decode()
