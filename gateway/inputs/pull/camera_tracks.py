"""The tracks of an RTSP session: RTP packets in, access units out."""

from __future__ import annotations

import base64
import binascii
from typing import Final

from gateway.lib.numbers import read_integer
from gateway.media import aac, h264, h265, nal, opus
from gateway.media.errors import InvalidData
from gateway.media.framed_units import TICKS, FramedSound, NalPictures
from gateway.media.track import Codec, Kind, MediaTrack
from gateway.media.unit import AccessUnit
from gateway.ports.errors import OutputError
from gateway.protocols.rtp.depacketizers import AacDepacketizer, Depacketizer, FrameDepacketizer, NalDepacketizer
from gateway.protocols.rtp.packets import PacketOrder, RtpClock, RtpPacket
from gateway.protocols.rtsp.session_description import RtspMedia
from gateway.workers.sound_protocol import ForeignSound

_FOREIGN: Final = {"PCMU": "pcm_mulaw", "PCMA": "pcm_alaw", "L16": "pcm_s16be"}


class CameraTrack:
    """One medium of a session. foreign: the codec of sound that a worker has to encode.

    over_udp: whether packets may be lost or come in another order.
    """

    def __init__(self, medium: RtspMedia) -> None:
        """Raises OutputError if it cannot be carried."""
        self.medium = medium
        self.kind = Kind.VIDEO if medium.kind == "video" else Kind.AUDIO
        self.clock = RtpClock(medium.rate)
        self.report: tuple[float, int] | None = None  # of the sender: NTP seconds and timestamp
        self.foreign: ForeignSound | None = None
        self.damaged = 0
        self._order: PacketOrder | None = None
        self._sequence: int | None = None
        try:
            self._depacketizer, self.samples = self._open()
        except (InvalidData, ValueError) as error:
            raise OutputError(f"{medium.encoding[:32]}: {error}") from None

    def use_udp(self) -> None:
        """Expects packets in any order."""
        self._order = PacketOrder()

    def packet(self, packet: RtpPacket, arrival: float) -> list[AccessUnit]:
        """Returns the units that a packet completes. arrival: milliseconds on the session's clock. Hot path."""
        if packet.payload_type != self.medium.payload_type:
            return []
        if self._order is None:
            return self._in_order(packet, arrival)
        return [unit for ready in self._order.push(packet) for unit in self._in_order(ready, arrival)]

    def _in_order(self, packet: RtpPacket, arrival: float) -> list[AccessUnit]:
        if self._sequence is not None and packet.sequence != (self._sequence + 1) & 0xFFFF:
            self._lost()
        self._sequence = packet.sequence
        units: list[AccessUnit] = []
        try:
            for assembled in self._depacketizer.push(packet):
                time = self.clock.stamp(assembled.timestamp, arrival)
                time += assembled.offset * TICKS // self.medium.rate
                unit = self.samples.make_unit(assembled.payload, time)
                if unit is not None:
                    units.append(unit)
        except InvalidData:
            self._lost()
        return units

    def _lost(self) -> None:
        self.damaged += 1
        self._depacketizer.lost()
        if isinstance(self.samples, NalPictures):
            self.samples.restart()

    def _open(self) -> tuple[Depacketizer, NalPictures | FramedSound]:
        medium = self.medium
        parameters = medium.parameters
        if self.kind is Kind.VIDEO and medium.encoding in ("H264", "H265"):
            if medium.encoding == "H264":
                return NalDepacketizer(h265=False), NalPictures(Codec.H264, _avcc(medium))
            return NalDepacketizer(h265=True), NalPictures(Codec.H265, _hvcc(medium))
        if self.kind is Kind.AUDIO:
            if medium.encoding == "MPEG4-GENERIC":
                config = bytes.fromhex(parameters.get("config", ""))
                samples = aac.parse_asc(config).samples_per_frame
                bits = [read_integer(parameters.get(name, "0"), 32) for name in ("sizelength", "indexlength")]
                return AacDepacketizer(bits[0] or 0, bits[1] or 0, samples), FramedSound(
                    MediaTrack(Kind.AUDIO, Codec.AAC, TICKS, config)
                )
            if medium.encoding == "OPUS":
                head = opus.head_bytes(opus.OpusHead(2, 0, opus.RATE, 0, 0, b""))
                return FrameDepacketizer(), FramedSound(MediaTrack(Kind.AUDIO, Codec.OPUS, TICKS, head))
            if medium.encoding in _FOREIGN:
                self.foreign = ForeignSound(_FOREIGN[medium.encoding], medium.rate, medium.channels)
                return FrameDepacketizer(), FramedSound(MediaTrack(Kind.AUDIO, Codec.AAC, TICKS, b""))
        raise OutputError(f"{self.kind} codec {medium.encoding[:32] or 'without a name'} cannot be carried")


def synchronize(video: CameraTrack, audio: CameraTrack) -> bool:
    """Moves the sound to the pictures of the same wall clock, by the sender's reports of both.

    Returns False if a report or the first packet of a track is missing.
    """
    if video.report is None or audio.report is None:
        return False
    at = video.clock.time_of(video.report[1])
    now = audio.clock.time_of(audio.report[1])
    if at is None or now is None:
        return False
    wanted = at + (audio.report[0] - video.report[0]) * 1000
    if 10 < abs(wanted - now) < 10_000:  # smaller: not audible; larger: the reports cannot be right
        audio.clock.anchor(audio.report[1], wanted)
    return True


def _avcc(medium: RtspMedia) -> bytes:
    """Returns the avcC record of sprop-parameter-sets (RFC 6184 §8.1); b"" without them."""
    units = _base64_units(medium.parameters.get("sprop-parameter-sets", ""))
    sps = [u for u in units if u[0] & 0x1F == h264.SPS]
    pps = [u for u in units if u[0] & 0x1F == h264.PPS]
    try:
        return h264.build_avcc(sps, pps) if sps and pps else b""
    except InvalidData:
        return b""  # the pictures bring them too


def _hvcc(medium: RtspMedia) -> bytes:
    """Returns the hvcC record of sprop-vps, -sps and -pps (RFC 7798 §7.1); b"" without them."""
    sets = [_base64_units(medium.parameters.get(f"sprop-{name}", "")) for name in ("vps", "sps", "pps")]
    try:
        return h265.build_hvcc(*sets) if all(sets) else b""
    except InvalidData:
        return b""


def _base64_units(text: str) -> list[bytes]:
    units: list[bytes] = []
    for part in text.split(",")[:16]:
        try:
            unit = base64.b64decode(part.strip(), validate=False)
        except (binascii.Error, ValueError):
            continue
        units += [u for u in (nal.split_annexb(unit) if unit.startswith(nal.START_CODE) else [unit]) if len(u) > 2]
    return units
