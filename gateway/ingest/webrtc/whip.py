"""WHIP (RFC 9725): `POST /<id>/whip` opens a push; a bare `POST /whip` has the channel in its bearer token."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

import structlog

from gateway.channels.names import is_channel_id
from gateway.http.request import Request
from gateway.http.response import Answer, Response, service_unavailable, text
from gateway.ingest.admission import PushRequest
from gateway.ingest.push import Push
from gateway.ingest.refusal_texts import refusal_text
from gateway.ingest.services import ListenerServices
from gateway.ingest.webrtc.intake import GOODBYE, WhipIntake
from gateway.ingest.webrtc.received_track import AUDIO_NAMES, VIDEO_NAMES, TrackParameters, track_parameters
from gateway.listeners.port_listener import OpenListeners
from gateway.live.sink import EndReason
from gateway.live.unit_intake import IntakeFailed
from gateway.media.track import Kind
from gateway.playback.play_format import AnswerOrAwaitable
from gateway.ports.auth_hook import HookDetails
from gateway.ports.errors import GatewayError, MediaUnusable, NameInUse, NotAuthorized, TooManyRefusals
from gateway.protocols.sdp.answer import AcceptedMedia
from gateway.protocols.sdp.codec_choice import no_codec_to_receive, receiving_codec
from gateway.protocols.sdp.offer import Offer
from gateway.webrtc.handler import PeerEnd
from gateway.webrtc.signalling import NOT_ALLOWED, OfferRefused, bearer
from gateway.workers.worker_pool import WorkerPool

if TYPE_CHECKING:
    from gateway.webrtc.peer import Peer

log = structlog.get_logger(__name__)

PROTOCOL: Final = "whip"
_PLACE: Final = "the address is /<id>/whip?sign=<expiry>-<hash>, or the bearer token is <id>?sign=<expiry>-<hash>"
_NAMES: Final = {Kind.VIDEO: VIDEO_NAMES, Kind.AUDIO: AUDIO_NAMES}
_CHECK_SECONDS: Final = 1.0
_STOPPED: Final = "closed by the client"
_REASONS: Final = {
    PeerEnd.CLOSED: _STOPPED,  # by DELETE; this side sets its own reasons before it closes
    PeerEnd.CLOSED_BY_PEER: _STOPPED,
    PeerEnd.CONNECT_TIMEOUT: "the client did not connect",
    PeerEnd.CONSENT_EXPIRED: "connection lost",
    PeerEnd.HANDSHAKE_FAILED: "the DTLS handshake failed",
    PeerEnd.WRONG_FINGERPRINT: "the certificate is not that of the offer",
    PeerEnd.SHUTDOWN: "shutting down",
}


def open_whip(services: ListenerServices, workers: WorkerPool) -> OpenListeners:
    """Returns the responder for pushes. The port is that of `services.webrtc`."""
    whip = WhipPushes(services, workers)
    return OpenListeners((), services.tasks, {PROTOCOL: whip.respond})


class WhipPushes:
    """Answers `/whip`, `/<id>/whip` and the paths below."""

    def __init__(self, services: ListenerServices, workers: WorkerPool) -> None:
        self.services = services
        self.workers = workers

    def respond(self, request: Request, name: str) -> AnswerOrAwaitable:
        """Answers a request. name: of the channel in the path; "": the bearer token has it."""
        path = request.path.removesuffix("/")  # addresses of SRS end so
        if path != f"/{PROTOCOL}" and path.split("/")[2:] != [PROTOCOL]:
            return self.services.sessions.answer_request(request, request.path)
        if request.method != "POST":
            return NOT_ALLOWED
        return self._post(request, name)

    async def _post(self, request: Request, name: str) -> Answer:
        push = self.services.make_push(_credentials(request, name))
        try:
            await push.check_key()
        except GatewayError as error:
            return _refusal(error)
        return self.services.sessions.read_offer(request, partial(self._open, request, WhipPush(self, push)))

    async def _open(self, request: Request, handler: WhipPush, offer: Offer) -> Response:
        push = handler.push
        try:
            accepted, parameters = _accept(offer)
        except OfferRefused as refused:
            push.refuse(MediaUnusable(str(refused)))
            raise
        try:
            publisher = await push.begin(handler.evicted)
        except GatewayError as error:
            return _refusal(error)
        try:
            settings = self.services.settings
            make_converter = self.services.sound_converter(publisher.stream.name)
            handler.intake = WhipIntake(publisher, self.workers, parameters, handler.fail, settings, make_converter)
            handler.intake.name_encoder(request.headers.get("user-agent", "")[:200])
            handler.peer, response = self.services.sessions.open(
                request, f"/{push.id}/{PROTOCOL}", offer, accepted, handler, has_key=True
            )
        except GatewayError as error:
            handler.release("refused")
            push.refuse(error)
            return _refusal(error)
        except BaseException:
            handler.release("refused")
            raise
        return response


class WhipPush:
    """The connection of one push; a PeerHandler. `release` is called once, at its end."""

    def __init__(self, pushes: WhipPushes, push: Push) -> None:
        self._pushes = pushes
        self.push = push
        self.intake: WhipIntake | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._reason = ""
        self.peer: Peer | None = None

    # ---- PeerHandler ----

    @property
    def tolerates_delay(self) -> bool:
        """Whether no sink waits for the next picture, and no packet is missing."""
        return self.intake is not None and self.intake.tolerates_delay

    def connected(self) -> None:
        assert self.peer is not None and self.intake is not None, "the answer has been sent"
        self.push.log_begin(over=self.peer.protocol)
        self.intake.begin(self.peer)
        self._pushes.services.tasks.start(self._run_intake(self.intake), f"intake of {self.push.id}")
        self._check()

    def receive_rtp(self, packets: Sequence[bytes], arrivals: Sequence[float]) -> None:
        if self.intake is not None:
            self.intake.receive_rtp(packets, arrivals)

    def receive_rtcp(self, packet: bytes, now: float) -> None:
        if self.intake is not None and not self.intake.receive_rtcp(packet, now):
            self._end(_STOPPED)

    def closed(self, reason: PeerEnd) -> None:
        if self.peer is not None:
            self._pushes.services.sessions.forget(self.peer)
        text = self._reason or _REASONS.get(reason, str(reason))
        self.release(text, stopped=text == _STOPPED)

    # ---- the end ----

    def evicted(self, reason: EndReason) -> None:
        """Ends the push when the hub evicts its publisher."""
        self._end("another publisher has taken over" if reason is EndReason.PUBLISHER_GONE else str(reason))

    def fail(self, reason: str) -> None:
        """Ends a push that cannot continue."""
        asyncio.get_running_loop().call_soon(lambda: self._end(self.push.reject(reason)))

    def _end(self, reason: str) -> None:
        self._reason = self._reason or reason
        if self.peer is not None:
            self.peer.send_rtcp(GOODBYE)
            self.peer.close()

    def release(self, reason: str, *, stopped: bool = False) -> None:
        """Ends the push, and frees what it holds. The stream lingers, so that the client can push again.

        stopped: whether the client said that it stops.
        """
        intake, self.intake = self.intake, None
        if intake is not None:
            intake.close()
        if self._timer is not None:
            self._timer.cancel()
        self.push.end(reason, stopped=stopped, bytes=intake.received if intake is not None else 0)

    # ---- time ----

    async def _run_intake(self, intake: WhipIntake) -> None:
        try:
            await intake.run()
        except IntakeFailed as error:
            self._end(str(error) if error.again else self.push.reject(str(error)))

    def _check(self) -> None:
        """Ends a push that sends nothing. Called every second."""
        intake, settings = self.intake, self._pushes.services.settings
        if intake is None:
            return
        now, last, idle_timeout = time.monotonic(), intake.last_packet, settings.rtmp.idle_timeout
        reason = self.push.overdue(now, last, settings.limits, idle_timeout, has_media=intake.has_media)
        if reason:
            self._end(reason)
            return
        self._timer = asyncio.get_running_loop().call_later(_CHECK_SECONDS, self._check)


def _credentials(request: Request, name: str) -> PushRequest:
    """Returns the push with id, sign and input from the query or from the bearer token `<id>?sign=…&input=…`."""
    query, parameters = request.query, request.raw_query
    id, sign, input = name, query.get("sign"), query.get("input", "")
    token = bearer(request)
    if token and sign is None:
        known, has_query, rest = token.rpartition("?")
        if not has_query and not name:
            known, rest = token, ""  # the auth hook may allow it without a sign
        fields = dict(part.partition("=")[::2] for part in rest.split("&")[:8])
        if not name:
            id = known
        if known in ("", id):
            sign, input, parameters = fields.get("sign"), fields.get("input", input), rest
    id = id if is_channel_id(id) else ""
    return PushRequest(id, sign, request.peer, PROTOCOL, request.exempt, input, HookDetails(parameters))


def _accept(offer: Offer) -> tuple[dict[int, AcceptedMedia], Sequence[TrackParameters]]:
    """Returns how each medium is used, and the parameters of the tracks. Raises OfferRefused."""
    accepted: dict[int, AcceptedMedia] = {}
    parameters: dict[Kind, TrackParameters] = {}
    for index, media in enumerate(offer.media):
        kind = next((kind for kind in _NAMES if kind == media.kind), None)
        if kind is None or not media.sends:
            continue
        if kind in parameters:  # RFC 9725 §4.4.2
            raise OfferRefused(422, f"the offer has several tracks of {kind}; one is accepted")
        codec = receiving_codec(media, _NAMES[kind])
        if codec is None:  # RFC 9725 §4.4.3; users would not notice that a track is missing
            raise OfferRefused(406, no_codec_to_receive(_NAMES[kind], offer.media))
        accepted[index] = AcceptedMedia(codec, rids=media.rids)
        parameters[kind] = track_parameters(kind, codec, media)
    if {"VP8"} < {track.codec.name for track in parameters.values()} - {"OPUS"}:
        raise OfferRefused(406, "VP8 needs Opus: " + no_codec_to_receive(("OPUS",), offer.media))
    if not accepted:
        raise OfferRefused(406, no_codec_to_receive((*VIDEO_NAMES, *AUDIO_NAMES), offer.media))
    return accepted, tuple(parameters.values())


def _refusal(error: GatewayError) -> Response:
    """Returns the answer to a refused push. docs/api.md, "WebRTC: WHIP and WHEP", lists the codes."""
    message = refusal_text(error, _PLACE)
    match error:
        case TooManyRefusals():
            return service_unavailable(message, 10, 429)
        case NotAuthorized():
            return text(401, message, headers={"WWW-Authenticate": "Bearer"})
        case NameInUse():
            return text(409, message)
    return service_unavailable(message, 5)
