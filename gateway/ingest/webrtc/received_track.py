"""One track of a WHIP push: RTP packets in, access units with the times of the push out."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, cast

from gateway.media.clock import VIDEO_CLOCK
from gateway.media.errors import InvalidData
from gateway.media.framed_units import CodedPictures, FramedSound, NalPictures
from gateway.media.track import AccessUnit, Codec, ForeignSound, Kind, MediaTrack
from gateway.protocols.rtp import retransmission
from gateway.protocols.rtp.av1_depacketizer import Av1Depacketizer
from gateway.protocols.rtp.depacketizers import (
    AssembledFrame,
    FrameDepacketizer,
    NalDepacketizer,
    ResumableDepacketizer,
)
from gateway.protocols.rtp.packets import RtpPacket, header_extension, parse_packet
from gateway.protocols.rtp.receiver import Received, RtpReceiver
from gateway.protocols.rtp.timeline import RtpTimeline
from gateway.protocols.rtp.vp_depacketizers import Vp8Depacketizer, Vp9Depacketizer
from gateway.protocols.sdp.answer import largest_first
from gateway.protocols.sdp.offer import REPAIRED_RID, RID, TRANSPORT_CC, OfferedCodec, OfferedMedia
from gateway.workers.sound_protocol import opus_track

# The encoding names that can be published, the best first.
VIDEO_NAMES: Final = ("H264", "H265", "VP9", "AV1", "VP8")
AUDIO_NAMES: Final = ("OPUS", "PCMU", "PCMA")
_FOREIGN: Final = {"PCMU": "pcm_mulaw", "PCMA": "pcm_alaw"}  # libav's decoders
_CODECS: Final = {"H264": Codec.H264, "H265": Codec.H265, "AV1": Codec.AV1, "VP9": Codec.VP9, "VP8": Codec.VP8}
_NAL_CODECS: Final = frozenset((Codec.H264, Codec.H265))
_DEPACKETIZERS: Final[dict[str, Callable[[], ResumableDepacketizer]]] = {
    "H264": lambda: NalDepacketizer(h265=False),
    "H265": lambda: NalDepacketizer(h265=True),
    "AV1": Av1Depacketizer,
    "VP9": Vp9Depacketizer,
    "VP8": Vp8Depacketizer,
    **dict.fromkeys(AUDIO_NAMES, FrameDepacketizer),
}
_MAX_SENDERS: Final = 64  # of layers of simulcast; later ones count as unnamed
_SILENT_SECONDS: Final = 2.0  # if a source (SSRC) sends nothing for this time, another one is accepted
_LAYER_SECONDS: Final = 0.4  # for a smaller layer that has come for this time, without a pause of half of it


@dataclass(frozen=True, slots=True)
class TrackParameters:
    """A track as the SDP answer describes it.

    transport_cc, rid, repaired_rid: ids of the extensions for feedback on arrivals and the names of layers; 0: none.
    layers: the names of the layers of simulcast, the largest first; (): no simulcast.
    """

    kind: Kind
    codec: OfferedCodec
    transport_cc: int
    rid: int = 0
    repaired_rid: int = 0
    layers: tuple[bytes, ...] = ()


def track_parameters(kind: Kind, codec: OfferedCodec, media: OfferedMedia) -> TrackParameters:
    """Returns the parameters of a medium that is received with a codec."""
    found = {uri: extension.id for uri, extension in media.extensions.items()}
    feedback, rid, repaired = (found.get(uri, 0) for uri in (TRANSPORT_CC, RID, REPAIRED_RID))
    return TrackParameters(kind, codec, feedback, rid, repaired, tuple(map(str.encode, largest_first(media.rids))))


class ReceivedTrack:
    """Receives one track, of simulcast the largest layer that comes (RFC 8853). index: of the track in the timeline.

    Browsers stop large layers while their link is thin. Then a smaller one serves until a larger one comes again.
    foreign: the codec of sound that a worker converts to AAC; None: it is Opus, or pictures.
    """

    def __init__(self, parameters: TrackParameters, timeline: RtpTimeline, index: int) -> None:
        self.parameters = parameters
        self.kind = parameters.kind
        self.receiver: RtpReceiver | None = None
        self.ssrc = 0  # of the sender; 0 before the first packet
        self._layer = 0  # the place of its layer in the parameters
        self._known: dict[int, int] = {}  # the places of the layers of senders, which name them only at first
        self._timeline = timeline
        self._index = index
        self._last_packet = 0.0
        self._smaller_since = self._smaller_last = 0.0  # when packets of smaller layers came, without the one in use
        self._unit_maker: NalPictures | CodedPictures | FramedSound
        self.foreign: ForeignSound | None = None
        if parameters.kind is Kind.VIDEO:
            codec, config = _CODECS[parameters.codec.name], parameters.codec.config
            self._unit_maker = NalPictures(codec, config) if codec in _NAL_CODECS else CodedPictures(codec)
        elif (name := parameters.codec.name) in _FOREIGN:
            self.foreign = ForeignSound(_FOREIGN[name], parameters.codec.clock, parameters.codec.channels)
            self._unit_maker = FramedSound(MediaTrack(Kind.AUDIO, Codec.AAC, VIDEO_CLOCK, b""))
        else:
            self._unit_maker = FramedSound(replace(opus_track(2), timescale=VIDEO_CLOCK))

    @property
    def track(self) -> MediaTrack | None:
        """The track of its units; None before the first key frame."""
        return self._unit_maker.track

    @property
    def has_ended(self) -> bool:
        """Whether its source has said goodbye, and sent nothing since. Of simulcast, another layer may follow."""
        return self._last_packet == -math.inf and not self.parameters.layers

    def take_goodbye(self, sources: Sequence[int]) -> None:
        """Takes the SSRCs of a BYE. After that of its source, it accepts another one at once, or the same one again."""
        if self.ssrc in sources:
            self._last_packet = -math.inf

    def receive(self, data: Sequence[bytes], arrivals: Sequence[float], arrival: float) -> list[AccessUnit]:
        """Returns the units that packets of one payload type complete.

        arrivals: monotonic seconds of each packet. arrival: time of the last one, in ticks since the push began.
        """
        receiver = self.receiver
        if (
            receiver is not None
            and data[0][1] & 0x7F == self.parameters.codec.payload_type
            and {packet[8:12] for packet in data} == {self.ssrc.to_bytes(4, "big")}
        ):
            packets = [parse_packet(packet, empty=True) for packet in data]
            if None not in packets:
                self._last_packet = arrivals[-1]
                return self._make_units(receiver.push_all(cast("list[RtpPacket]", packets), arrivals), arrival)
        units: list[AccessUnit] = []
        for packet, now in zip(data, arrivals, strict=True):
            units += self._receive_one(packet, now, arrival)
        return units

    def _receive_one(self, data: bytes, now: float, arrival: float) -> list[AccessUnit]:
        """Returns the units that one packet completes."""
        ssrc = int.from_bytes(data[8:12], "big")
        repaired = data[1] & 0x7F == self.parameters.codec.rtx
        if repaired:
            if self._is_other_layer(data):
                return []
            unwrapped = retransmission.unwrap(data, self.parameters.codec.payload_type, self.ssrc)
            if unwrapped is None or self.receiver is None:
                return []
            data = unwrapped
        elif ssrc != self.ssrc:
            layer = self._layer_of(ssrc, data)
            if self.ssrc and layer >= self._layer and not self._is_silent(layer, now):
                return []  # a smaller layer of simulcast, or a packet of a former source
            self._layer = layer
            self._begin(ssrc)
        packet = parse_packet(data, empty=True)
        receiver = self.receiver
        if packet is None or receiver is None:
            return []
        if not repaired:
            self._last_packet = now
        return self._make_units(receiver.push(packet, now, repaired=repaired), arrival)

    def _is_silent(self, layer: int, now: float) -> bool:
        """Whether the source in use has stopped, so that a packet of this layer may replace it.

        After an interruption of the network, the packets of all layers come again: they prove nothing.
        """
        if self._layer < layer < len(self.parameters.layers):
            if max(self._last_packet, now - _LAYER_SECONDS / 2) >= self._smaller_last:
                self._smaller_since = now
            self._smaller_last = now
            if now - self._smaller_since >= _LAYER_SECONDS:
                return True
        return now - self._last_packet >= _SILENT_SECONDS

    def _layer_of(self, ssrc: int, data: bytes) -> int:
        """Returns the place of the layer of a packet, which is after the known ones if its name is missing."""
        layers, identifier = self.parameters.layers, self.parameters.rid
        name = header_extension(data, identifier) if layers and identifier else None
        if name in layers and (ssrc in self._known or len(self._known) < _MAX_SENDERS):
            self._known[ssrc] = layers.index(name)
        return self._known.get(ssrc, len(layers))

    def _is_other_layer(self, data: bytes) -> bool:
        """Whether a retransmitted packet is of another layer. Browsers probe the network with such packets."""
        layers, identifier = self.parameters.layers, self.parameters.repaired_rid
        name = header_extension(data, identifier) if layers and identifier else None
        return name is not None and layers[self._layer : self._layer + 1] != (name,)

    def _begin(self, ssrc: int) -> None:
        """Expects a new source, which has other sequence numbers and timestamps."""
        codec = self.parameters.codec
        self.ssrc = ssrc
        depacketizer, nack = _DEPACKETIZERS[codec.name](), "nack" in codec.feedback
        self.receiver = RtpReceiver(ssrc, codec.payload_type, codec.clock, depacketizer, nack=nack)
        if not isinstance(self._unit_maker, FramedSound):
            self._unit_maker.restart()

    def take_released(self, received: Iterable[Received], arrival: float) -> list[AccessUnit]:
        """Returns the units of packets that the receiver has released by a timer."""
        return self._make_units(received, arrival)

    def _make_units(self, received: Iterable[Received], arrival: float) -> list[AccessUnit]:
        units: list[AccessUnit] = []
        for frame in received:
            if not isinstance(frame, AssembledFrame):
                continue
            time = self._timeline.stamp(self._index, frame.timestamp, arrival)
            try:
                maker = self._unit_maker
                if isinstance(maker, CodedPictures):
                    unit = maker.make_unit(frame.payload, time, frame.key)
                else:
                    unit = maker.make_unit(frame.payload, time)
            except InvalidData:
                continue  # the receiver counts broken packets; a broken picture is dropped like a lost one
            if unit is not None:
                units.append(unit)
        return units
