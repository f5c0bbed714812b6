"""The media of an RTSP session: a play of a stream, or a push."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final

from gateway.ingest.push import Push
from gateway.ingest.rtsp.intake import RtspIntake
from gateway.ingest.rtsp.setups import Setups
from gateway.ingest.rtsp.udp import RtspUdp, UdpTrack
from gateway.ingest.services import ListenerServices
from gateway.live.sink import EndReason
from gateway.live.stream import Stream
from gateway.media.errors import UnsupportedCodec
from gateway.media.track import Kind
from gateway.packaging.rtsp_output import Described, RtspOutput
from gateway.playback.play import Play
from gateway.playback.rtsp import RtspPlayback, UdpTransport
from gateway.ports.errors import MediaUnusable, NoSuchStream
from gateway.protocols.errors import RemoteProtocolError
from gateway.protocols.rtsp.received_track import RtspTrack
from gateway.protocols.rtsp.session_description import RtspMedia, parse_description

PUSH_IDLE: Final = 30.0  # seconds without media after which a push ends


class RtspPlay:
    """A play: `open` finds the stream, `begin` and `start` send it. `end` must be called."""

    def __init__(self, services: ListenerServices, play: Play, address: str) -> None:
        self._services, self._play, self._address = services, play, address
        self._playback: RtspPlayback | None = None
        self._stream: Stream | None = None
        self._output: RtspOutput | None = None
        self.described = Described()

    @property
    def name(self) -> str:
        return self._play.name

    @property
    def count(self) -> int:
        """The number of tracks."""
        return len(self.described.tracks)

    async def open(self) -> None:
        """Waits for the stream, and describes it. Raises GatewayError, MediaUnusable if RTP carries none of it."""
        stream = self._stream = await self._play.wait()
        output = stream.output("rtsp")
        if not isinstance(output, RtspOutput):  # it failed; it will be started again
            raise NoSuchStream(self.name)
        self._output, self.described = output, output.describe()
        if not self.described.tracks:
            raise MediaUnusable("RTSP cannot carry the codecs of this stream")

    async def begin(self) -> None:
        """Counts the bandwidth of the player. Raises GatewayError."""
        stream = await self._play.begin()
        if stream is not self._stream or self._output is None:
            raise NoSuchStream(self.name)  # it has ended since it was described

    def start(self, setups: Setups, transport: asyncio.Transport, on_end: Callable[[EndReason], None]) -> None:
        """Begins to send on the connection, or over UDP."""
        stream, output = self._stream, self._output
        assert stream is not None and output is not None, "`open` has set them"
        backlog = self._services.settings.limits.viewer_backlog
        playback = self._playback = RtspPlayback(stream, output, self.described, backlog, self._address, on_end)
        by_kind = {sent.track.kind: setups.channels.get(n, -1) for n, sent in enumerate(self.described.tracks)}
        if udp := setups.udp if setups.udp_tracks else None:
            tracks = [(setups.channels[number], track) for number, track in setups.udp_tracks.items()]
            transport = UdpTransport(output, partial(_send, udp, tracks), lambda: on_end(EndReason.OUTPUT_OFF))
        playback.begin((by_kind.get(Kind.VIDEO, -1), by_kind.get(Kind.AUDIO, -1)), transport, burst=udp is None)

    @property
    def ended(self) -> EndReason | None:
        """Why the stream has ended, which nobody tells a paused player; None: it has not."""
        return self._stream.ended if self._stream is not None else None

    def pause(self) -> None:
        """Sends nothing, until `begin` and `start`. Idempotent."""
        playback, self._playback = self._playback, None
        if playback is not None:
            playback.leave()

    def end(self) -> None:
        """Ends the play. Idempotent."""
        self.pause()
        self._play.end()


def _send(udp: RtspUdp, tracks: Sequence[tuple[int, UdpTrack]], packets: Mapping[int, Sequence[bytes]]) -> None:
    """Sends packets to the ports of their tracks. tracks: with the channel of RTP; RTCP has the next one. Hot path."""
    for channel, track in tracks:
        for which in (1, 0):  # a report comes before the packets that it explains
            if own := packets.get(channel + which):
                udp.send(track, which, own)


class RtspPush:
    """A push: `announce` reads its tracks, `begin` acquires its publisher. `end` must be called."""

    def __init__(self, services: ListenerServices, push: Push) -> None:
        self._services, self._push = services, push
        self._intake: RtspIntake | None = None
        self._media: tuple[RtspMedia, ...] = ()
        self._used: dict[int, RtspTrack] = {}  # by the number of the medium
        self._left_out: dict[str, Kind] = {}
        self._last_media = time.monotonic()
        self.tracks: list[RtspTrack] = []

    @property
    def name(self) -> str:
        return self._push.id

    @property
    def count(self) -> int:
        """The number of media that were announced."""
        return len(self._media)

    def announce(self, body: bytes) -> None:
        """Reads the description. Raises MediaUnusable if nothing of it can be used, and counts the refusal.

        The first pictures and the first sound that can be used are published. Other tracks may be set up, because
        clients send what they have announced; their packets are dropped.
        """
        try:
            self._media = parse_description(body).media
        except RemoteProtocolError as error:
            raise self._unusable(str(error)) from None
        for number, medium in enumerate(self._media):
            if medium.kind not in (Kind.VIDEO, Kind.AUDIO) or medium.kind in {t.kind for t in self._used.values()}:
                continue
            try:
                self._used[number] = RtspTrack(medium)
            except UnsupportedCodec:
                self._left_out[medium.encoding or "a codec without a name"] = Kind(medium.kind)
        self.tracks = list(self._used.values())
        if not self.tracks:
            raise self._unusable(f"no codec that can be published: {', '.join(self._left_out) or 'no media'}")

    def _unusable(self, reason: str) -> MediaUnusable:
        error = MediaUnusable(reason)
        self._push.refuse(error)
        return error

    def number_of(self, control: str) -> int | None:
        """Returns the number of the medium with this address, or whose address it ends with; None: there is none."""
        for number, medium in enumerate(self._media):
            if medium.control and control.rstrip("/").endswith(medium.control.rstrip("/")):
                return number
        return None

    def payload_type(self, number: int) -> int:
        return self._media[number].payload_type

    def use_udp(self) -> None:
        """Expects packets in any order."""
        for track in self.tracks:
            track.use_udp()

    async def begin(self, evict: Callable[[EndReason], None]) -> None:
        """Acquires the publisher. Raises GatewayError."""
        publisher = await self._push.begin(evict)
        make_converter = self._services.sound_converter(publisher.stream.name)
        assert make_converter is not None, "an edge, which has no workers, takes no pushes"
        self._intake = RtspIntake(publisher, self.tracks, make_converter)
        for name, kind in self._left_out.items():
            if kind not in {track.kind for track in self.tracks}:
                publisher.unusable.leave_out(kind, name)
        self._push.log_begin()
        self._last_media = self._push.began

    @property
    def is_awaited(self) -> bool:
        """Whether anybody needs its units as soon as they arrive."""
        return self._intake is not None and self._intake.publisher.stream.is_awaited

    def take(self, number: int, data: bytes, is_report: bool) -> None:
        """Takes a packet of a track. Raises KeepsChanging. Hot path."""
        intake, track = self._intake, self._used.get(number)
        if intake is None or track is None:
            return
        if is_report:
            intake.reports.take(track, data)
            return
        self._last_media = now = time.monotonic()
        intake.take_packet(track, data, now)

    def overdue(self, now: float) -> str:
        """Returns why the push must end; "": it may continue."""
        intake, limits = self._intake, self._services.settings.limits
        if intake is None:
            return ""
        return self._push.overdue(now, self._last_media, limits, PUSH_IDLE, has_media=intake.units > 0)

    def end(self, reason: str, *, stopped: bool = False, bytes: int = 0) -> None:
        """Ends the push. Idempotent."""
        intake, self._intake = self._intake, None
        if intake is not None:
            intake.finish(time.monotonic())
        self._push.end(reason, stopped=stopped, bytes=bytes, units=intake.units if intake is not None else 0)
