"""Which offered codec fits a track, and the reason if none does."""

from dataclasses import replace

import pytest

from gateway.media import opus
from gateway.media.track import Codec, Kind, MediaTrack
from gateway.protocols.sdp.codec_choice import (
    no_codec_to_receive,
    no_codec_to_send,
    receiving_codec,
    sending_codec,
    shown_track,
)
from gateway.protocols.sdp.offer import OfferedCodec, OfferedMedia, parse_offer
from tests.support.builders import AUDIO, VIDEO
from tests.support.sdp import CAPTURED, offer

OPUS = MediaTrack(Kind.AUDIO, Codec.OPUS, 48_000, opus.head_bytes(opus.OpusHead(2, 0, 48_000, 0, 0, b"")))
SURROUND = opus.head_bytes(opus.OpusHead(6, 0, 48_000, 0, 1, bytes((4, 2, 0, 4, 1, 2, 3, 5))))
VP8 = MediaTrack(Kind.VIDEO, Codec.VP8, 90_000, b"")
NAMES = ("H264", "H265", "AV1", "VP9", "VP8")


def h264(profile_level_id: str) -> MediaTrack:
    return MediaTrack(Kind.VIDEO, Codec.H264, 90_000, b"\x01" + bytes.fromhex(profile_level_id) + b"\xff\xe0\x00")


def h265(profile: int) -> MediaTrack:
    return MediaTrack(Kind.VIDEO, Codec.H265, 90_000, bytes((1, profile)) + bytes(20) + b"\x00")


def vp9(profile: int) -> MediaTrack:
    return MediaTrack(Kind.VIDEO, Codec.VP9, 90_000, bytes((profile, 31, 0x82, 2, 2, 2, 0, 0)))


def av1(profile: int) -> MediaTrack:
    return MediaTrack(Kind.VIDEO, Codec.AV1, 90_000, bytes((0x81, profile << 5 | 5, 0x0C, 0)))


def media(*codecs: tuple[str, str], kind: str = "video") -> OfferedMedia:
    """A medium with these codecs, from payload type 96 on: their names and their parameters."""
    offered = tuple(
        OfferedCodec(
            96 + n, name, 90_000, 1, dict(p.split("=") for p in text.split(";") if p), frozenset(), rtx=None
        )
        for n, (name, text) in enumerate(codecs)
    )  # fmt: skip
    return replace(parse_offer(offer()).media[0], kind=kind, codecs=offered)


def chosen(track: MediaTrack, *codecs: tuple[str, str]) -> int | None:
    """The index of the chosen codec."""
    codec = sending_codec(media(*codecs), track)
    return None if codec is None else codec.payload_type - 96


def mode1(profile_level_id: str) -> tuple[str, str]:
    return "H264", f"packetization-mode=1;profile-level-id={profile_level_id}"


@pytest.mark.parametrize(
    ("stream", "offered", "index"),
    [
        ("42e01f", ["42001f", "4d001f", "42e01f"], 2),  # the same profile first
        ("42001f", ["42e01f", "42001f"], 1),
        ("42c028", ["42001f", "640028"], 0),  # then Baseline of the other kind, then a larger profile
        ("4d001f", ["42e01f", "640028"], 1),
        ("640028", ["42e01f", "4d001f"], 1),  # then the nearest smaller one: browsers decode High, too
        ("42e01f", ["640028", "4d001f"], 1),
        ("6e0028", ["42e01f", "640028"], None),  # High 10 needs High 10
        ("6e0028", ["640028", "6E0028"], 1),
        ("640028", ["f4001f", "6e0028"], None),
        ("640028", ["", "xyz123", "64002"], 0),  # Baseline by default; malformed ones never
    ],
)
def test_the_profile_of_h264_decides(stream: str, offered: list[str], index: int | None) -> None:
    codecs = [mode1(text) if text else ("H264", "packetization-mode=1") for text in offered]
    assert chosen(h264(stream), *codecs) == index


def test_h264_is_sent_in_packetization_mode_1() -> None:
    mode0 = ("H264", "packetization-mode=0;profile-level-id=640028")
    assert chosen(h264("640028"), mode0, mode1("42e01f")) == 1
    assert chosen(h264("640028"), mode0, ("H264", "profile-level-id=640028")) is None
    # GStreamer offers no parameters at all, and reads everything.
    assert chosen(h264("640028"), mode0, ("H264", "")) == 1


@pytest.mark.parametrize(
    ("track", "codecs", "index"),
    [
        (h265(1), [("H265", "profile-id=2"), ("H265", "")], 1),
        (h265(1), [("H265", "profile-id=2")], 0),
        (h265(2), [("H265", "profile-id=1"), ("H265", "profile-id=2")], 1),
        (h265(2), [("H265", "")], None),
        (av1(0), [("AV1", "profile=1"), ("AV1", "profile=0")], 1),
        (av1(1), [("AV1", "")], None),
        (vp9(2), [("VP9", "profile-id=0"), ("VP9", "profile-id=2")], 1),
        (vp9(0), [("VP9", "")], 0),
        (MediaTrack(Kind.VIDEO, Codec.VP9, 90_000, b""), [("VP9", "profile-id=0")], 0),
        (VP8, [("VP9", ""), ("VP8", "max-fs=12288")], 1),
        (OPUS, [("OPUS", "")], 0),
        (replace(OPUS, config=SURROUND), [("OPUS", "")], None),
        (AUDIO, [("OPUS", "")], None),
        (replace(VIDEO, config=b"broken"), [mode1("42e01f")], None),
    ],
)
def test_codecs_other_than_h264_are_chosen_by_their_parameters(
    track: MediaTrack, codecs: list[tuple[str, str]], index: int | None
) -> None:
    assert chosen(track, *codecs) == index


def test_the_receiver_chooses_its_first_codec_and_prefers_packetization_mode_1() -> None:
    offered = media(
        ("VP8", ""), ("H264", "packetization-mode=2"), ("H264", ""), ("H264", "packetization-mode=1"), ("AV1", "")
    )
    found = receiving_codec(offered, NAMES)
    assert found is not None
    assert found.payload_type == 99
    assert receiving_codec(media(("H264", "packetization-mode=2")), NAMES) is None
    only = receiving_codec(media(("H264", "")), NAMES)
    assert only is not None
    assert only.payload_type == 96


def test_the_reasons_name_the_codecs_of_both_sides() -> None:
    parsed = parse_offer(CAPTURED["firefox_whep"])
    assert no_codec_to_send([h264("640028"), OPUS], parsed.media[:1]) == (
        "no codec in common: the stream has H.264 High 4.0 and Opus; the offer has VP8, VP9 and AV1"
    )
    assert no_codec_to_send([], []) == "no codec in common: the stream has no track; the offer has none"
    assert no_codec_to_receive(("H264", "OPUS"), parsed.media[1:]) == (
        "no codec in common: accepted are H.264 and Opus; the offer has Opus, G722, PCMU and PCMA"
    )


def test_a_reason_is_bounded() -> None:
    many = media(*((f"X{n}", "") for n in range(100)))
    assert no_codec_to_send([VP8], [many]).endswith("X10, X11 and others")


@pytest.mark.parametrize(
    ("track", "text"),
    [
        (VIDEO, "H.264 High 3.1"),
        (AUDIO, "AAC LC"),
        (VP8, "VP8"),
        (replace(VIDEO, config=b"broken"), "H.264"),
        (h265(2), "H.265 Main 10"),
    ],
)
def test_a_track_is_shown_with_its_codec_and_profile(track: MediaTrack, text: str) -> None:
    assert shown_track(track) == text
