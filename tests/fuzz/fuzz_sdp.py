"""Session descriptions of WebRTC clients: an offer or a fragment is refused, or read within the bounds and answered."""

from __future__ import annotations

from contextlib import suppress

from gateway.media.track import Codec, Kind, MediaTrack
from gateway.protocols.errors import RemoteProtocolError
from gateway.protocols.sdp.answer import (
    AcceptedMedia,
    SentTrack,
    largest_first,
    restart_parts,
    write_answer,
    write_restart,
)
from gateway.protocols.sdp.codec_choice import NAMES, no_codec_to_receive, no_codec_to_send, receiving_codec
from gateway.protocols.sdp.codec_choice import sending_codec as sending
from gateway.protocols.sdp.fragment import parse_fragment
from gateway.protocols.sdp.offer import MAX_RIDS, parse_offer
from gateway.protocols.sdp.sections import MAX_MEDIA, parse_sections
from tests.support.builders import VIDEO
from tests.support.sdp import CAPTURED, LOCAL, offer

_CANDIDATE = (
    b"a=ice-ufrag:EsAw\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\nm=audio 9 RTP/AVP 0\r\na=mid:0\r\na=candidate:1 1"
)
_SMALL = ("ffmpeg_whip", "gstreamer_whep", "gstreamer_whip", "libdatachannel_whip", "firefox_whip_simulcast")
_TRACKS = (VIDEO, *(MediaTrack(Kind.VIDEO, codec, 90_000, b"") for codec in (Codec.VP8, Codec.VP9, Codec.AV1)))
SEEDS = [offer(), _CANDIDATE, *(CAPTURED[name] for name in _SMALL), CAPTURED["chromium_whip_simulcast"]]


def fuzz(data: bytes) -> None:
    """Oracle: only the documented error; tables keep their bounds; an answer can be read and has all media."""
    with suppress(RemoteProtocolError):
        fragment = parse_fragment(data)
        assert bool(fragment.ufrag) == bool(fragment.password)
        assert sum(map(len, fragment.candidates)) <= 3 * len(data)
    try:
        found = parse_offer(data)
    except RemoteProtocolError as error:
        assert str(error).isprintable()
        return
    assert 0 < len(found.media) <= MAX_MEDIA
    accepted: dict[int, AcceptedMedia] = {}
    for index, medium in enumerate(found.media):
        assert len(medium.rids) <= MAX_RIDS
        if medium.receives:
            codec = next((codec for track in _TRACKS if (codec := sending(medium, track)) is not None), None)
            if codec is not None:
                accepted[index] = AcceptedMedia(codec, SentTrack("film", 1, 2))
        if medium.sends and index not in accepted:
            codec = receiving_codec(medium, tuple(NAMES.values()))
            if codec is not None:
                accepted[index] = AcceptedMedia(codec, None, medium.rids)
                assert sorted(largest_first(medium.rids)) == sorted(rid.name for rid in medium.rids)
    reason = no_codec_to_send(_TRACKS, found.media) + no_codec_to_receive(tuple(NAMES.values()), found.media)
    assert reason.isprintable()
    assert len(reason) < 3000
    restarts = [write_restart(restart_parts(found, accepted), LOCAL)] if accepted else []  # else there is no session
    for text in (write_answer(found, accepted, LOCAL, 1), *restarts):
        assert text.endswith("\r\n")
        assert all(line[1:2] == "=" and line.isprintable() for line in text.split("\r\n")[:-1])
    sections = parse_sections(write_answer(found, accepted, LOCAL, 1).encode())
    assert [section.port != 0 for section in sections[1:]] == [index in accepted for index in range(len(found.media))]
