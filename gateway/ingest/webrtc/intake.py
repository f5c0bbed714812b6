"""WhipIntake: publishes the tracks of a WHIP push, and asks the sender for missing packets and key frames."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

import structlog

from gateway.ingest.webrtc.converted_pictures import ConvertedPictures
from gateway.ingest.webrtc.received_track import ReceivedTrack, TrackParameters
from gateway.ingest.webrtc.sound_on_demand import SoundOnDemand
from gateway.ingest.webrtc.whip_units import OPUS_TRACK, WhipUnits
from gateway.live.network_quality import NetworkQuality
from gateway.live.publisher import StreamPublisher
from gateway.live.sound_to_aac import MakeConverter, SoundToAac
from gateway.live.track_changes import KeepsChanging
from gateway.media.clock import VIDEO_CLOCK
from gateway.media.framed_units import NO_START, NONE_CAME
from gateway.media.track import AccessUnit, ForeignSound, Kind
from gateway.protocols.errors import RemoteProtocolError
from gateway.protocols.rtp import rtcp
from gateway.protocols.rtp.packets import header_extension
from gateway.protocols.rtp.timeline import RtpTimeline
from gateway.protocols.rtp.transport_feedback import TransportFeedback
from gateway.settings import Settings
from gateway.workers.worker_pool import WorkerPool

if TYPE_CHECKING:
    from gateway.webrtc.peer import Peer

log = structlog.get_logger(__name__)

_SSRC: Final = 1  # of our reports; we send no media
GOODBYE: Final = rtcp.receiver_report(_SSRC, (), "millrace") + rtcp.bye(_SSRC)
_REPAIR_SECONDS: Final = 0.01  # between two checks for missing packets
_SOON_SECONDS: Final = 0.011  # the reorder wait of a missing packet, and the millisecond to which timers are rounded
_FEEDBACK_SECONDS: Final = 0.05  # between two transport-wide feedbacks
_REPORT_SECONDS: Final = 1.0
_KEY_FRAME_SECONDS: Final = 2.0  # browsers send key frames only on request, and segments begin with one
_REPEAT_SECONDS: Final = 1.0  # a key frame is requested again if it has not come after this time
_LATE_SECONDS: Final = 1.0  # a sender's own key frames may come this much later than the interval


class WhipIntake:
    """One push. It publishes each complete picture. A worker converts Opus to AAC while a sink needs AAC; G.711 always.

    Nothing is published before the first key frame, or before `stream.tracks_wait` is over. `begin` starts its timer,
    `close` stops it.
    on_error: called with the reason if the push cannot continue. make_converter: of G.711.
    """

    def __init__(
        self,
        publisher: StreamPublisher,
        workers: WorkerPool,
        parameters: Sequence[TrackParameters],
        on_error: Callable[[str], None],
        settings: Settings,
        make_converter: MakeConverter | None = None,
    ) -> None:
        self._publisher = publisher
        self._on_error = on_error
        timeline = self._received_times = RtpTimeline(tuple(p.codec.clock for p in parameters))
        self.tracks = [ReceivedTrack(p, timeline, index) for index, p in enumerate(parameters)]
        codecs = [(track, track.parameters.codec) for track in self.tracks]
        self._by_type = {codec.payload_type: track for track, codec in codecs}
        self._by_type |= {codec.rtx: track for track, codec in codecs if codec.rtx is not None}
        self._converted: ConvertedPictures | None = None  # of pictures that cannot be published as they are
        self._sound: SoundOnDemand | None = None
        self._foreign: ForeignSound | None = None  # of the sound
        self._make_converter = make_converter
        self._converter: SoundToAac | None = None
        self._units: WhipUnits | None = None  # None: everything is converted
        audio = next((track for track in self.tracks if track.kind is Kind.AUDIO), None)
        if any(p.codec.name == "VP8" for p in parameters):
            head = b"" if audio is None else OPUS_TRACK.config
            self._converted = ConvertedPictures(publisher, workers, settings.transcode, head, self._want_key_frame)
        else:
            self._foreign = audio.foreign if audio is not None else None
            if audio is not None and audio.track is not None and audio.foreign is None:
                self._sound = SoundOnDemand(publisher, workers, audio.track)
            self._units = WhipUnits(publisher, {track.kind for track in self.tracks}, self._sound)
        self._reports: list[rtcp.ReportBlock] = []  # the last report of each track
        publisher.network, publisher.unusable.explain = self._network, self._explain
        self._feedback = TransportFeedback()
        self._peer: Peer | None = None
        self._began = time.monotonic()
        # A converting worker makes its own key frames.
        interval = _KEY_FRAME_SECONDS if self._converted is None else 0.0
        self._key_frames = KeyFrameRequests(interval, self._began)
        if self._converted is None:
            publisher.ask_key_frame = self._want_key_frame
        self._feedback_at = self._report_at = 0.0
        wants_feedback = any(p.transport_cc for p in parameters)
        self._idle_seconds = _FEEDBACK_SECONDS if wants_feedback else _REPORT_SECONDS  # between two calls of `_tick`
        self._round_trip: float | None = None  # seconds, as last given to the receivers; None: unknown
        self._timer: asyncio.TimerHandle | None = None
        self._is_hurried = False  # the timer runs every 10 ms, because something is missing
        self.received = 0
        """Bytes of all packets."""
        self.last_packet = self._began

    @property
    def has_media(self) -> bool:
        """Whether pictures or sound came that can be published."""
        has_begun = self._converted is not None and self._converted.has_begun
        return has_begun or (self._units is not None and self._units.units > 0)

    @property
    def _is_publishing(self) -> bool:
        return self._units is not None and self._units.is_announced

    @property
    def tolerates_delay(self) -> bool:
        """Whether no sink waits for the next picture, and no packet is missing."""
        return self._is_publishing and not self._is_hurried and not self._publisher.stream.is_awaited

    def _explain(self) -> str:
        """Returns why no picture was made although the offer promises some; "": one was, or nothing came."""
        video = next((track for track in self.tracks if track.kind is Kind.VIDEO), None)
        if video is None or video.track is not None or not self.received:
            return ""
        return NO_START if video.ssrc else NONE_CAME

    def name_encoder(self, name: str) -> None:
        """Takes the name of the client, for the metadata. It is called before media come."""
        if name and self._units is not None:
            self._units.metadata = {"encoder": name}

    def begin(self, peer: Peer) -> None:
        """Starts the timer of feedback and reports."""
        self._peer = peer
        self._start_timer(self._idle_seconds)

    async def run(self) -> None:
        """Runs the worker for sound, or for all media, until `close`. Raises SoundWorkerFailed, IntakeFailed."""
        if self._converted is not None:
            await self._converted.run()
        elif self._sound is not None:
            await self._sound.run()

    def close(self) -> None:
        """Stops the timer and the worker."""
        if self._sound is not None:
            self._sound.close()
        if self._converted is not None:
            self._converted.finish()
        if self._converter is not None:
            self._converter.close()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # ---- packets ----

    def receive_rtp(self, packets: Sequence[bytes], arrivals: Sequence[float]) -> None:
        """Takes packets in the order in which they came. Hot path. arrivals: monotonic seconds of each."""
        self.received += sum(map(len, packets))
        types = [packet[1] & 0x7F if len(packet) >= 12 else -1 for packet in packets]
        begin, count = 0, len(packets)
        while begin < count:
            payload_type = types[begin]
            end = begin + 1
            while end < count and types[end] == payload_type:
                end += 1
            track = self._by_type.get(payload_type)
            if track is not None:
                self._take_packets(track, packets[begin:end], arrivals[begin:end])
            begin = end

    def _take_packets(self, track: ReceivedTrack, packets: Sequence[bytes], arrivals: Sequence[float]) -> None:
        """Takes packets of one payload type."""
        self.last_packet = now = arrivals[-1]
        extension = track.parameters.transport_cc
        if extension:
            for packet, arrival in zip(packets, arrivals, strict=True):
                number = header_extension(packet, extension)
                if number is not None and len(number) == 2:
                    self._feedback.received(number[0] << 8 | number[1], arrival)
        for unit in track.receive(packets, arrivals, (now - self._began) * VIDEO_CLOCK):
            self._take(unit)
        if not self._is_hurried and (receiver := track.receiver) is not None and receiver.is_repairing:
            self._hurry()

    def receive_rtcp(self, packet: bytes, now: float) -> bool:
        """Takes a compound packet. Returns False if all sources have said BYE.

        RFC 3550 §6.6: it ends only the sources that it names. Browsers send it for a track that the page mutes.
        """
        try:
            items = rtcp.parse(packet)
        except RemoteProtocolError:
            return True
        for item in items:
            if isinstance(item, rtcp.SenderReport):
                for index, track in enumerate(self.tracks):
                    if track.ssrc == item.ssrc and track.receiver is not None:
                        track.receiver.take_sender_report(item, now)
                        self._received_times.report(index, item)
            elif isinstance(item, rtcp.Bye):
                for track in self.tracks:
                    track.take_goodbye(item.sources)
                begun = [track for track in self.tracks if track.ssrc]
                if begun and all(track.has_ended for track in begun):
                    return False
        return True

    # ---- publishing ----

    def _take(self, unit: AccessUnit) -> None:
        """Takes a unit of a track: publishes a picture, and gives sound to the worker. Hot path."""
        if unit.key and unit.track.kind is Kind.VIDEO:
            self._key_frames.note_key_frame(time.monotonic())
        if self._converted is not None:
            self._converted.take(unit)
        elif self._foreign is not None and unit.track.kind is Kind.AUDIO:
            self._convert(unit, self._foreign)
        else:
            self._publish(unit)

    def _convert(self, unit: AccessUnit, foreign: ForeignSound) -> None:
        """Gives sound to its worker, which starts with the first unit: MediaMTX offers sound and may send none."""
        if self._converter is None:
            assert self._make_converter is not None, "an edge, which has no workers, takes no pushes"
            self._converter = self._make_converter(self._publish)
            self._converter.change(unit.track, foreign)
        self._converter.give(unit)

    def _publish(self, unit: AccessUnit) -> None:
        """Publishes a picture, Opus, or AAC of the converter, which may come after the end of the push. Hot path."""
        if self._units is not None and self._publisher.active:
            unit.wall = time.time()
            try:
                self._units.take_unit(unit, time.monotonic())
            except KeepsChanging as error:
                self._on_error(str(error))

    # ---- feedback ----

    def _network(self) -> NetworkQuality:
        """Returns the quality of the connection, with the values of the worst track."""
        clocks = {track.ssrc: track.parameters.codec.clock for track in self.tracks}
        lost = max((block.fraction_lost / 256 for block in self._reports), default=0.0)
        jitters = [block.jitter / clocks[block.ssrc] for block in self._reports if block.ssrc in clocks]
        trip = self._peer.round_trip if self._peer is not None else None
        return NetworkQuality.of(trip, lost, max(jitters, default=0.0))

    def _want_key_frame(self) -> None:
        """Requests a key frame as soon as possible."""
        self._key_frames.want()
        if not self._is_hurried:
            self._hurry()

    def _hurry(self) -> None:
        """Checks soon for missing packets, and then every 10 ms while packets are missing."""
        self._is_hurried = True
        if self._timer is not None:
            self._start_timer(_SOON_SECONDS)

    def _start_timer(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._tick)

    def _tick(self) -> None:
        """Sends what is due: requests for packets and key frames, feedback on arrivals, reports."""
        peer = self._peer
        assert peer is not None, "set by begin"
        now = time.monotonic()
        arrival = (now - self._began) * VIDEO_CLOCK
        trip = peer.round_trip
        new_trip, self._round_trip = trip != self._round_trip, trip
        self._is_hurried = False
        may_request = self._converted is not None or self._is_publishing
        for track in self.tracks:
            receiver = track.receiver
            if receiver is None:
                continue
            if new_trip and trip is not None:
                receiver.measured(trip)
            due = receiver.due(now)
            for unit in track.take_released(due.received, arrival):
                self._take(unit)
            if due.nacks:
                peer.send_rtcp(rtcp.nack(_SSRC, track.ssrc, due.nacks))
            if track.kind is Kind.VIDEO and (due.pli or (may_request and self._key_frames.take_request(now))):
                peer.send_rtcp(rtcp.pli(_SSRC, track.ssrc))
            self._is_hurried |= receiver.is_repairing
        if now >= self._feedback_at:
            self._feedback_at = now + _FEEDBACK_SECONDS - _REPAIR_SECONDS / 2  # a timer may be early
            for packet in self._feedback.write(_SSRC, self.tracks[0].ssrc, now):
                peer.send_rtcp(packet)
        if now >= self._report_at:
            self._report_at = now + _REPORT_SECONDS - _REPAIR_SECONDS / 2
            blocks = [track.receiver.report(now) for track in self.tracks if track.receiver is not None]
            self._reports = blocks
            peer.send_rtcp(rtcp.receiver_report(_SSRC, blocks, "millrace"))
        self._start_timer(_REPAIR_SECONDS if self._is_hurried else self._idle_seconds)


class KeyFrameRequests:
    """Requests a key frame if a consumer wants one, or after an interval without any. Times are in seconds.

    A sender that sends key frames without a request has its own interval. It gets _LATE_SECONDS more.
    After a loss, the receiver requests key frames itself.

    interval: longest time without a key frame; 0: no limit.
    """

    __slots__ = ("_asked", "_interval", "_last", "_next", "_patience", "_wanted")

    def __init__(self, interval: float, now: float) -> None:
        self._interval = self._patience = interval
        self._last = now
        self._asked = True  # since the last key frame; true at first, because the first one comes without a request
        self._next = 0.0  # before this time, nothing is requested
        self._wanted = False

    def want(self) -> None:
        """Requests a key frame as soon as possible."""
        self._wanted = True

    def note_key_frame(self, now: float) -> None:
        """Notes that a key frame has come."""
        self._patience = self._interval + (0.0 if self._asked else _LATE_SECONDS)
        self._last, self._wanted, self._asked = now, False, False

    def take_request(self, now: float) -> bool:
        """Returns whether to request a key frame now. If so, the request counts as sent."""
        overdue = self._interval and now - self._last > self._patience
        if not (self._wanted or overdue) or now < self._next:
            return False
        self._next = now + _REPEAT_SECONDS
        self._asked = True
        return True
