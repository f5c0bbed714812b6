"""WHEP: viewers over WebRTC (`POST /<id>/whep`, draft-ietf-wish-whep)."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Protocol
from urllib.parse import quote

import structlog

from gateway.channels.channel import Channel
from gateway.channels.names import channel_of
from gateway.channels.stores import ChannelReader, find_channel
from gateway.http.request import Request
from gateway.http.response import Answer, Response, service_unavailable, text
from gateway.lib.quota import Quota
from gateway.live.network_quality import NetworkQuality
from gateway.live.sink import EndReason
from gateway.live.stream import Stream
from gateway.media.track import Codec, Kind
from gateway.packaging.rtp.clock import AUDIO_SSRC, VIDEO_RTX_SSRC, VIDEO_SSRC
from gateway.packaging.rtp.link_quality import LinkQuality
from gateway.packaging.rtp.output import KIND, RtpOutput
from gateway.packaging.rtp.video_feed import VideoFeed
from gateway.packaging.rtp.viewer import PayloadTypes, RtpViewer
from gateway.playback.play_format import AnswerOrAwaitable, PlayableStreams
from gateway.playback.playlist_response import not_streaming
from gateway.playback.protection import PlaybackProtection
from gateway.playback.webrtc.signalling import NOT_ALLOWED, OfferRefused, Signalling, bearer
from gateway.playback.webrtc.whep_format import ADDRESS, has_sound
from gateway.ports.errors import AtCapacity, NoSuchStream, OutputError, StoreUnavailable
from gateway.protocols.errors import RemoteProtocolError
from gateway.protocols.rtp import rtcp
from gateway.protocols.rtp.rtcp import ReportBlock
from gateway.protocols.sdp.answer import AcceptedMedia, SentTrack
from gateway.protocols.sdp.codec_choice import NAMES, no_codec_to_send, sending_codec
from gateway.protocols.sdp.offer import Offer, OfferedMedia
from gateway.settings import Settings
from gateway.webrtc.handler import PeerEnd
from gateway.webrtc.peer import Peer

log = structlog.get_logger(__name__)


class BrowserMedia(Protocol):
    """Finds the pictures of a stream in a form that a viewer can show."""

    async def acquire(self, stream: Stream, playable: Collection[Codec]) -> Stream:
        """Returns the stream itself or another one with its pictures. Raises OutputError, AtCapacity."""

    def change(
        self, stream: Stream, pictures: Stream, shown: Stream, step: int, take: Callable[[Stream], None]
    ) -> None:
        """Gives the next smaller (-1) or larger (1) pictures to `take`, now or when they have come; else nothing.

        pictures: those of `acquire`, the largest ones. shown: those that the viewer gets now.
        """

    def release(self, stream: Stream, pictures: Stream) -> None:
        """Ends the use of what `acquire` returned."""


class WhepPlayback:
    """Answers below /<id>/whep."""

    def __init__(
        self,
        sessions: Signalling,
        streams: PlayableStreams,
        channels: ChannelReader,
        protection: PlaybackProtection,
        media: BrowserMedia,
        settings: Settings,
    ) -> None:
        self._sessions = sessions
        self._streams = streams
        self._channels = channels
        self._protection = protection
        self._media = media
        self._wait = settings.stream.wait_for_publisher
        self._quota = Quota(settings.limits.playback_per_address)

    def respond(self, request: Request, name: str) -> AnswerOrAwaitable:
        """Answers a request for the viewers of a stream, or for one of its sessions."""
        if request.path != f"/{name}/{ADDRESS.path}":
            return self._sessions.request(request, request.path)
        if request.method != "POST":
            return NOT_ALLOWED
        return self._post(request, name)

    async def _post(self, request: Request, name: str) -> Answer:
        token = bearer(request)
        if token and "sign=" not in request.raw_query:  # as for WHIP, "<id>?sign=…"; or only the sign
            request.raw_query = f"sign={quote(token.rpartition('sign=')[2])}"
        stream = self._streams.find(name)
        try:
            channel = stream.channel if stream is not None else await find_channel(self._channels, channel_of(name))
        except StoreUnavailable as error:
            return service_unavailable("the channels cannot be read now", error.retry_after)
        refusal = self._judge(request, name, channel)
        if refusal is not None:
            return refusal

        try:  # the offer is not read before: those who wait hold none
            await self._streams.wait(name, self._wait)
        except NoSuchStream:
            return not_streaming(name)
        except AtCapacity as error:
            return service_unavailable(str(error), 5)

        async def accept(offer: Offer) -> Response:
            playing = self._streams.find(name)
            if playing is None:
                return not_streaming(name)
            return self._judge(request, name, playing.channel) or await self._open(request, playing, offer)

        return self._sessions.read_offer(request, accept)

    def _judge(self, request: Request, name: str, channel: Channel | None) -> Response | None:
        """Returns the refusal; None if the viewer has permission."""
        refusal = self._protection.judge(request, name, channel)
        return _unauthorized(refusal) if refusal is not None and refusal.status == 403 else refusal

    async def _open(self, request: Request, stream: Stream, offer: Offer) -> Response:
        output = stream.output(KIND)
        if not isinstance(output, RtpOutput) or stream.tracks is None:
            raise AtCapacity(f"{stream.name} is about to start again")
        if not request.exempt and not self._quota.take(request.peer):
            raise AtCapacity("too many viewers from this address")
        session = _Session(self, request, output)
        try:
            return await self._describe(session, request, offer)
        except BaseException:
            session.release()
            raise

    async def _describe(self, session: _Session, request: Request, offer: Offer) -> Response:
        stream = session.output.stream
        assert stream.tracks is not None, "the caller has checked it"
        accepted: dict[int, AcceptedMedia] = {}
        video = audio = None
        for index, media in enumerate(offer.media):
            if media.rejected or not media.receives:
                continue
            if media.kind == Kind.VIDEO and stream.tracks.video is not None and video is None:
                pictures = session.pictures = await self._pictures(stream, media)
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
        session.types = PayloadTypes(
            video.codec.payload_type if video is not None else -1,
            video.codec.rtx if video is not None and video.codec.rtx is not None else -1,
            audio.codec.payload_type if audio is not None else -1,
        )
        folder = f"/{stream.name}/{ADDRESS.path}"
        session.peer, response = self._sessions.open(request, folder, offer, accepted, session)
        log.info("WHEP viewer joins", stream=stream.name, peer=request.peer)
        return response

    async def _pictures(self, stream: Stream, media: OfferedMedia) -> Stream:
        names = {codec.name for codec in media.codecs}
        try:
            return await self._media.acquire(stream, [codec for codec, name in NAMES.items() if name in names])
        except OutputError as error:
            raise OfferRefused(406, str(error)) from None

    def change(self, session: _Session, shown: Stream, step: int, take: Callable[[Stream], None]) -> None:
        """Gives the next smaller (-1) or larger (1) pictures for a viewer to `take`, if they exist."""
        if session.pictures is not None:
            self._media.change(session.output.stream, session.pictures, shown, step, take)

    def ended(self, session: _Session) -> None:
        """Called by a session at its end."""
        if session.peer is not None:
            self._sessions.forget(session.peer)
        if session.pictures is not None:
            self._media.release(session.output.stream, session.pictures)
        if not session.exempt:
            self._quota.give(session.address)


class _Session:
    """One viewer; a PeerHandler. pictures: the stream whose pictures it gets; None: only sound."""

    __slots__ = (
        "_link",
        "_playback",
        "_viewer",
        "address",
        "exempt",
        "jitter",
        "lost",
        "output",
        "peer",
        "pictures",
        "round_trip",
        "types",
    )

    def __init__(self, playback: WhepPlayback, request: Request, output: RtpOutput) -> None:
        self._playback = playback
        self.output = output
        self.address = request.peer
        self.exempt = request.exempt
        self.pictures: Stream | None = None
        self.peer: Peer | None = None
        self.types = PayloadTypes()
        self.lost = 0.0  # share of the packets, of the last report
        self.jitter = 0.0  # seconds
        self.round_trip: float | None = None  # seconds
        self._viewer: RtpViewer | None = None
        self._link = LinkQuality()

    # ---- PeerHandler ----

    @property
    def is_patient(self) -> bool:
        """A viewer waits for repeated packets."""
        return False

    def connected(self) -> None:
        peer = self.peer
        assert peer is not None, "the answer has been sent"
        if (ended := self.output.stream.ended) is not None:  # during the handshake
            self._stream_ended(ended)
            return
        self._viewer = RtpViewer(peer, self.types, self._stream_ended)
        pictures = self.pictures if self.types.video >= 0 else None
        self.output.join(self._viewer, self.output.video(pictures) if pictures is not None else None)
        self.output.connections.add(self)

    def rtp(self, packets: Sequence[bytes], arrivals: Sequence[float]) -> None:
        """A viewer sends no media."""

    def rtcp(self, packet: bytes, now: float) -> None:
        viewer = self._viewer
        if viewer is None or self.peer is None:
            return
        video = self.output.video_of(viewer)
        try:
            items = rtcp.parse(packet)
        except RemoteProtocolError:
            return
        for item in items:
            if isinstance(item, rtcp.Nack):
                if video is not None and item.media == VIDEO_SSRC:
                    video.repeat(viewer, item.sequences, now)
            elif isinstance(item, rtcp.Pli | rtcp.Fir):
                if video is not None:
                    video.refresh(viewer)
            elif isinstance(item, rtcp.ReceiverReport | rtcp.SenderReport):
                self._read_report(item.blocks, viewer, video, now)
            elif isinstance(item, rtcp.Bye):
                self.peer.close()
                return

    @property
    def transport(self) -> str:
        return self.peer.protocol if self.peer is not None else ""

    @property
    def network(self) -> NetworkQuality:
        """The quality of the connection; the viewer's reports tell a round trip sooner than the connection's checks."""
        trip = self.round_trip
        if trip is None and self.peer is not None:
            trip = self.peer.round_trip
        return NetworkQuality(trip, self.lost, self.jitter)

    def _read_report(
        self, blocks: tuple[ReportBlock, ...], viewer: RtpViewer, video: VideoFeed | None, now: float
    ) -> None:
        wanted = VIDEO_SSRC if video is not None else AUDIO_SSRC
        for block in blocks:
            if block.ssrc == wanted:
                self.lost = block.fraction_lost / 256
                self.jitter = block.jitter / (90_000 if video is not None else 48_000)
                trip = rtcp.round_trip(block, time.time())
                self.round_trip = self.round_trip if trip is None else trip
                if video is not None and (step := self._link.report(self.lost, trip, now)):
                    self._playback.change(self, video.stream, step, partial(self._change_pictures, viewer))

    def _change_pictures(self, viewer: RtpViewer, chosen: Stream) -> None:
        log.info("WHEP viewer changes", stream=self.output.stream.name, peer=self.address, pictures=chosen.name)
        self.output.move(viewer, chosen)

    def closed(self, reason: PeerEnd) -> None:
        self.output.connections.discard(self)
        if self._viewer is not None:
            self.output.leave(self._viewer)
        log.info("WHEP viewer left", stream=self.output.stream.name, peer=self.address, reason=str(reason))
        self.release()

    def release(self) -> None:
        """Frees what the session holds. Called once."""
        self._playback.ended(self)

    def _stream_ended(self, reason: EndReason) -> None:
        if self.peer is not None:
            self.peer.send_rtcp(rtcp.receiver_report(VIDEO_SSRC, (), "") + rtcp.bye(VIDEO_SSRC))
            self.peer.close()


def _unauthorized(refusal: Response) -> Response:
    """Returns the refusal as RFC 9725 §4.7 has it, with the same text."""
    body = refusal.body
    words = body.decode().strip() if isinstance(body, bytes) else ""
    return text(401, words, headers={"WWW-Authenticate": "Bearer"})
