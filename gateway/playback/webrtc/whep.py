"""WHEP: viewers over WebRTC (`POST /<id>/whep`, draft-ietf-wish-whep)."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import quote

import structlog

from gateway.http.request import Request
from gateway.http.response import Answer, Response, moved, text
from gateway.listeners.port_listener import OpenListeners
from gateway.live.network_quality import NetworkQuality
from gateway.live.sink import EndReason
from gateway.live.stream import Stream
from gateway.media.clock import VIDEO_CLOCK
from gateway.media.track import Codec, Kind
from gateway.outputs.browser.opus_sound import has_sound
from gateway.packaging.rtp.clock import AUDIO_SSRC, VIDEO_RTX_SSRC, VIDEO_SSRC
from gateway.packaging.rtp.link_quality import LinkQuality
from gateway.packaging.rtp.output import KIND, RtpOutput, kinds_of
from gateway.packaging.rtp.video_feed import VideoFeed
from gateway.packaging.rtp.viewer import PayloadTypes, RtpViewer
from gateway.playback.http_play import ViewerRefused, answer_refused, http_play
from gateway.playback.play import Play
from gateway.playback.play_format import AnswerOrAwaitable
from gateway.playback.services import PlayServices
from gateway.ports.errors import AtCapacity, GatewayError, OutputError
from gateway.protocols.errors import RemoteProtocolError
from gateway.protocols.rtp import rtcp
from gateway.protocols.rtp.rtcp import ReportBlock
from gateway.protocols.sdp.answer import AcceptedMedia, SentTrack
from gateway.protocols.sdp.codec_choice import NAMES, no_codec_to_send, sending_codec
from gateway.protocols.sdp.offer import Offer, OfferedMedia
from gateway.webrtc.handler import PeerEnd
from gateway.webrtc.signalling import NOT_ALLOWED, OfferRefused, bearer

if TYPE_CHECKING:
    from gateway.webrtc.peer import Peer

log = structlog.get_logger(__name__)


def open_whep(services: PlayServices) -> OpenListeners:
    """Returns the responder for viewers. The port is that of `services.sessions`."""
    return OpenListeners((), services.tasks, {KIND: WhepPlayback(services).respond})


class WhepPlayback:
    """Answers below /<id>/whep."""

    def __init__(self, services: PlayServices) -> None:
        self._sessions = services.sessions
        self._streams = services.browser_streams
        self._plays = services.plays
        self._media = services.browser_media

    def respond(self, request: Request, name: str) -> AnswerOrAwaitable:
        """Answers a request for the viewers of a stream, or for one of its sessions."""
        if request.path.removesuffix("/").split("/")[2:] != [KIND]:  # the first part of the path may be a slug
            return self._sessions.answer_request(request, request.path)
        if request.method != "POST":
            return NOT_ALLOWED
        return self._post(request, name)

    async def _post(self, request: Request, name: str) -> Answer:
        token = bearer(request)
        if token and "sign=" not in request.raw_query:  # "<id>?sign=…" as for WHIP, or only the sign
            request.raw_query = f"sign={quote(token.rpartition('sign=')[2])}"
        play = http_play(self._plays, self._streams, request, name, counted=True)
        try:  # the offer is read later, so that waiting requests need no memory for it
            await play.check()
            if play.name != name:
                return moved(request, f"/{play.name}/{KIND}", status=307)
            await play.wait()
        except GatewayError as error:
            return _answer(play, request, error)
        finally:
            play.end()

        async def accept(offer: Offer) -> Response:
            try:
                stream = await play.begin()
            except GatewayError as error:
                return _answer(play, request, error)
            session = _WhepViewer(self, stream, play, request.peer)
            stream.playback.uses += 1
            try:
                return await self._describe(session, request, offer)
            except BaseException:
                self.ended(session)
                raise

        return self._sessions.read_offer(request, accept)

    async def _describe(self, session: _WhepViewer, request: Request, offer: Offer) -> Response:
        stream, output = session.stream, session.stream.output(KIND)
        if not isinstance(output, RtpOutput) or stream.tracks is None:
            raise AtCapacity(f"{stream.name} is about to start again")
        session.output = output
        accepted: dict[int, AcceptedMedia] = {}
        video = audio = None
        for index, media in enumerate(offer.media):
            if media.rejected or not media.receives:
                continue
            if media.kind == Kind.VIDEO and stream.tracks.video is not None and video is None:
                self._release_pictures(session)  # those of a video section before that nothing could be sent to
                pictures = session.pictures = await self._find_pictures(stream, media)
                track = pictures.tracks.video if pictures.tracks is not None else None
                codec = sending_codec(media, track) if track is not None else None
                if codec is not None:
                    rtx = VIDEO_RTX_SSRC if codec.rtx is not None else None
                    video = accepted[index] = AcceptedMedia(codec, SentTrack(stream.name, VIDEO_SSRC, rtx))
            elif media.kind == Kind.AUDIO and has_sound(stream) and audio is None:
                codec = next((codec for codec in media.codecs if codec.name == NAMES[Codec.OPUS]), None)
                if codec is not None:
                    audio = accepted[index] = AcceptedMedia(codec, SentTrack(stream.name, AUDIO_SSRC))
        wants_video = any(media.kind == Kind.VIDEO and media.receives and not media.rejected for media in offer.media)
        if (wants_video and stream.tracks.video is not None and video is None) or not accepted:
            tracks = [track for track in (stream.tracks.video, stream.tracks.audio) if track is not None]
            raise OfferRefused(406, no_codec_to_send(tracks, offer.media))
        offered = {media.kind for media in offer.media if media.receives}
        session.lacks = frozenset(offered & {Kind.VIDEO, Kind.AUDIO} - kinds_of(stream))
        session.types = PayloadTypes(
            video.codec.payload_type if video is not None else -1,
            video.codec.rtx if video is not None and video.codec.rtx is not None else -1,
            audio.codec.payload_type if audio is not None else -1,
        )
        folder = request.path.removesuffix("/")  # perhaps with the slug: a proxy may choose the server by this part
        session.peer, response = self._sessions.open(request, folder, offer, accepted, session, has_key=False)
        log.info("WHEP viewer joins", stream=stream.name, peer=request.peer)
        return response

    async def _find_pictures(self, stream: Stream, media: OfferedMedia) -> Stream:
        names = {codec.name for codec in media.codecs}
        try:
            return await self._media.acquire(stream, [codec for codec, name in NAMES.items() if name in names])
        except OutputError as error:
            raise OfferRefused(406, str(error)) from None

    def change(self, session: _WhepViewer, shown: Stream, step: int, take: Callable[[Stream], None]) -> None:
        """Passes the next smaller (-1) or larger (1) pictures to `take`, if they exist."""
        if session.pictures is not None:
            self._media.change(session.stream, session.pictures, shown, step, take)

    def ended(self, session: _WhepViewer) -> None:
        """Releases the pictures and the place of a session. Called once, at its end."""
        if session.peer is not None:
            self._sessions.forget(session.peer)
        self._release_pictures(session)
        session.stream.playback.uses -= 1
        session.play.end()

    def _release_pictures(self, session: _WhepViewer) -> None:
        if session.pictures is not None:
            self._media.release(session.stream, session.pictures)
            session.pictures = None


@dataclass(slots=True, eq=False)
class _WhepViewer:
    """One viewer; a PeerHandler. pictures: the stream whose pictures it gets; None: only sound.

    lost: share of lost packets in the last report. jitter, round_trip: seconds.
    """

    playback: WhepPlayback
    stream: Stream
    play: Play
    address: str
    output: RtpOutput = field(init=False)
    pictures: Stream | None = None
    peer: Peer | None = None
    types: PayloadTypes = field(default_factory=PayloadTypes)
    lacks: frozenset[str] = frozenset()
    lost: float = 0.0
    jitter: float = 0.0
    round_trip: float | None = None
    _viewer: RtpViewer | None = field(default=None, init=False)
    _link: LinkQuality = field(default_factory=LinkQuality, init=False)

    # ---- PeerHandler ----

    @property
    def tolerates_delay(self) -> bool:
        """False: a viewer waits for repeated packets, so its requests must be read at once."""
        return False

    def connected(self) -> None:
        peer = self.peer
        assert peer is not None, "the answer has been sent"
        if (ended := self.stream.ended) is not None:  # during the handshake
            self._stream_ended(ended)
            return
        self._viewer = RtpViewer(peer, self.types, self._stream_ended, self.lacks)
        pictures = self.pictures if self.types.video >= 0 else None
        self.output.connections.add(self)  # before it joins: if its pictures have ended, it ends at once
        self.output.join(self._viewer, self.output.feed_for(pictures) if pictures is not None else None)

    def receive_rtp(self, packets: Sequence[bytes], arrivals: Sequence[float]) -> None:
        """A viewer sends no media."""

    def receive_rtcp(self, packet: bytes, now: float) -> None:
        viewer = self._viewer
        if viewer is None or self.peer is None:
            return
        video = self.output.video_of(viewer)
        try:
            items = rtcp.parse(packet)
        except RemoteProtocolError:
            return
        reporter = None
        for item in items:
            if isinstance(item, rtcp.Nack):
                if video is not None and item.media == VIDEO_SSRC:
                    video.repeat(viewer, item.sequences, now)
            elif isinstance(item, rtcp.Pli | rtcp.Fir):
                if video is not None:
                    video.refresh(viewer)
            elif isinstance(item, rtcp.ReceiverReport | rtcp.SenderReport):
                reporter = item.ssrc
                self._read_report(item.blocks, viewer, video, now)
            elif isinstance(item, rtcp.Bye) and reporter in item.sources:  # others are not the viewer
                self.peer.close()
                return

    @property
    def transport(self) -> str:
        return self.peer.protocol if self.peer is not None else ""

    @property
    def network(self) -> NetworkQuality:
        """The quality of the connection. Before a report of the viewer has a round trip, ICE checks measure it."""
        trip = self.round_trip
        if trip is None and self.peer is not None:
            trip = self.peer.round_trip
        return NetworkQuality.of(trip, self.lost, self.jitter)

    def _read_report(
        self, blocks: tuple[ReportBlock, ...], viewer: RtpViewer, video: VideoFeed | None, now: float
    ) -> None:
        wanted = VIDEO_SSRC if video is not None else AUDIO_SSRC
        for block in blocks:
            if block.ssrc == wanted:
                self.lost = block.fraction_lost / 256
                self.jitter = block.jitter / (VIDEO_CLOCK if video is not None else 48_000)
                trip = rtcp.round_trip(block, time.time())
                self.round_trip = self.round_trip if trip is None else trip
                if video is not None and (step := self._link.report(self.lost, trip, now)):
                    self.playback.change(self, video.stream, step, partial(self._change_pictures, viewer))

    def _change_pictures(self, viewer: RtpViewer, chosen: Stream) -> None:
        log.info("WHEP viewer changes", stream=self.stream.name, peer=self.address, pictures=chosen.name)
        self.output.move(viewer, chosen)

    def closed(self, reason: PeerEnd) -> None:
        self.output.connections.discard(self)
        if self._viewer is not None:
            self.output.leave(self._viewer)
        log.info("WHEP viewer left", stream=self.stream.name, peer=self.address, reason=str(reason))
        self.playback.ended(self)

    def _stream_ended(self, reason: EndReason) -> None:
        if self.peer is not None:
            ssrc = VIDEO_SSRC if self.types.video >= 0 else AUDIO_SSRC
            self.peer.send_rtcp(rtcp.receiver_report(ssrc, (), "") + rtcp.bye(ssrc))
            self.peer.close()


def _answer(play: Play, request: Request, error: GatewayError) -> Response:
    """Returns the answer to a refused play. A wrong key gets the form of RFC 9725 §4.7, with its text unchanged."""
    refusal = answer_refused(play, request, error)
    if not isinstance(error, ViewerRefused) or refusal.status != 403:
        return refusal
    body = refusal.body
    reason = body.decode().strip() if isinstance(body, bytes) else ""
    return text(401, reason, headers={"WWW-Authenticate": "Bearer"})
