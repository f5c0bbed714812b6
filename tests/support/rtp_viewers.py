"""Viewers of RTP feeds without a network: their received packets, each checked against the SRTP rule."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gateway.live.sink import EndReason
from gateway.media.track import AccessUnit
from gateway.packaging.rtp.clock import VIDEO_SSRC
from gateway.packaging.rtp.viewer import PayloadTypes, RtpViewer
from gateway.protocols.rtp import retransmission
from gateway.protocols.rtp.depacketizers import AssembledFrame, NalDepacketizer
from gateway.protocols.rtp.packets import RtpPacket, parse_packet
from gateway.protocols.rtp.receiver import RtpReceiver
from tests.support.builders import VIDEO

ALL = PayloadTypes(video=96, video_rtx=97, audio=111)
WITHOUT_RTX = PayloadTypes(video=102, audio=9)


def coded(dts: int, key: bool = False, size: int = 2000, seed: int = 0) -> AccessUnit:
    """A unique picture of one slice."""
    slice_ = bytes((0x65 if key else 0x41, 0x80)) + f"{dts}.{seed}.".encode()
    slice_ = slice_.ljust(size, b"s")
    return AccessUnit(VIDEO, dts, 0, key, 1.7e9, len(slice_).to_bytes(4, "big") + slice_)


class Sender:
    """A `PacketSender`. Packets with equal SSRC and number must have equal bytes, or GCM would be insecure."""

    def __init__(self) -> None:
        self.runs: list[list[bytes]] = []
        self.rtcp: list[bytes] = []
        self._known: dict[bytes, bytes] = {}

    def send(self, packets: Sequence[bytes]) -> None:
        assert packets, "an empty run"
        assert all(len(packet) == len(packets[0]) for packet in packets[:-1]) and len(packets[-1]) <= len(packets[0])
        for packet in packets:
            assert self._known.setdefault(packet[2:4] + packet[8:12], packet) == packet, "other bytes with one number"
        self.runs.append(list(packets))

    def send_rtcp(self, packet: bytes) -> None:
        self.rtcp.append(packet)

    def packets(self, ssrc: int = VIDEO_SSRC) -> list[RtpPacket]:
        """The sent packets of a source."""
        parsed = [parse_packet(packet) for packet in self.raw(ssrc)]
        return [packet for packet in parsed if packet is not None]

    def raw(self, ssrc: int = VIDEO_SSRC) -> list[bytes]:
        return [packet for run in self.runs for packet in run if packet[8:12] == ssrc.to_bytes(4, "big")]

    def numbers(self, ssrc: int = VIDEO_SSRC) -> list[int]:
        return [packet.sequence for packet in self.packets(ssrc)]


class Watcher:
    """A viewer with its sender. ends: the reasons of its disconnect."""

    def __init__(self, types: PayloadTypes = ALL) -> None:
        self.sender = Sender()
        self.ends: list[EndReason] = []
        self.viewer = RtpViewer(self.sender, types, self.ends.append)

    def pictures(self, lost: Sequence[int] = ()) -> list[bytes]:
        """The payloads of the pictures that a receiver restores, with RTX. lost: indexes of lost packets."""
        types = self.viewer.types
        receiver = RtpReceiver(VIDEO_SSRC, types.video, 90_000, NalDepacketizer(h265=False), nack=True)
        found: list[bytes] = []
        raw = [packet for run in self.sender.runs for packet in run]
        for index, data in enumerate(raw):
            kind = data[1] & 0x7F
            repaired = types.video_rtx >= 0 and kind == types.video_rtx
            whole: bytes | None = retransmission.unwrap(data, types.video, VIDEO_SSRC) if repaired else data
            packet = parse_packet(whole, empty=True) if whole is not None else None
            if index in lost or packet is None or not (repaired or kind == types.video):
                continue
            received: list[Any] = list(receiver.push(packet, 0.0, repaired=repaired))
            found += [frame.payload for frame in received if isinstance(frame, AssembledFrame)]
        return found
