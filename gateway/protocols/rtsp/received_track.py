"""The received tracks of an RTSP session, a pull or a push: RTP packets in, access units out."""

from collections.abc import Callable, Sequence
from typing import Final

from gateway.lib.numbers import read_integer
from gateway.media import aac, opus
from gateway.media.clock import VIDEO_CLOCK
from gateway.media.errors import InvalidData, UnsupportedCodec
from gateway.media.framed_units import CodedPictures, FramedSound, NalPictures
from gateway.media.latm import LatmReader
from gateway.media.track import AccessUnit, Codec, ForeignSound, Kind, MediaTrack
from gateway.protocols.rtp.av1_depacketizer import Av1Depacketizer
from gateway.protocols.rtp.depacketizers import AacDepacketizer, Depacketizer, FrameDepacketizer, NalDepacketizer
from gateway.protocols.rtp.packets import PacketOrder, RtpClock, RtpPacket, parse_sender_report
from gateway.protocols.rtp.sound_depacketizers import Ac3Depacketizer, LatmDepacketizer, MpegAudioDepacketizer
from gateway.protocols.rtp.vp_depacketizers import Vp8Depacketizer, Vp9Depacketizer
from gateway.protocols.rtsp.session_description import RtspMedia
from gateway.protocols.sdp.parameter_sets import described_config

# libav's decoders of the sound codecs that no track has, or few players play. A worker converts their sound to AAC.
# "PCM" is the name of Hikvision.
_FOREIGN: Final = {"PCMU": "pcm_mulaw", "PCMA": "pcm_alaw", "L16": "pcm_s16be", "PCM": "pcm_s16le", "AC3": "ac3"}
# RFC 3640 §3.3.6: those of AAC-hbr. Cameras leave them out, or the AudioSpecificConfig.
_AAC_HBR: Final = {"sizelength": "13", "indexlength": "3"}
_MPEG_AUDIO: Final = "MPA"  # MP3, which can be published, or MP2
_FRAMES: Final[dict[str, tuple[Codec, Callable[[], Depacketizer]]]] = {
    "VP8": (Codec.VP8, Vp8Depacketizer),
    "VP9": (Codec.VP9, Vp9Depacketizer),
    "AV1": (Codec.AV1, Av1Depacketizer),
}


class RtspTrack:
    """One medium of a session.

    foreign: the codec of sound that a worker converts to AAC; None: the units can be published.
    tells_late: whether only the first frame tells `foreign`.
    samples: makes access units. damaged: number of losses and of invalid payloads.
    other_type: the payload type of the last packet that the description does not have; None: none came.
    report: the sender report that counts: NTP seconds, and the RTP timestamp of this moment. None: none counts.
    """

    def __init__(self, medium: RtspMedia) -> None:
        """Raises UnsupportedCodec."""
        self.medium = medium
        self.kind = Kind.VIDEO if medium.kind == "video" else Kind.AUDIO
        self.clock = RtpClock(medium.rate)
        self.report: tuple[float, int] | None = None
        self._last_report: tuple[float, int] | None = None
        self.foreign: ForeignSound | None = None
        self.tells_late = medium.encoding == _MPEG_AUDIO
        self.damaged = 0
        self.other_type: int | None = None
        self._order: PacketOrder | None = None
        self._sequence: int | None = None
        try:
            self._depacketizer, self.samples = self._open()
        except UnsupportedCodec:
            raise
        except (InvalidData, ValueError) as error:
            raise UnsupportedCodec(f"{medium.encoding[:32]}: {error}") from None

    @property
    def has_begun(self) -> bool:
        """Whether a packet with media came."""
        return self._sequence is not None

    def use_udp(self) -> None:
        """Expects packets in any order."""
        self._order = PacketOrder()

    def receive(self, packet: RtpPacket, arrival: float) -> list[AccessUnit]:
        """Returns the units that a packet completes. arrival: ticks on the session's clock. Hot path.

        A packet without media only has a number. Those before the first packet with media do not count.
        """
        if packet.payload_type != self.medium.payload_type:
            self.other_type = packet.payload_type
            return []
        if self._sequence is None and not self._has_media(packet):
            return []
        if self._order is None:
            return self._in_order(packet, arrival)
        return [unit for ready in self._order.push(packet) for unit in self._in_order(ready, arrival)]

    def take_report(self, report: tuple[float, int]) -> bool:
        """Takes a sender report. Returns False if the camera has set its clock: then no report of a track counts."""
        last, self._last_report, self.report = self._last_report, report, report
        return last is None or self.clock.agrees(last[1], report[1], (report[0] - last[0]) * VIDEO_CLOCK)

    def _in_order(self, packet: RtpPacket, arrival: float) -> list[AccessUnit]:
        if self._sequence is None:
            self.clock.stamp(packet.timestamp, arrival)  # the first picture may end later, with the next one's begin
        elif packet.sequence != (self._sequence + 1) & 0xFFFF:
            self._lost()
        self._sequence = packet.sequence
        units: list[AccessUnit] = []
        if not self._has_media(packet):
            return units
        try:
            for assembled in self._depacketizer.push(packet):
                time = self.clock.stamp(assembled.timestamp, arrival)
                time += assembled.offset * VIDEO_CLOCK // self.medium.rate
                if isinstance(self.samples, CodedPictures):
                    unit = self.samples.make_unit(assembled.payload, time, assembled.key)
                else:
                    unit = self.samples.make_unit(assembled.payload, time)
                if unit is not None:
                    units.append(unit)
        except InvalidData:
            self._lost()
        return units

    def _has_media(self, packet: RtpPacket) -> bool:
        payload, depacketizer = packet.payload, self._depacketizer
        return bool(payload) and not (isinstance(depacketizer, NalDepacketizer) and depacketizer.is_reserved(payload))

    def _use_foreign(self, foreign: ForeignSound) -> None:
        self.foreign = foreign

    def _lost(self) -> None:
        self.damaged += 1
        self._depacketizer.lost()
        if not isinstance(self.samples, FramedSound):
            self.samples.restart()

    def _open(self) -> tuple[Depacketizer, NalPictures | CodedPictures | FramedSound]:
        medium = self.medium
        sets = described_config(medium.encoding, medium.parameters)
        match self.kind, medium.encoding:
            case Kind.VIDEO, "H264":
                return NalDepacketizer(h265=False, doubts_marker=True), NalPictures(Codec.H264, sets)
            case Kind.VIDEO, "H265":
                return NalDepacketizer(h265=True, doubts_marker=True), NalPictures(Codec.H265, sets)
            case Kind.VIDEO, encoding if encoding in _FRAMES:
                codec, make = _FRAMES[encoding]
                return make(), CodedPictures(codec)
            case Kind.AUDIO, "MPEG4-GENERIC":
                config = bytes.fromhex(medium.parameters.get("config", "")) or aac.lc_config(
                    medium.rate, medium.channels
                )
                samples = aac.parse_asc(config).samples_per_frame
                sizes = medium.parameters if "sizelength" in medium.parameters else _AAC_HBR
                bits = [read_integer(sizes.get(name, "0"), 32) or 0 for name in _AAC_HBR]
                return AacDepacketizer(bits[0], bits[1], samples), _sound(Codec.AAC, config)
            case Kind.AUDIO, "MP4A-LATM":
                is_inside = medium.parameters.get("cpresent", "1") != "0"
                reader = LatmReader(bytes.fromhex(medium.parameters.get("config", "")), is_inside=is_inside)
                samples = aac.parse_asc(reader.config).samples_per_frame
                return LatmDepacketizer(reader, samples), _sound(Codec.AAC, reader.config)
            case Kind.AUDIO, "OPUS":
                head = opus.OpusHead(2, 0, opus.RATE, 0, 0, b"")
                return FrameDepacketizer(), _sound(Codec.OPUS, opus.head_bytes(head))
            case Kind.AUDIO, encoding if encoding == _MPEG_AUDIO:
                return MpegAudioDepacketizer(self._use_foreign), _sound(Codec.MP3, b"")
            case Kind.AUDIO, encoding if encoding in _FOREIGN:
                self.foreign = ForeignSound(_FOREIGN[encoding], medium.rate, medium.channels)
                return (Ac3Depacketizer if encoding == "AC3" else FrameDepacketizer)(), _sound(Codec.AAC, b"")
        raise UnsupportedCodec(f"{self.kind} codec {medium.encoding[:32] or 'without a name'} cannot be carried")


def _sound(codec: Codec, config: bytes) -> FramedSound:
    return FramedSound(MediaTrack(Kind.AUDIO, codec, VIDEO_CLOCK, config))


class SenderReports:
    """Moves the sound of a session to its pictures when the sender's reports of both tracks are known."""

    def __init__(self, tracks: Sequence[RtspTrack] = ()) -> None:
        self._tracks = sorted(tracks, key=lambda track: track.kind is Kind.AUDIO)
        self._due = False  # the reports of both tracks are known, but not used yet

    def take(self, track: RtspTrack, data: bytes) -> None:
        """Takes an RTCP packet of a track."""
        report = parse_sender_report(data)
        if report is None:
            return
        if not track.take_report(report):
            for other in self._tracks:
                other.report = None
        self._due = len(self._tracks) == 2 and all(each.report is not None for each in self._tracks)

    def use(self) -> None:
        """Uses the reports if they are due. To be called before a packet is received. Hot path."""
        if self._due:
            self._due = not _synchronize(*self._tracks)


def _synchronize(video: RtspTrack, audio: RtspTrack) -> bool:
    """Moves the sound to the pictures of the same wall clock, by the sender's reports of both.

    A track that has not begun yet is moved to the other one. Returns False if a report is missing, or none has begun.
    """
    if video.report is None or audio.report is None:
        return False
    pictures_at = video.clock.time_of(video.report[1])
    sound_at = audio.clock.time_of(audio.report[1])
    apart = round((audio.report[0] - video.report[0]) * VIDEO_CLOCK)
    if pictures_at is None:
        if sound_at is None:
            return False
        video.clock.anchor(video.report[1], sound_at - apart)
        return True
    wanted = pictures_at + apart
    # Less is not audible; with more, the reports cannot be right.
    if sound_at is None or VIDEO_CLOCK // 100 < abs(wanted - sound_at) < 10 * VIDEO_CLOCK:
        audio.clock.anchor(audio.report[1], wanted)
    return True
