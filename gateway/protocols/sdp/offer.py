"""The offer of a WebRTC client (RFC 9429) as typed values: its media, codecs, transport and header extensions."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from gateway.protocols.errors import RemoteProtocolError
from gateway.protocols.sdp.parameter_sets import described_config
from gateway.protocols.sdp.sections import RtpFormat, SdpSection, decimal, parse_sections

TRANSPORT_CC: Final = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"
MID: Final = "urn:ietf:params:rtp-hdrext:sdes:mid"
RID: Final = "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id"
REPAIRED_RID: Final = "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id"

FEEDBACK: Final = ("nack", "nack pli", "ccm fir", "transport-cc")  # the kinds that we understand
# The parameters of a format that must be the same on both sides. Others describe what the client sends or receives.
PARAMETERS: Final = {
    "H264": ("level-asymmetry-allowed", "packetization-mode", "profile-level-id"),
    "H265": ("level-id", "profile-id", "tier-flag", "tx-mode"),
    "AV1": ("level-idx", "profile", "tier"),
    "VP9": ("profile-id",),
}
MAX_RIDS: Final = 8
_EXTENSIONS: Final = frozenset((TRANSPORT_CC, MID, RID, REPAIRED_RID))
_DIRECTIONS: Final = ("sendrecv", "sendonly", "recvonly", "inactive")
# Digest sizes in bytes, the strongest first. RFC 8122 §5 demands that SHA-1 is not used.
_DIGESTS: Final = {"sha-512": 64, "sha-384": 48, "sha-256": 32}
_HEX_PAIRS = re.compile(r"[0-9A-F]{2}(?::[0-9A-F]{2})*")
# RFC 8839 §5.4 allows letters, digits, "+" and "/". Old versions of libwebrtc also use the other characters.
_UFRAG = re.compile(r"[A-Za-z0-9+/_=#-]{4,256}")
_PASSWORD = re.compile(r"[A-Za-z0-9+/_=#-]{22,256}")
_RID_NAME = re.compile(r"[A-Za-z0-9_-]{1,16}")  # RFC 8851 §10, bounded as in the header extension
# RFC 9429 §5.1.2: each of them means the same, because DTLS and feedback are attributes of their own.
_PROFILES: Final = tuple(f"RTP/{name}" for name in ("SAVPF", "SAVP", "AVPF", "AVP"))
_MID_NAME = re.compile(r"[!-~]{1,64}")


@dataclass(frozen=True, slots=True)
class OfferedTransport:
    """The transport of an m-line: ICE credentials (RFC 8839), certificate and DTLS role (RFC 8842).

    fingerprint: ("sha-256", "AB:CD:…"), the strongest one that is offered.
    passive: the client is the DTLS server ("a=setup:passive", as ffmpeg offers). Then we must be the DTLS client.
    active: the client is the DTLS client and nothing else ("a=setup:active", as ffmpeg with `dtls_active`). It may
    read no ICE check during the handshake.
    """

    ufrag: str
    password: str
    fingerprint: tuple[str, str]
    passive: bool = False
    active: bool = False


@dataclass(frozen=True, slots=True)
class OfferedCodec:
    """A codec with its payload type.

    name: in upper case. parameters: of its format (fmtp), those of PARAMETERS. feedback: values of rtcp-fb, those of
    FEEDBACK. rtx: the payload type of its retransmissions (RFC 4588).
    config: the record of the parameter sets that the offer has (H.264, H.265); b"": only the pictures bring them.
    """

    payload_type: int
    name: str
    clock: int
    channels: int
    parameters: Mapping[str, str]
    feedback: frozenset[str]
    rtx: int | None
    config: bytes = b""


@dataclass(frozen=True, slots=True)
class Extension:
    """A header extension (RFC 8285). direction: as the client sees it; "" if it is that of the medium."""

    id: int
    direction: str


@dataclass(frozen=True, slots=True)
class Rid:
    """A layer of simulcast that the client sends (RFC 8853). restrictions: for example {"max-width": "1280"}."""

    name: str
    restrictions: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class OfferedMedia:
    """One m-line.

    rejected: it is switched off, is no RTP, or cannot share the transport of the others: the answer rejects it. Then
    it has no codecs, extensions and layers.
    format: the first one of the m-line, for the answer that rejects it.
    transport: None if it has no own attributes; then that of the offer counts.
    codecs: in the client's order, without those of retransmissions.
    extensions: by URI, those that we know.
    rids: in the client's order, also those that begin paused.
    reduced_rtcp: whether RTCP of reduced size (RFC 5506) may be used: feedback without a report.
    """

    mid: str
    kind: str
    protocol: str
    format: str
    rejected: bool
    direction: str
    transport: OfferedTransport | None
    codecs: tuple[OfferedCodec, ...]
    extensions: Mapping[str, Extension]
    rids: tuple[Rid, ...]
    reduced_rtcp: bool

    @property
    def sends(self) -> bool:
        """Whether the client offers to send."""
        return not self.rejected and self.direction in ("sendrecv", "sendonly")

    @property
    def receives(self) -> bool:
        """Whether the client offers to receive."""
        return not self.rejected and self.direction in ("sendrecv", "recvonly")


@dataclass(frozen=True, slots=True)
class Offer:
    """An offer.

    bundle: the mids that share a transport, in the client's order. transport: of the first medium that has one.

    mixed: whether one- and two-byte header extensions may be mixed (RFC 8285 §4.1.2).
    """

    media: tuple[OfferedMedia, ...]
    bundle: tuple[str, ...]
    transport: OfferedTransport
    mixed: bool


def parse_offer(body: bytes) -> Offer:
    """Reads an offer. Unknown lines are ignored.

    Raises RemoteProtocolError with a reason for the client: malformed, too large, or without ICE, DTLS, RTCP
    multiplexing or BUNDLE.
    """
    session, *sections = parse_sections(body)
    if not sections:
        raise RemoteProtocolError("the offer has no media")
    if session.value("ice-lite") is not None:
        raise RemoteProtocolError("the offer is of an ICE-lite agent, and this server is one, too")
    group = _bundle_group(session)
    shared = _extensions(session)
    media = tuple(_medium(section, session, group, shared) for section in sections)
    mids = [medium.mid for medium in media if medium.mid]
    if len(set(mids)) < len(mids):
        raise RemoteProtocolError("two media of the offer have the same mid")
    active = [medium for medium in media if not medium.rejected]
    if not group and len(active) > 1:
        raise RemoteProtocolError("the offer has several media, but not on one transport (a=group:BUNDLE)")
    transport = next((medium.transport for medium in active if medium.transport is not None), None)
    if transport is None:
        raise RemoteProtocolError("the offer has no video or audio that shares its transport with the others")
    known = {medium.mid for medium in media}
    mixed = any(section.value("extmap-allow-mixed") is not None for section in (session, *sections))
    return Offer(media, tuple(mid for mid in group if mid in known), transport, mixed)


def valid_credentials(ufrag: str, password: str) -> bool:
    """Whether they are well-formed ICE credentials (RFC 8839 §5.4)."""
    return bool(_UFRAG.fullmatch(ufrag) and _PASSWORD.fullmatch(password))


def _bundle_group(session: SdpSection) -> tuple[str, ...]:
    for value in session.values("group"):
        words = value.split()
        if words and words[0].upper() == "BUNDLE":
            return tuple(dict.fromkeys(words[1:]))
    return ()


def _medium(
    section: SdpSection, session: SdpSection, group: tuple[str, ...], shared: Mapping[str, Extension]
) -> OfferedMedia:
    """Returns one medium of the offer.

    shared: the extensions of the session.
    """
    if not section.kind:
        raise RemoteProtocolError("malformed m-line in the offer")
    mid = section.value("mid") or ""
    if mid and not _MID_NAME.fullmatch(mid):
        raise RemoteProtocolError("malformed mid in the offer")
    # RFC 9143 §6: port 0 with bundle-only is not switched off. GStreamer offers this with the policy max-bundle.
    off = section.port == 0 and section.value("bundle-only") is None
    rejected = off or (bool(group) and mid not in group) or not section.protocol.endswith(_PROFILES)
    # RFC 9143 §7.1.3: a bundle-only medium need not repeat the attributes of the transport.
    inherits = section.value("bundle-only") is not None and section.value("ice-ufrag") is None
    multiplexed = section.value("rtcp-mux") is not None or section.value("rtcp-mux-only") is not None
    if not rejected and not inherits and not multiplexed:
        raise RemoteProtocolError("the offer has no RTCP multiplexing (a=rtcp-mux)")
    direction = _direction(section) or _direction(session) or "sendrecv"
    kind, protocol, format, reduced = section.kind, section.protocol, section.formats[0], section.value("rtcp-rsize")
    if rejected:
        return OfferedMedia(mid, kind, protocol, format, True, direction, None, (), {}, (), reduced is not None)
    transport = None if inherits else _transport(section, session)
    extensions = {**shared, **_extensions(section)}
    return OfferedMedia(
        mid, kind, protocol, format, False, direction, transport, _codecs(section), extensions, _rids(section),
        reduced is not None,
    )  # fmt: skip


def _direction(section: SdpSection) -> str:
    return next((name for name, _ in section.attributes if name in _DIRECTIONS), "")


def _transport(section: SdpSection, session: SdpSection) -> OfferedTransport:
    def value(name: str) -> str:
        own = section.value(name)
        return (own if own is not None else session.value(name)) or ""

    ufrag, password, setup = value("ice-ufrag"), value("ice-pwd"), value("setup")
    if not ufrag or not password:
        raise RemoteProtocolError("the offer has no ICE credentials (a=ice-ufrag and a=ice-pwd)")
    if not valid_credentials(ufrag, password):
        raise RemoteProtocolError("malformed ICE credentials in the offer")
    if setup not in ("", "actpass", "active", "passive"):
        raise RemoteProtocolError("the offer has no usable DTLS role (a=setup:actpass)")
    return OfferedTransport(ufrag, password, _fingerprint(section, session), setup == "passive", setup == "active")


def _fingerprint(section: SdpSection, session: SdpSection) -> tuple[str, str]:
    offered = section.values("fingerprint") or session.values("fingerprint")
    if not offered:
        raise RemoteProtocolError("the offer has no DTLS certificate (a=fingerprint)")
    found: dict[str, str] = {}
    for value in offered:
        algorithm, _, digest = value.partition(" ")
        found.setdefault(algorithm.lower(), digest.strip().upper())
    for algorithm, size in _DIGESTS.items():
        digest = found.get(algorithm, "")
        if digest:
            if not _HEX_PAIRS.fullmatch(digest) or len(digest) != 3 * size - 1:
                raise RemoteProtocolError("malformed fingerprint in the offer")
            return algorithm, digest
    raise RemoteProtocolError("the fingerprint of the offer must be sha-256, sha-384 or sha-512")


def _codecs(section: SdpSection) -> tuple[OfferedCodec, ...]:
    # RFC 5761 §4: payload types 64 to 95 cannot be told from RTCP.
    formats = {n: f for n, f in section.rtp_formats().items() if f.encoding and not 64 <= n <= 95}
    rtx: dict[int, int] = {}
    for number, format in formats.items():
        if format.encoding == "RTX":
            rtx.setdefault(decimal(format.parameters.get("apt", "")), number)
    feedback: dict[str, set[str]] = {}
    for value in section.values("rtcp-fb"):
        word, _, kind = value.partition(" ")
        if (kind := " ".join(kind.split())) in FEEDBACK:
            feedback.setdefault(word, set()).add(kind)
    return tuple(_codec(format, rtx, feedback) for format in formats.values() if format.encoding != "RTX")


def _codec(format: RtpFormat, rtx: Mapping[int, int], feedback: Mapping[str, Iterable[str]]) -> OfferedCodec:
    number, name, all_parameters = format.payload_type, format.encoding, format.parameters
    parameters = {n: all_parameters[n] for n in PARAMETERS.get(name, ()) if n in all_parameters}
    kinds = frozenset((*feedback.get(str(number), ()), *feedback.get("*", ())))
    config = described_config(name, all_parameters)
    return OfferedCodec(number, name, format.rate, format.channels, parameters, kinds, rtx.get(number), config)


def _extensions(section: SdpSection) -> dict[str, Extension]:
    found: dict[str, Extension] = {}
    for value in section.values("extmap"):
        words = value.split()
        number, _, direction = words[0].partition("/") if len(words) > 1 else ("", "", "")
        id = decimal(number)
        # RFC 8285 §4.2 and §4.3: 15 is reserved in the one-byte form. Packets cannot carry ids above 255.
        known = 0 < id < 256 and id != 15 and (not direction or direction in _DIRECTIONS)
        if known and words[1] in _EXTENSIONS:
            found.setdefault(words[1], Extension(id, direction))
    return found


def _rids(section: SdpSection) -> tuple[Rid, ...]:
    """Returns the layers of a=simulcast:send. Of alternatives, only the first one counts."""
    restrictions: dict[str, dict[str, str]] = {}
    for value in section.values("rid"):
        words = value.split(maxsplit=2)
        if len(words) >= 2 and words[1] == "send":
            pairs = (part.partition("=") for part in (words[2] if len(words) > 2 else "").split(";"))
            restrictions.setdefault(words[0], {name.strip(): text.strip() for name, _, text in pairs if name.strip()})
    words = (section.value("simulcast") or "").split()
    layers = next((words[n + 1] for n in range(len(words) - 1) if words[n] == "send"), "")
    names = [layer.split(",")[0].removeprefix("~") for layer in layers.removeprefix("rid=").split(";")]
    known = [name for name in dict.fromkeys(names) if name in restrictions and _RID_NAME.fullmatch(name)]
    return tuple(Rid(name, restrictions[name]) for name in known[:MAX_RIDS])
