"""SRTP (RFC 3711, RFC 7714): protects outgoing packets, checks and decrypts incoming ones."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from pylibsrtp import Error, Policy, Session

from gateway.webrtc.srtp_runs import batch_opener, run_protector, session_of

MAX_SOURCES: Final = 32  # SSRCs of one peer, of RTP and RTCP together
# Packets. A packet that is older than this many others can neither be sent again nor be received.
WINDOW: Final = 2_048
_MIN_RTP: Final = 12
_MIN_RTCP: Final = 8

# By the names of OpenSSL: profile, bytes of a key, bytes of a salt (RFC 5764 §4.1.2, RFC 7714 §12).
_PROFILES: Final = {
    b"SRTP_AEAD_AES_128_GCM": (Policy.SRTP_PROFILE_AEAD_AES_128_GCM, 16, 12),
    b"SRTP_AEAD_AES_256_GCM": (Policy.SRTP_PROFILE_AEAD_AES_256_GCM, 32, 12),
    b"SRTP_AES128_CM_SHA1_80": (Policy.SRTP_PROFILE_AES128_CM_SHA1_80, 16, 14),
}
_TAGS: Final = {b"SRTP_AES128_CM_SHA1_80": 10}  # bytes that are added to a packet; 16 with the others


@dataclass(frozen=True, slots=True)
class SrtpKeys:
    """The SRTP keys of a connection (RFC 5764 §4.2).

    profile: name of OpenSSL. client, server: master key and salt of what each side sends.
    """

    profile: bytes
    client: bytes
    server: bytes


def material_size(profile: bytes) -> int:
    """Returns the bytes of keying material that a profile needs."""
    _, key, salt = _PROFILES[profile]
    return 2 * (key + salt)


def keys_of(profile: bytes, material: bytes) -> SrtpKeys:
    """Splits keying material. RFC 5764 §4.2: client key, server key, client salt, server salt."""
    _, key, salt = _PROFILES[profile]
    salts = 2 * key
    client = material[:key] + material[salts : salts + salt]
    server = material[key:salts] + material[salts + salt : salts + 2 * salt]
    return SrtpKeys(profile, client, server)


class SrtpSender:
    """Protects packets of any SSRC.

    A packet may be sent again, byte for byte. Other bytes with the SSRC and sequence number of an earlier packet
    must never be given: that breaks GCM.
    """

    __slots__ = ("_handle", "_runs", "_session", "protect_rtcp", "tag")

    def __init__(self, profile: bytes, key: bytes) -> None:
        policy = Policy(key, Policy.SSRC_ANY_OUTBOUND, 0, _PROFILES[profile][0])
        policy.window_size = WINDOW
        policy.allow_repeat_tx = True
        self._session = Session(policy)
        self.protect_rtcp = self._session.protect_rtcp
        self.tag = _TAGS.get(profile, 16)  # bytes that are added to a packet
        self._runs = run_protector()
        self._handle = session_of(self._session) if self._runs is not None else None

    def protect_run(self, packets: Sequence[bytes]) -> memoryview | None:
        """Returns packets of equal length (the last may be shorter), protected, one after the other. Hot path.

        The result is valid until the next call for any peer. None: the packets must be protected one by one.
        """
        return None if self._runs is None else self._runs.protect(self._handle, packets, self.tag)

    def protect(self, packets: Sequence[bytes]) -> list[bytes]:
        """Returns the protected packets, in order. One that is too old or too long is left out. Hot path."""
        protect = self._session.protect
        try:
            return [protect(packet) for packet in packets]
        except (Error, ValueError):
            return self._protect_each(packets)

    def _protect_each(self, packets: Sequence[bytes]) -> list[bytes]:
        """Returns the packets that can be protected. Protecting a packet again gives the same bytes."""
        protected = []
        for packet in packets:
            try:
                protected.append(self._session.protect(packet))
            except (Error, ValueError):
                continue
        return protected


class SrtpReceiver:
    """Authenticates and decrypts packets of at most MAX_SOURCES SSRCs. Rejects repeated packets."""

    __slots__ = ("_handle", "_opener", "_session", "_sources")

    def __init__(self, profile: bytes, key: bytes) -> None:
        policy = Policy(key, Policy.SSRC_ANY_INBOUND, 0, _PROFILES[profile][0])
        policy.window_size = WINDOW
        self._session = Session(policy)
        # libsrtp allocates a state for each SSRC with an authentic packet.
        self._sources: set[bytes] = set()
        self._opener = batch_opener()
        self._handle = session_of(self._session) if self._opener is not None else None

    def unprotect_all(self, packets: Sequence[bytes]) -> Sequence[bytes | None]:
        """Returns for each packet what `unprotect` returns. Hot path."""
        opener = self._opener
        if opener is not None and self._sources.issuperset([packet[8:12] for packet in packets]):
            opened = opener.unprotect(self._handle, packets)
            if opened is not None:
                return opened
        return [self.unprotect(packet) for packet in packets]

    def unprotect(self, packet: bytes) -> bytes | None:
        """Returns the RTP packet; None if it is forged, repeated, malformed or of too many SSRCs. Hot path."""
        return self._open(packet, packet[8:12], _MIN_RTP, self._session.unprotect)

    def unprotect_rtcp(self, packet: bytes) -> bytes | None:
        """Returns the compound RTCP packet; None as in `unprotect`."""
        return self._open(packet, packet[4:8], _MIN_RTCP, self._session.unprotect_rtcp)

    def _open(self, packet: bytes, source: bytes, least: int, unprotect: Callable[[bytes], bytes]) -> bytes | None:
        if source not in self._sources and (len(packet) < least or len(self._sources) >= MAX_SOURCES):
            return None
        try:
            plain = unprotect(packet)
        except (Error, ValueError):
            return None
        self._sources.add(source)
        return plain
