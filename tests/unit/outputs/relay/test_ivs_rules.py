"""The limits of Amazon IVS, checked against streams."""

from __future__ import annotations

import pytest

from gateway.media import h264
from gateway.media.track import Codec, Kind, MediaTrack, Tracks
from gateway.outputs.relay.ivs_rules import IvsRules, is_ivs_address, is_realtime, with_app
from gateway.ports.errors import OutputUnsupported
from gateway.protocols.rtmp.url import parse_url
from tests.support.builders import AUDIO, VIDEO, picture, sound

HD = Tracks(VIDEO, AUDIO)  # 1280x720


def record(width: int, height: int) -> bytes:
    """An avcC of a Baseline stream of this size, multiples of 16."""

    def ue(value: int) -> str:
        bits = f"{value + 1:b}"
        return "0" * (len(bits) - 1) + bits

    # H.264 §7.3.2.1.1: ids, picture order type 2, one reference, size in macroblocks, frames only, no cropping, no VUI
    fields = ue(0) + ue(0) + ue(2) + ue(1) + "0" + ue(width // 16 - 1) + ue(height // 16 - 1) + "11" + "00" + "1"
    body = int(fields.ljust(-(-len(fields) // 8) * 8, "0"), 2).to_bytes(-(-len(fields) // 8), "big")
    return h264.build_avcc([b"\x67\x42\x00\x33" + body], [b"\x68\xce\x38\x80"])


def film(
    rules: IvsRules, *, seconds: int, bits: int = 2_500_000, gop: float = 2.0, start: int = 0, cts: int = 0
) -> None:
    """So many seconds at 25 pictures a second, a key frame every `gop` seconds."""
    size = bits // 8 // 25 - 6
    for n in range(seconds * 25):
        at = start + n * 40
        rules.check_unit(picture(at, key=n % round(gop * 25) == 0, size=size, cts=cts))
        rules.check_unit(sound(at))


@pytest.mark.parametrize(
    ("tracks", "words"),
    [
        (Tracks(None, AUDIO), "IVS takes no stream without video"),
        (Tracks(MediaTrack(Kind.VIDEO, Codec.H265, 1000, b"x"), AUDIO), "IVS takes H.264 video, and this is h265"),
        (Tracks(VIDEO, MediaTrack(Kind.AUDIO, Codec.OPUS, 1000, b"")), "IVS takes AAC audio, and this is opus"),
    ],
)
def test_tracks_that_ivs_never_accepts_are_refused(tracks: Tracks, words: str) -> None:
    with pytest.raises(OutputUnsupported, match=words):
        IvsRules().check_tracks(tracks)


def test_a_stream_within_the_limits_has_no_warnings() -> None:
    rules = IvsRules("STANDARD")
    rules.check_tracks(HD)
    film(rules, seconds=30)
    assert rules.warnings == []
    rules.check_tracks(Tracks(VIDEO, None))
    assert rules.warnings == []


@pytest.mark.parametrize(
    ("kind", "bits", "most"), [("STANDARD", 9_500_000, "8.5"), ("", 9_500_000, "8.5"), ("BASIC", 4_000_000, "3.5")]
)
def test_a_bitrate_above_the_limit_of_the_channel_type_causes_a_temporary_warning(
    kind: str, bits: int, most: str
) -> None:
    rules = IvsRules(kind)
    rules.check_tracks(HD)
    film(rules, seconds=12, bits=bits)
    (warning,) = rules.warnings
    assert f"at most {most} Mbit/s" in warning and f"{bits / 1e6:.1f}" in warning
    film(rules, seconds=14, bits=1_000_000, start=12_000)
    assert rules.warnings == []


def test_a_long_key_frame_interval_causes_a_warning_before_it_ends() -> None:
    rules = IvsRules()
    rules.check_tracks(HD)
    film(rules, seconds=11, gop=5)
    (warning,) = rules.warnings
    assert warning == "IVS wants a key frame every 2 s, and here it takes 5.0 s: players will stall"
    film(rules, seconds=5, gop=2, start=11_000)
    assert rules.warnings == []
    film(rules, seconds=20, gop=60, start=20_000)
    assert "here it takes 1" in rules.warnings[0]


def test_a_picture_that_is_too_large_causes_a_warning() -> None:
    rules = IvsRules()
    rules.check_tracks(Tracks(MediaTrack(Kind.VIDEO, Codec.H264, 1000, record(2560, 1440)), AUDIO))
    assert rules.warnings == ["IVS takes at most 1920x1080, and this is 2560x1440"]


def test_b_frames_cause_a_warning_in_real_time_only() -> None:
    for realtime, count in ((False, 0), (True, 1)):
        rules = IvsRules(realtime=realtime)
        rules.check_tracks(HD)
        film(rules, seconds=2, cts=40)
        assert len(rules.warnings) == count


def test_jumps_of_time_cause_no_false_warnings() -> None:
    rules = IvsRules()
    rules.check_tracks(HD)
    for start in (0, 10_000_000, 5_000, 2**31):
        film(rules, seconds=3, start=start)
        assert rules.warnings == []


def test_addresses_of_ivs_are_recognised() -> None:
    assert is_ivs_address("rtmps://a1b2.global-contribute.live-video.net:443/app/sk_x")
    assert not is_ivs_address("rtmps://live-video.net.example/app/x")
    assert is_realtime("a1b2.global-realtime-contribute.live-video.net")


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/sk_us-west-2_x", "sk_us-west-2_x"),
        ("/sk_x?bandwidthtest=true", "sk_x?bandwidthtest=true"),
        ("/app/sk_x", "sk_x"),
        ("//sk_x", "sk_x"),
    ],
)
def test_a_key_behind_the_server_of_kick_gets_the_app_that_kick_does_not_name(path: str, name: str) -> None:
    url = with_app(parse_url(f"rtmps://fa723fc1b171.global-contribute.live-video.net{path}"))
    assert (url.app, url.name) == ("app", name)
    assert url.tc_url == "rtmps://fa723fc1b171.global-contribute.live-video.net/app"
