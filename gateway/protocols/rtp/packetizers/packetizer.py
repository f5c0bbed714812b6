"""The protocol of all packetizers, and the choice of the packetizer of a track."""

from __future__ import annotations

from typing import Final, Protocol

from gateway.media.track import Codec, MediaTrack
from gateway.protocols.rtp.packetizers.av1 import Av1Packetizer
from gateway.protocols.rtp.packetizers.nal_units import H264Packetizer, H265Packetizer
from gateway.protocols.rtp.packetizers.sound import AacPacketizer, Ac3Packetizer, Mp3Packetizer
from gateway.protocols.rtp.packetizers.vp8 import Vp8Packetizer
from gateway.protocols.rtp.packetizers.vp9 import Vp9Packetizer

# Bytes of a payload. With 12 of RTP, 2 of a retransmission and 16 of SRTP it is a datagram of 1,200 bytes. Each network
# carries that, because IPv6 requires an MTU of 1,280.
MAX_PAYLOAD: Final = 1_170


class RtpPacketizer(Protocol):
    """Splits the access units of one track."""

    def for_burst(self, pictures: int) -> RtpPacketizer:
        """Returns a packetizer for old pictures that a new receiver gets before the next picture of this packetizer.

        pictures: their number. Picture ids of VP8 and VP9 then have no gap, at which a receiver would wait.
        """

    def split(self, unit_payload: bytes, limit: int, key: bool) -> list[bytes]:
        """Returns the payloads of an access unit in sending order.

        As far as possible, all have one length and the last is shorter (`sender.group_runs`).
        unit_payload, key: of the AccessUnit. limit: bytes of a payload, 100 to 65,000.
        Raises InvalidData for a unit that its codec does not allow.
        """


class OpusPacketizer:
    """Opus (RFC 7587). Never splits: §4.2 has no fragments, and Opus of 20 ms has at most 1,275 bytes."""

    def for_burst(self, pictures: int) -> OpusPacketizer:
        return self

    def split(self, unit_payload: bytes, limit: int, key: bool) -> list[bytes]:
        return [unit_payload] if unit_payload else []


def packetizer_of(track: MediaTrack) -> RtpPacketizer | None:
    """Returns the packetizer of a track; None if no RTP receiver takes its codec. Raises InvalidData."""
    match track.codec:
        case Codec.H264:
            return H264Packetizer(track.config)
        case Codec.H265:
            return H265Packetizer(track.config)
        case Codec.AV1:
            return Av1Packetizer(track.config)
        case Codec.VP8:
            return Vp8Packetizer()
        case Codec.VP9:
            return Vp9Packetizer()
        case Codec.OPUS:
            return OpusPacketizer()
        case Codec.AAC:
            return AacPacketizer()
        case Codec.MP3:
            return Mp3Packetizer()
        case Codec.AC3:
            return Ac3Packetizer()
    return None
