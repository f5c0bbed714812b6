"""Writes the answer to an offer (RFC 9429 §5.3): we are an ICE-lite agent with one transport for all media."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from gateway.protocols.sdp.offer import (
    FEEDBACK,
    MID,
    REPAIRED_RID,
    RID,
    TRANSPORT_CC,
    Offer,
    OfferedCodec,
    OfferedMedia,
    OfferedTransport,
    Rid,
)
from gateway.protocols.sdp.sections import decimal

_NO_ADDRESS: Final = "c=IN IP4 0.0.0.0"  # the addresses are in the candidates
_SENDER_FEEDBACK: Final = tuple(name for name in FEEDBACK if name != "transport-cc")  # that of viewers is not used
# The direction in our answer for a header extension that the client sends, by the direction in the offer.
_REVERSED: Final = {"": "", "sendrecv": "/recvonly", "sendonly": "/recvonly"}
_OPUS: Final = "minptime=10;stereo=1;useinbandfec=1"  # browsers send mono unless the answer has stereo=1
# Names of layers by size, as clients choose them.
_LARGE_TO_SMALL: Final = (
    "f", "full", "high", "hi", "h", "half", "mid", "medium", "m", "low", "lo", "l", "q", "quarter"
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class LocalTransport:
    """Our side of the transport. fingerprint: SHA-256 of our certificate. candidates: values of a=candidate lines."""

    ufrag: str
    password: str
    fingerprint: str
    candidates: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SentTrack:
    """The track that we send in a medium. stream: an id that all tracks of the stream share, also their CNAME."""

    stream: str
    ssrc: int
    rtx_ssrc: int | None = None


@dataclass(frozen=True, slots=True)
class AcceptedMedia:
    """How an accepted medium is used.

    sent: the track that we send; None: we receive. rids: the layers that we receive; (): no simulcast.
    inactive: whether nothing is sent or received.
    """

    codec: OfferedCodec
    sent: SentTrack | None = None
    rids: tuple[Rid, ...] = ()
    inactive: bool = False


Accepted: TypeAlias = Mapping[int, AcceptedMedia]  # by the index of the medium


def with_tagged(offer: Offer, accepted: Accepted) -> Accepted:
    """Returns the accepted media, with the first one of BUNDLE as inactive if it is not accepted.

    RFC 9725 §4.4.1 wants the policy max-bundle. With it, Chromium and Safari open only the transport of this medium,
    and refuse an answer that rejects it.
    """
    for index, media in enumerate(offer.media):
        if media.mid and (media.mid,) == offer.bundle[:1] and index not in accepted and media.codecs:
            return {**accepted, index: AcceptedMedia(media.codecs[0], inactive=True)}
    return accepted


def write_answer(offer: Offer, accepted: Accepted, local: LocalTransport, session_id: int) -> str:
    """Returns the answer. accepted: by the index of the medium; all others are rejected.

    session_id: a random number of at most 63 bits.
    """
    lines = ["v=0", f"o=- {session_id} 1 IN IP4 127.0.0.1", "s=-", "t=0 0", *_session_lines(offer, accepted)]
    lines.append(f"a=fingerprint:sha-256 {local.fingerprint}")
    if offer.mixed:
        lines.append("a=extmap-allow-mixed")
    tagged = _tagged(offer, accepted)
    role = "active" if remote_transport(offer, accepted).passive else "passive"
    for index, media in enumerate(offer.media):
        chosen = accepted.get(index)
        rejected = f"m={media.kind} 0 {media.protocol} {media.format}"
        lines += [rejected if chosen is None else _m_line(media, chosen), _NO_ADDRESS, *_mid_lines(media)]
        # Each medium has the credentials, as browsers write them: GStreamer 1.22 wants them even in rejected ones.
        lines += _ice_lines(local, index == tagged)
        lines.append(f"a=setup:{role}")
        lines += _media_lines(media, chosen) if chosen is not None else ["a=inactive"]
    return "\r\n".join(lines) + "\r\n"


def restart_parts(offer: Offer, accepted: Accepted) -> tuple[tuple[str, bool], ...]:
    """Returns what `write_restart` needs of an offer.

    Of each accepted medium: the lines before its credentials, and whether it has the candidates.
    """
    tagged, before, parts = _tagged(offer, accepted), list(_session_lines(offer, accepted)), []
    for index in sorted(accepted):
        media = offer.media[index]
        parts.append(("\r\n".join([*before, _m_line(media, accepted[index]), *_mid_lines(media)]), index == tagged))
        before = []
    return tuple(parts)


def write_restart(parts: Iterable[tuple[str, bool]], local: LocalTransport) -> str:
    """Returns the fragment that answers an ICE restart (RFC 9725 §4.3.3): our new credentials and candidates."""
    lines = [line for part, has_candidates in parts for line in (part, *_ice_lines(local, has_candidates))]
    return "\r\n".join(lines) + "\r\n"


def remote_transport(offer: Offer, accepted: Accepted) -> OfferedTransport:
    """Returns the client's side of the transport that all accepted media share."""
    tagged = _tagged(offer, accepted)
    own = offer.media[tagged].transport if tagged is not None else None
    return own or offer.transport


def largest_first(rids: tuple[Rid, ...]) -> tuple[str, ...]:
    """Returns the names of layers, that of the largest picture first.

    Clients do not say which layer is the largest. The one with the largest restrictions is, then that with the largest
    known name, and otherwise the first one, as OBS numbers its layers.
    """

    def size(rid: Rid) -> tuple[int, ...]:
        limits = (max(0, decimal(rid.restrictions.get(name, ""))) for name in ("max-width", "max-fs", "max-br"))
        name = rid.name.lower()
        place = _LARGE_TO_SMALL.index(name) if name in _LARGE_TO_SMALL else len(_LARGE_TO_SMALL)
        return (*limits, -place)

    return tuple(rid.name for rid in sorted(rids, key=size, reverse=True))


def _tagged(offer: Offer, accepted: Accepted) -> int | None:
    """Returns the index of the medium whose transport is used: the first accepted one of BUNDLE (RFC 9143 §7.3.1)."""
    order = {mid: place for place, mid in enumerate(offer.bundle)}
    return min(accepted, key=lambda index: (order.get(offer.media[index].mid, len(order)), index), default=None)


def _session_lines(offer: Offer, accepted: Accepted) -> Iterator[str]:
    yield "a=ice-lite"
    yield "a=ice-options:trickle ice2"
    mids = {offer.media[index].mid for index in accepted}
    shared = " ".join(mid for mid in offer.bundle if mid in mids)
    if shared:
        yield f"a=group:BUNDLE {shared}"


def _m_line(media: OfferedMedia, chosen: AcceptedMedia) -> str:
    rtx = _rtx(chosen)
    types = f"{chosen.codec.payload_type} {rtx}" if rtx is not None else str(chosen.codec.payload_type)
    return f"m={media.kind} 9 {media.protocol} {types}"


def _mid_lines(media: OfferedMedia) -> list[str]:
    return [f"a=mid:{media.mid}"] if media.mid else []


def _ice_lines(local: LocalTransport, with_candidates: bool) -> Iterator[str]:
    yield f"a=ice-ufrag:{local.ufrag}"
    yield f"a=ice-pwd:{local.password}"
    if with_candidates:
        yield from (f"a=candidate:{candidate}" for candidate in local.candidates)
        yield "a=end-of-candidates"


def _media_lines(media: OfferedMedia, chosen: AcceptedMedia) -> Iterator[str]:
    codec, sent, rtx = chosen.codec, chosen.sent, _rtx(chosen)
    number = codec.payload_type
    yield "a=rtcp-mux"
    if media.reduced_rtcp:
        yield "a=rtcp-rsize"
    yield "a=inactive" if chosen.inactive else "a=sendonly" if sent is not None else "a=recvonly"
    name = "opus" if codec.name == "OPUS" else codec.name  # the usual spelling
    yield f"a=rtpmap:{number} {name}/{codec.clock}" + (f"/{codec.channels}" if codec.channels > 1 else "")
    parameters = ";".join(f"{name}={value}" for name, value in codec.parameters.items())
    parameters = _OPUS if codec.name == "OPUS" else parameters
    if parameters:
        yield f"a=fmtp:{number} {parameters}"
    for feedback in FEEDBACK if sent is None else _SENDER_FEEDBACK:
        if feedback in codec.feedback:
            yield f"a=rtcp-fb:{number} {feedback}"
    if rtx is not None:
        yield f"a=rtpmap:{rtx} rtx/{codec.clock}"
        yield f"a=fmtp:{rtx} apt={number}"
    if sent is None:
        yield from _receiver_lines(media, chosen)
    else:
        yield from _sender_lines(media, sent, rtx)


def _receiver_lines(media: OfferedMedia, chosen: AcceptedMedia) -> Iterator[str]:
    wanted = {TRANSPORT_CC} if "transport-cc" in chosen.codec.feedback else set()
    if chosen.rids:
        wanted |= {MID, RID, REPAIRED_RID}
    for uri, extension in media.extensions.items():
        if uri in wanted and extension.direction in _REVERSED:
            yield f"a=extmap:{extension.id}{_REVERSED[extension.direction]} {uri}"
    if chosen.rids:  # all of them: OBS ends a push of which fewer layers are accepted
        yield from (f"a=rid:{rid.name} recv" for rid in chosen.rids)
        yield f"a=simulcast:recv {';'.join(rid.name for rid in chosen.rids)}"


def _sender_lines(media: OfferedMedia, sent: SentTrack, rtx: int | None) -> Iterator[str]:
    yield f"a=msid:{sent.stream} {sent.stream}-{media.kind}"
    ssrcs = [sent.ssrc]
    if rtx is not None and sent.rtx_ssrc is not None:
        ssrcs.append(sent.rtx_ssrc)
        yield f"a=ssrc-group:FID {sent.ssrc} {sent.rtx_ssrc}"
    for ssrc in ssrcs:
        yield f"a=ssrc:{ssrc} cname:{sent.stream}"
        yield f"a=ssrc:{ssrc} msid:{sent.stream} {sent.stream}-{media.kind}"


def _rtx(chosen: AcceptedMedia) -> int | None:
    """Returns the payload type of retransmissions; None if they are not used."""
    return chosen.codec.rtx if chosen.sent is None or chosen.sent.rtx_ssrc is not None else None
