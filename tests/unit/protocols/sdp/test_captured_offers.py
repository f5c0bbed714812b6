"""The offers of real clients (`tests/golden/sdp/README.md`): their content, the chosen codecs, and the answers."""

import pytest

from gateway.media import opus
from gateway.media.track import Codec, Kind, MediaTrack
from gateway.protocols.sdp.answer import AcceptedMedia, SentTrack, largest_first, write_answer
from gateway.protocols.sdp.codec_choice import receiving_codec, sending_codec
from gateway.protocols.sdp.offer import TRANSPORT_CC, Offer, OfferedCodec, OfferedMedia, parse_offer
from gateway.protocols.sdp.sections import parse_sections
from tests.support.builders import VIDEO
from tests.support.sdp import CAPTURED, LOCAL

OPUS = MediaTrack(Kind.AUDIO, Codec.OPUS, 48_000, opus.head_bytes(opus.OpusHead(2, 0, 48_000, 0, 0, b"")))
VP8 = MediaTrack(Kind.VIDEO, Codec.VP8, 90_000, b"")
NAMES = {"video": ("H264", "H265", "AV1", "VP9", "VP8"), "audio": ("OPUS",)}


def of_kind(found: Offer, kind: str) -> OfferedMedia:
    return next(medium for medium in found.media if medium.kind == kind)


@pytest.mark.parametrize(
    ("name", "video", "rtx", "audio"),
    [
        ("chromium_whep", 116, 117, 111),  # it offers Main and decodes High
        ("chromium_whep_data", 116, 117, 111),
        ("firefox_whep", None, None, 109),
        ("firefox_h264_whep", 126, 127, 109),
        ("gstreamer_whep", 96, None, 97),
        ("pion_whep", 112, 113, 111),  # it offers High
        ("mediamtx_whep", 105, None, 111),
    ],
)
def test_a_viewer_gets_the_expected_codecs_for_h264_high_and_opus(
    name: str, video: int | None, rtx: int | None, audio: int
) -> None:
    found = parse_offer(CAPTURED[name])
    medium = of_kind(found, "video")
    assert medium.receives
    chosen = sending_codec(medium, VIDEO)
    assert (chosen.payload_type if chosen else None, chosen.rtx if chosen else None) == (video, rtx)
    sound = sending_codec(of_kind(found, "audio"), OPUS)
    assert sound is not None
    assert sound.payload_type == audio


def test_firefox_without_its_plugin_receives_vp8() -> None:
    chosen = sending_codec(of_kind(parse_offer(CAPTURED["firefox_whep"]), "video"), VP8)
    assert chosen is not None
    assert (chosen.payload_type, chosen.rtx) == (120, 124)


@pytest.mark.parametrize(
    ("name", "codec", "type_", "rtx", "feedback"),
    [
        ("chromium_whip", "H264", 102, 103, {"nack", "nack pli", "ccm fir", "transport-cc"}),
        ("chromium_whip_simulcast", "H264", 102, 103, {"nack", "nack pli", "ccm fir", "transport-cc"}),
        ("firefox_whip", "AV1", 99, 100, {"nack", "nack pli", "ccm fir", "transport-cc"}),
        ("firefox_whip_simulcast", "AV1", 99, 100, {"nack", "nack pli", "ccm fir", "transport-cc"}),
        ("gstreamer_whip", "H264", 96, None, {"nack pli", "ccm fir", "transport-cc"}),
        ("ffmpeg_whip", "H264", 106, 105, {"nack"}),
        ("libdatachannel_whip", "H264", 96, None, {"nack", "nack pli"}),
        ("pion_whip", "H264", 102, 103, {"nack", "nack pli", "ccm fir", "transport-cc"}),
    ],
)
def test_a_publisher_sends_the_expected_codec(
    name: str, codec: str, type_: int, rtx: int | None, feedback: set[str]
) -> None:
    found = parse_offer(CAPTURED[name])
    medium = of_kind(found, "video")
    assert medium.sends
    chosen = receiving_codec(medium, NAMES["video"])
    assert chosen is not None
    assert (chosen.name, chosen.payload_type, chosen.rtx, chosen.feedback) == (codec, type_, rtx, feedback)
    assert found.transport.passive == (name == "ffmpeg_whip")
    sound = of_kind(found, "audio")
    assert sound.sends
    assert receiving_codec(sound, NAMES["audio"]) is not None


def test_bundle_only_media_of_gstreamer_are_not_rejected() -> None:
    found = parse_offer(CAPTURED["gstreamer_whip"])
    assert b"m=audio 0 " in CAPTURED["gstreamer_whip"]
    assert [medium.rejected for medium in found.media] == [False, False]


def test_a_data_channel_is_rejected() -> None:
    found = parse_offer(CAPTURED["chromium_whep_data"])
    assert [medium.rejected for medium in found.media] == [False, False, True]
    last = parse_sections(_answer(found).encode())[-1]
    assert (last.kind, last.port, last.protocol, last.formats) == (
        "application", 0, "UDP/DTLS/SCTP", ("webrtc-datachannel",),
    )  # fmt: skip


@pytest.mark.parametrize("name", ["chromium_whip_simulcast", "firefox_whip_simulcast"])
def test_the_full_layer_of_simulcast_is_first(name: str) -> None:
    medium = of_kind(parse_offer(CAPTURED[name]), "video")
    assert [rid.name for rid in medium.rids] == ["q", "h", "f"]
    assert largest_first(medium.rids) == ("f", "h", "q")


@pytest.mark.parametrize("name", sorted(CAPTURED))
def test_each_offer_has_an_answer_that_keeps_the_rules(name: str) -> None:
    found = parse_offer(CAPTURED[name])
    text = _answer(found)
    assert text.endswith("\r\n")
    assert all(line[1:2] == "=" and line.isprintable() for line in text.split("\r\n")[:-1])
    session, *media = parse_sections(text.encode())
    assert len(media) == len(found.media)  # RFC 3264 §6: as many m-lines, in their order
    for section, offered, theirs in zip(media, found.media, parse_sections(CAPTURED[name])[1:], strict=True):
        assert (section.kind, section.protocol, section.value("mid")) == (offered.kind, offered.protocol, offered.mid)
        if section.port == 0:
            continue
        formats = section.rtp_formats()
        assert set(section.formats) <= set(theirs.formats)
        assert all(format.encoding for format in formats.values())
        assert (section.value("sendonly") is None) == offered.sends
        ids = {words[1]: int(words[0].partition("/")[0]) for words in map(str.split, section.values("extmap"))}
        assert all(offered.extensions[uri].id == number for uri, number in ids.items())
        assert (TRANSPORT_CC in ids) == (offered.sends and TRANSPORT_CC in offered.extensions)
    accepted = [section for section in media if section.port]
    assert session.value("group") == "BUNDLE " + " ".join(section.value("mid") or "" for section in accepted)
    assert [section.value("candidate") is not None for section in accepted] == [True] + [False] * (len(accepted) - 1)


def _answer(found: Offer) -> str:
    accepted: dict[int, AcceptedMedia] = {}
    for index, medium in enumerate(found.media):
        chosen: OfferedCodec | None = None
        sent: SentTrack | None = None
        if medium.sends:
            chosen = receiving_codec(medium, NAMES[medium.kind])
        elif medium.receives:
            tracks = (OPUS,) if medium.kind == "audio" else (VIDEO, VP8)
            chosen = next((codec for track in tracks if (codec := sending_codec(medium, track))), None)
            sent = SentTrack("film", 1000 + index, 2000 + index)
        if chosen is not None:
            accepted[index] = AcceptedMedia(chosen, sent, medium.rids)
    return write_answer(found, accepted, LOCAL, 7)
