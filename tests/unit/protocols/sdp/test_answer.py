"""Answers to offers, line by line."""

from dataclasses import replace

import pytest

from gateway.protocols.sdp.answer import (
    AcceptedMedia,
    SentTrack,
    largest_first,
    remote_transport,
    restart_parts,
    write_answer,
    write_restart,
)
from gateway.protocols.sdp.offer import Offer, Rid, parse_offer
from gateway.protocols.sdp.sections import parse_sections
from tests.support.sdp import AUDIO, FINGERPRINT, LOCAL, SESSION, VIDEO, offer

TRANSPORT_CC = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"


def accept(
    parsed: Offer, *indexes: int, sent: SentTrack | None = None, rids: tuple[Rid, ...] = ()
) -> dict[int, AcceptedMedia]:
    return {index: AcceptedMedia(parsed.media[index].codecs[0], sent, rids) for index in indexes}


def test_the_answer_to_a_publisher() -> None:
    video = (
        VIDEO + f"a=rtcp-fb:96 transport-cc\r\na=rtcp-fb:96 goog-remb\r\na=rtcp-rsize\r\na=extmap:4 {TRANSPORT_CC}\r\n"
    )
    video += "a=extmap:5 urn:x\r\n"
    parsed = parse_offer(offer(video, session=SESSION + "a=extmap-allow-mixed\r\n"))
    assert write_answer(parsed, accept(parsed, 0, 1), LOCAL, 7).splitlines() == [
        "v=0",
        "o=- 7 1 IN IP4 127.0.0.1",
        "s=-",
        "t=0 0",
        "a=ice-lite",
        "a=ice-options:trickle ice2",
        "a=group:BUNDLE 0 1",
        f"a=fingerprint:sha-256 {FINGERPRINT}",
        "a=extmap-allow-mixed",
        "m=video 9 UDP/TLS/RTP/SAVPF 96 97",
        "c=IN IP4 0.0.0.0",
        "a=mid:0",
        "a=ice-ufrag:ours",
        f"a=ice-pwd:{'o' * 24}",
        "a=candidate:1 1 udp 2130706431 192.0.2.1 8189 typ host",
        "a=end-of-candidates",
        "a=setup:passive",
        "a=rtcp-mux",
        "a=rtcp-rsize",
        "a=recvonly",
        "a=rtpmap:96 H264/90000",
        "a=fmtp:96 packetization-mode=1;profile-level-id=42e01f",
        "a=rtcp-fb:96 nack",
        "a=rtcp-fb:96 transport-cc",
        "a=rtpmap:97 rtx/90000",
        "a=fmtp:97 apt=96",
        f"a=extmap:4 {TRANSPORT_CC}",
        "m=audio 9 UDP/TLS/RTP/SAVPF 111",
        "c=IN IP4 0.0.0.0",
        "a=mid:1",
        "a=ice-ufrag:ours",
        f"a=ice-pwd:{'o' * 24}",
        "a=setup:passive",
        "a=rtcp-mux",
        "a=recvonly",
        "a=rtpmap:111 opus/48000/2",
        "a=fmtp:111 minptime=10;stereo=1;useinbandfec=1",
    ]


def test_a_viewer_learns_our_ssrcs_and_the_stream() -> None:
    parsed = parse_offer(offer(VIDEO.replace("sendonly", "recvonly"), audio=""))
    lines = write_answer(parsed, accept(parsed, 0, sent=SentTrack("film", 11, 12)), LOCAL, 7).splitlines()
    at = lines.index("a=msid:film film-video")
    assert lines[at + 1 :] == [
        "a=ssrc-group:FID 11 12",
        "a=ssrc:11 cname:film",
        "a=ssrc:11 msid:film film-video",
        "a=ssrc:12 cname:film",
        "a=ssrc:12 msid:film film-video",
    ]
    assert "a=sendonly" in lines
    assert "a=recvonly" not in lines


def test_without_an_ssrc_for_retransmissions_the_answer_has_none() -> None:
    parsed = parse_offer(offer(VIDEO.replace("sendonly", "recvonly"), audio=""))
    text = write_answer(parsed, accept(parsed, 0, sent=SentTrack("film", 11)), LOCAL, 7)
    assert "m=video 9 UDP/TLS/RTP/SAVPF 96\r\n" in text
    assert "rtx" not in text
    assert "FID" not in text


def test_a_medium_that_is_not_accepted_is_rejected() -> None:
    parsed = parse_offer(offer())
    text = write_answer(parsed, accept(parsed, 1), LOCAL, 7)
    _, video, audio = parse_sections(text.encode())
    assert (video.port, video.value("inactive"), video.value("mid")) == (0, "", "0")
    assert video.value("candidate") is None
    assert audio.port == 9
    assert audio.value("candidate") is not None  # the first accepted medium has the transport
    assert "a=group:BUNDLE 1\r\n" in text


def test_a_passive_client_becomes_the_dtls_server() -> None:
    parsed = parse_offer(offer(VIDEO.replace("actpass", "passive"), AUDIO.replace("actpass", "passive")))
    assert write_answer(parsed, accept(parsed, 0, 1), LOCAL, 7).count("a=setup:active\r\n") == 2


def test_the_transport_is_that_of_the_first_accepted_medium_of_the_bundle() -> None:
    session = SESSION.replace("BUNDLE 0 1", "BUNDLE 1 0")
    parsed = parse_offer(offer(audio=AUDIO.replace("theirs", "second"), session=session))
    both = accept(parsed, 0, 1)
    assert remote_transport(parsed, both).ufrag == "second"
    _, video, audio = parse_sections(write_answer(parsed, both, LOCAL, 7).encode())
    assert (video.value("candidate"), audio.value("candidate")) == (None, LOCAL.candidates[0])
    assert remote_transport(parsed, accept(parsed, 0)).ufrag == "theirs"
    assert remote_transport(parsed, {}) == parsed.transport


def test_extensions_are_answered_with_our_direction() -> None:
    video = VIDEO + f"a=rtcp-fb:96 transport-cc\r\na=extmap:4/sendonly {TRANSPORT_CC}\r\n"
    parsed = parse_offer(offer(video))
    assert f"a=extmap:4/recvonly {TRANSPORT_CC}\r\n" in write_answer(parsed, accept(parsed, 0), LOCAL, 7)
    parsed = parse_offer(offer(video.replace("4/sendonly", "4/recvonly")))
    assert "extmap" not in write_answer(parsed, accept(parsed, 0), LOCAL, 7)


def test_all_layers_of_simulcast_are_accepted() -> None:
    lines = (
        "a=extmap:1 urn:ietf:params:rtp-hdrext:sdes:mid\r\na=extmap:2 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id\r\n"
    )
    parsed = parse_offer(offer(VIDEO + lines + "a=rid:a send\r\na=rid:b send\r\na=simulcast:send a;b\r\n"))
    text = write_answer(parsed, accept(parsed, 0, rids=parsed.media[0].rids), LOCAL, 7)
    assert text.endswith(
        "a=extmap:1 urn:ietf:params:rtp-hdrext:sdes:mid\r\na=extmap:2 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id\r\n"
        "a=rid:a recv\r\na=rid:b recv\r\na=simulcast:recv a;b\r\n"
        "m=audio 0 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\na=mid:1\r\n"
        f"a=ice-ufrag:ours\r\na=ice-pwd:{'o' * 24}\r\na=setup:passive\r\na=inactive\r\n"
    )
    assert "rid" not in write_answer(parsed, accept(parsed, 0), LOCAL, 7)


@pytest.mark.parametrize(
    ("rids", "names"),
    [
        ("", ""),
        ("q h f", "f h q"),
        ("f h q", "f h q"),
        ("low mid high", "high mid low"),
        ("L M H", "H M L"),
        ("0 1 2", "0 1 2"),
        ("x y q", "q x y"),
        ("a:max-width=640 b:max-width=1280 f", "b a f"),
        ("a:max-br=100 b:max-br=900 c:max-br=x", "b a c"),
    ],
)
def test_the_largest_layer_of_simulcast_is_first(rids: str, names: str) -> None:
    layers = tuple(
        Rid(word.partition(":")[0], dict([word.partition(":")[2].split("=")]) if ":" in word else {})
        for word in rids.split()
    )
    assert " ".join(largest_first(layers)) == names


def test_the_answer_to_an_ice_restart() -> None:
    parsed = parse_offer(offer())
    fresh = replace(LOCAL, ufrag="fresh", password="p" * 24)
    assert write_restart(restart_parts(parsed, accept(parsed, 1, 0)), fresh).splitlines() == [
        "a=ice-lite",
        "a=ice-options:trickle ice2",
        "a=group:BUNDLE 0 1",
        "m=video 9 UDP/TLS/RTP/SAVPF 96 97",
        "a=mid:0",
        "a=ice-ufrag:fresh",
        f"a=ice-pwd:{'p' * 24}",
        "a=candidate:1 1 udp 2130706431 192.0.2.1 8189 typ host",
        "a=end-of-candidates",
        "m=audio 9 UDP/TLS/RTP/SAVPF 111",
        "a=mid:1",
        "a=ice-ufrag:fresh",
        f"a=ice-pwd:{'p' * 24}",
    ]
