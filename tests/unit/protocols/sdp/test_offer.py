"""Offers of WebRTC clients: small ones and broken ones. Those of real clients are in test_captured_offers.py."""

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocols.errors import RemoteProtocolError
from gateway.protocols.sdp.offer import MAX_RIDS, MID, REPAIRED_RID, RID, parse_offer
from gateway.protocols.sdp.sections import MAX_BYTES
from tests.support.sdp import AUDIO, CAPTURED, FINGERPRINT, SESSION, TRANSPORT, VIDEO, offer


def without(text: str, start: str) -> str:
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith(start))


def test_a_small_offer_is_read() -> None:
    found = parse_offer(offer())
    video, audio = found.media
    assert (video.mid, video.kind, video.sends, video.receives) == ("0", "video", True, False)
    (codec,) = video.codecs
    assert (codec.payload_type, codec.name, codec.clock, codec.rtx) == (96, "H264", 90_000, 97)
    assert codec.parameters == {"packetization-mode": "1", "profile-level-id": "42e01f"}
    assert codec.feedback == {"nack"}
    assert (audio.codecs[0].name, audio.codecs[0].channels, audio.codecs[0].rtx) == ("OPUS", 2, None)
    assert found.bundle == ("0", "1")
    assert (found.transport.ufrag, found.transport.fingerprint) == ("theirs", ("sha-256", FINGERPRINT))
    assert not found.transport.passive


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (offer(without(VIDEO, "a=ice-ufrag")), "ICE credentials"),
        (offer(without(VIDEO, "a=ice-pwd")), "ICE credentials"),
        (offer(VIDEO.replace("t" * 24, "short")), "malformed ICE"),
        (offer(session=without(SESSION, "a=fingerprint")), "certificate"),
        (offer(session=SESSION.replace("sha-256", "sha-1")), "sha-256, sha-384 or sha-512"),
        (offer(session=SESSION.replace("AB:AB", "AB")), "malformed fingerprint"),
        (offer(session=SESSION.replace("AB:", "XY:")), "malformed fingerprint"),
        (offer(without(VIDEO, "a=rtcp-mux")), "rtcp-mux"),
        (offer(session=without(SESSION, "a=group")), "one transport"),
        (offer(session=SESSION.replace("BUNDLE 0 1", "BUNDLE 5")), "shares its transport"),
        (offer(VIDEO.replace("actpass", "holdconn")), "DTLS role"),
        (offer(AUDIO), "same mid"),
        (offer(session=SESSION + "a=ice-lite\r\n"), "ICE-lite"),
        (offer(VIDEO.replace("m=video 9 ", "m=video ")), "m-line"),
        (offer(VIDEO.replace("a=mid:0", "a=mid:0 0")), "malformed mid"),
        (SESSION.encode(), "no media"),
        (b"", "no media"),
    ],
)
def test_a_bad_offer_gets_one_clear_reason(body: bytes, reason: str) -> None:
    with pytest.raises(RemoteProtocolError, match=reason):
        parse_offer(body)


def test_attributes_of_the_session_apply_to_the_media() -> None:
    session = SESSION + TRANSPORT.replace("a=rtcp-mux\r\n", "").replace("actpass", "active") + "a=recvonly\r\n"
    session += f"a=extmap:5 {MID}\r\n"
    bare = "m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:0\r\na=rtcp-mux\r\na=rtpmap:96 VP8/90000\r\n"
    found = parse_offer(offer(bare, "", session))
    assert found.transport.ufrag == "theirs"
    assert found.media[0].receives
    assert found.media[0].extensions[MID].id == 5


@pytest.mark.parametrize("profile", ["UDP/TLS/RTP/SAVP", "RTP/SAVPF", "RTP/SAVP", "RTP/AVPF", "RTP/AVP"])
def test_each_profile_of_rtp_is_taken(profile: str) -> None:
    """libpeer, of cameras and microcontrollers, offers sound as UDP/TLS/RTP/SAVP (RFC 9429 §5.1.2)."""
    sound = parse_offer(offer(audio=AUDIO.replace("UDP/TLS/RTP/SAVPF", profile))).media[1]
    assert (sound.sends, sound.protocol, sound.codecs[0].name) == (True, profile, "OPUS")


def test_one_medium_needs_no_bundle() -> None:
    found = parse_offer(offer(audio="", session=without(SESSION, "a=group")))
    assert (len(found.media), found.bundle) == (1, ())


def test_a_bundle_only_medium_inherits_the_transport() -> None:
    bare = "m=audio 0 UDP/TLS/RTP/SAVPF 111\r\na=mid:1\r\na=bundle-only\r\na=sendonly\r\na=rtpmap:111 opus/48000/2\r\n"
    found = parse_offer(offer(audio=bare))
    assert found.media[1].sends
    assert found.media[1].transport is None
    off = parse_offer(offer(audio=without(bare, "a=bundle-only")))
    assert off.media[1].rejected


def test_a_medium_outside_the_bundle_is_rejected() -> None:
    found = parse_offer(offer(session=SESSION.replace("BUNDLE 0 1", "BUNDLE 1")))
    assert [medium.rejected for medium in found.media] == [True, False]
    assert found.transport == found.media[1].transport


def test_the_strongest_fingerprint_is_used() -> None:
    strong = ":".join(["cd"] * 48)
    found = parse_offer(offer(VIDEO + f"a=fingerprint:sha-1 00\r\na=fingerprint:SHA-384 {strong}\r\n"))
    assert found.transport.fingerprint == ("sha-384", strong.upper())


def test_payload_types_that_look_like_rtcp_are_ignored() -> None:
    video = VIDEO.replace("SAVPF 96 97", "SAVPF 72 96 97") + "a=rtpmap:72 VP8/90000\r\n"
    assert [codec.name for codec in parse_offer(offer(video)).media[0].codecs] == ["H264"]


def test_feedback_for_all_payload_types_applies_to_each() -> None:
    found = parse_offer(offer(VIDEO + "a=rtcp-fb:* ccm   fir\r\n"))
    assert found.media[0].codecs[0].feedback == {"nack", "ccm fir"}


def test_extensions_have_an_id_and_a_direction() -> None:
    wrong = "".join(f"a=extmap:{id} {REPAIRED_RID}\r\n" for id in ("15", "0", "256", "x", "7/up"))
    lines = f"a=extmap:3/sendonly {MID} more\r\n{wrong}a=extmap:8\r\na=extmap:255 {RID}\r\na=extmap:9 urn:unknown\r\n"
    found = parse_offer(offer(VIDEO + lines)).media[0].extensions
    assert {uri: (extension.id, extension.direction) for uri, extension in found.items()} == {
        MID: (3, "sendonly"), RID: (255, ""),
    }  # fmt: skip


def test_layers_of_simulcast() -> None:
    lines = (
        "a=rid:a send pt=96;max-width=1280\r\na=rid:b send\r\na=rid:c recv\r\na=rid:d/ send\r\n"
        "a=simulcast:recv c send ~a,x;b;c;d/;b\r\n"
    )
    rids = parse_offer(offer(VIDEO + lines)).media[0].rids
    assert [rid.name for rid in rids] == ["a", "b"]
    assert rids[0].restrictions == {"pt": "96", "max-width": "1280"}
    assert parse_offer(offer(VIDEO + "a=rid:a send\r\na=simulcast:send\r\n")).media[0].rids == ()


def test_the_number_of_layers_is_bounded() -> None:
    lines = "".join(f"a=rid:r{n} send\r\n" for n in range(50))
    lines += "a=simulcast:send " + ";".join(f"r{n}" for n in range(50)) + "\r\n"
    assert len(parse_offer(offer(VIDEO + lines)).media[0].rids) == MAX_RIDS


@pytest.mark.parametrize("bundle", ["BUNDLE 0 1", "BUNDLE 0 1 m0 m1 m2 m3 m4 m5 m6 m7"])
def test_an_offer_of_64_kb_takes_little_memory(bundle: str) -> None:
    types = [number for number in range(128) if not 64 <= number <= 95]
    more = f"m=video 9 UDP/TLS/RTP/SAVPF {' '.join(map(str, types))}\r\n{TRANSPORT}"
    more += "".join(f"a=rtpmap:{number} A\na=fmtp:{number} {number}=1;x\n" for number in types)
    more += "".join(f"a=rtcp-fb:* {number:x}\na=extmap:1 {number:x}\n" for number in range(150))
    media = "".join(f"{more}a=mid:m{number}\n" for number in range(8))
    body = offer(VIDEO + media, session=SESSION.replace("BUNDLE 0 1", bundle))
    assert 55_000 < len(body) < MAX_BYTES
    tracemalloc.start()
    try:
        found = parse_offer(body)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(found.media) == 10 and kept < 500_000


@given(st.sampled_from(sorted(CAPTURED)), st.data())
def test_a_truncated_offer_is_read_or_refused(name: str, data: st.DataObject) -> None:
    body = CAPTURED[name]
    cut = body[: data.draw(st.integers(0, len(body)))]
    try:
        found = parse_offer(cut)
    except RemoteProtocolError:
        return
    assert len(found.media) <= len(parse_offer(body).media)


@given(st.sampled_from(sorted(CAPTURED)), st.binary(max_size=60))
def test_trailing_data_does_not_change_an_offer(name: str, tail: bytes) -> None:
    whole = parse_offer(CAPTURED[name])
    try:
        found = parse_offer(CAPTURED[name] + b"\r\nx=" + tail.replace(b"\n", b""))
    except RemoteProtocolError as error:
        pytest.fail(str(error))
    assert found == whole


@given(st.sampled_from(sorted(CAPTURED)), st.data())
def test_lines_in_another_order_mean_the_same(name: str, data: st.DataObject) -> None:
    """Attributes of a medium may stand in any order, as Firefox and GStreamer write them."""
    head, *media = CAPTURED[name].decode().replace("\r\n", "\n").split("\nm=")
    number = data.draw(st.integers(0, len(media) - 1))
    first, *lines = media[number].strip("\n").split("\n")
    # Of equal attributes, the order has a meaning.
    lines.sort(key=lambda line: line.partition(":")[0], reverse=data.draw(st.booleans()))
    media[number] = "\n".join([first, *lines])
    changed = parse_offer("\nm=".join([head, *media]).encode()).media[number]
    whole = parse_offer(CAPTURED[name]).media[number]
    assert (changed.codecs, changed.transport, changed.extensions, changed.rids) == (
        whole.codecs, whole.transport, whole.extensions, whole.rids,
    )  # fmt: skip
