"""WHIP (RFC 9725): `POST /<id>/whip` opens a push; a bare `POST /whip` has the channel in its bearer token."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Final

import structlog

from gateway.channels.channel import Channel
from gateway.channels.names import is_channel_id
from gateway.http.request import Request
from gateway.http.response import Answer, Response, service_unavailable, text
from gateway.ingest.admission import Admission
from gateway.ingest.browser_intake import IntakeFailed
from gateway.ingest.open_listeners import OpenListeners
from gateway.ingest.refusal_texts import refusal_text
from gateway.ingest.services import ListenerServices
from gateway.ingest.webrtc.intake import GOODBYE, WhipIntake
from gateway.ingest.webrtc.received_track import AUDIO_NAMES, VIDEO_NAMES, TrackParameters
from gateway.live.publisher import StreamPublisher
from gateway.live.sink import EndReason
from gateway.media.track import Kind
from gateway.playback.play_format import AnswerOrAwaitable
from gateway.playback.webrtc.signalling import NOT_ALLOWED, OfferRefused, bearer
from gateway.ports.errors import (
    AtCapacity,
    GatewayError,
    NameInUse,
    NotAuthorized,
    PushesNotAccepted,
    TooManyRefusals,
)
from gateway.protocols.sdp.answer import AcceptedMedia, largest_rid
from gateway.protocols.sdp.codec_choice import no_codec_to_receive, receiving_codec
from gateway.protocols.sdp.offer import TRANSPORT_CC, Offer
from gateway.webrtc.handler import PeerEnd
from gateway.webrtc.peer import Peer
from gateway.workers.sound_client import SoundWorkerFailed
from gateway.workers.worker_pool import WorkerPool

log = structlog.get_logger(__name__)

PROTOCOL: Final = "whip"
_PLACE: Final = "the address is /<id>/whip?sign=<expiry>-<hash>, or the bearer token is <id>?sign=<expiry>-<hash>"
_NAMES: Final = {Kind.VIDEO: VIDEO_NAMES, Kind.AUDIO: AUDIO_NAMES}
_CHECK_SECONDS: Final = 1.0
_WORDS: Final = {
    PeerEnd.CLOSED: "closed by the client",  # by DELETE; all other reasons of ours are set before
    PeerEnd.CLOSED_BY_PEER: "closed by the client",
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
    """Answers /whip, /<id>/whip and what is below it."""

    def __init__(self, services: ListenerServices, workers: WorkerPool) -> None:
        self.services = services
        self.workers = workers

    def respond(self, request: Request, name: str) -> AnswerOrAwaitable:
        """Answers a request. name: of the channel in the path; "": the bearer token has it."""
        if request.path not in (f"/{name}/{PROTOCOL}", f"/{PROTOCOL}"):
            return self.services.sessions.request(request, request.path)
        if request.method != "POST":
            return NOT_ALLOWED
        return self._post(request, name)

    async def _post(self, request: Request, name: str) -> Answer:
        id, sign, input = _credentials(request, name)
        admission = self.services.admission
        try:
            channel = await admission.channel(id, sign, request.peer, exempt=request.exempt, input=input)
        except GatewayError as error:
            admission.refuse(id, request.peer, PROTOCOL, error)
            return _refusal(error)

        async def accept(offer: Offer) -> Response:
            return await self._open(request, channel, input, offer)

        return self.services.sessions.read_offer(request, accept)

    async def _open(self, request: Request, channel: Channel, input: str, offer: Offer) -> Response:
        accepted, parameters = _accept(offer)
        admission = self.services.admission
        if not request.exempt and not admission.connections.take(request.peer):
            error = AtCapacity("too many publishers from this address")
            admission.refuse(channel.id, request.peer, PROTOCOL, error)
            return _refusal(error)
        push = WhipPush(self, channel.id, request.peer, None if request.exempt else admission)
        try:
            publisher = await self.services.lease(
                channel, protocol=PROTOCOL, peer=request.peer, evict=push.evicted, input=input
            )
            encoder = request.headers.get("user-agent", "")[:200]
            settings = self.services.settings
            push.use(publisher, WhipIntake(publisher, self.workers, parameters, encoder, push.fail, settings))
            push.peer, response = self.services.sessions.open(
                request, f"/{channel.id}/{PROTOCOL}", offer, accepted, push, has_key=True
            )
        except GatewayError as error:
            push.release("refused")
            admission.refuse(channel.id, request.peer, PROTOCOL, error)
            return _refusal(error)
        except BaseException:
            push.release("refused")
            raise
        return response


class WhipPush:
    """One push; a PeerHandler. `release` is called once, at its end.

    counted: the admission that counts the address of this push; None: it is not counted.
    """

    def __init__(self, pushes: WhipPushes, id: str, address: str, counted: Admission | None) -> None:
        self._pushes = pushes
        self._id = id
        self._address = address
        self._counted = counted
        self._publisher: StreamPublisher | None = None
        self._intake: WhipIntake | None = None
        self._sound: asyncio.Task[object] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._began = time.monotonic()
        self._reason = ""
        self.peer: Peer | None = None

    def use(self, publisher: StreamPublisher, intake: WhipIntake) -> None:
        """Sets where the media go."""
        self._publisher, self._intake = publisher, intake

    # ---- PeerHandler ----

    @property
    def is_patient(self) -> bool:
        """Whether nobody waits for the next picture, and nothing is to be repaired."""
        return self._intake is not None and self._intake.is_patient

    def connected(self) -> None:
        assert self.peer is not None and self._intake is not None, "the answer has been sent"
        self._began = time.monotonic()
        log.info("publishing", stream=self._id, peer=self._address, protocol=PROTOCOL, over=self.peer.protocol)
        self._intake.begin(self.peer)
        self._sound = self._pushes.services.tasks.start(self._run_sound(self._intake), f"sound of {self._id}")
        self._check()

    def rtp(self, packets: Sequence[bytes], arrivals: Sequence[float]) -> None:
        if self._intake is not None:
            self._intake.rtp(packets, arrivals)

    def rtcp(self, packet: bytes, now: float) -> None:
        if self._intake is not None and not self._intake.rtcp(packet, now):
            self._end("closed by the client")

    def closed(self, reason: PeerEnd) -> None:
        if self.peer is not None:
            self._pushes.services.sessions.forget(self.peer)
        self.release(self._reason or _WORDS.get(reason, str(reason)))

    # ---- the end ----

    def evicted(self, reason: EndReason) -> None:
        """Ends the push when the hub revokes the lease."""
        self._end("another publisher has taken over" if reason is EndReason.PUBLISHER_GONE else str(reason))

    def fail(self, reason: str) -> None:
        """Ends a push that cannot continue."""
        asyncio.get_running_loop().call_soon(self._end, reason)

    def _end(self, reason: str) -> None:
        self._reason = self._reason or reason
        if self.peer is not None:
            self.peer.send_rtcp(GOODBYE)
            self.peer.close()

    def release(self, reason: str) -> None:
        """Frees everything. The stream lingers."""
        publisher, self._publisher = self._publisher, None
        intake, self._intake = self._intake, None
        if intake is not None:
            intake.close()
        if self._timer is not None:
            self._timer.cancel()
        if self._counted is not None:
            self._counted.connections.give(self._address)
            self._counted = None
        if publisher is not None:
            publisher.close()
            log.info(
                "publish ended",
                stream=self._id,
                peer=self._address,
                protocol=PROTOCOL,
                reason=reason,
                seconds=round(time.monotonic() - self._began, 1),
                bytes=intake.received if intake is not None else 0,
            )

    # ---- time ----

    async def _run_sound(self, intake: WhipIntake) -> None:
        try:
            await intake.run()
        except (SoundWorkerFailed, IntakeFailed) as error:
            self._end(str(error))

    def _check(self) -> None:
        """Ends a push that sends nothing. Called every second."""
        intake, publisher = self._intake, self._publisher
        if intake is None or publisher is None:
            return
        now, limits = time.monotonic(), self._pushes.services.settings.limits
        if not intake.is_publishing and limits.first_media and now - self._began > limits.first_media:
            self._end("no media in time")
            return
        if (idle := self._pushes.services.settings.rtmp.idle_timeout) and now - intake.last_packet > idle:
            self._end("nothing received for too long")
            return
        self._timer = asyncio.get_running_loop().call_later(_CHECK_SECONDS, self._check)


def _credentials(request: Request, name: str) -> tuple[str, str | None, str]:
    """Returns channel id, sign and name of the input: of the query, or of the bearer token `<id>?sign=…&input=…`."""
    query = request.query
    id, sign, input = name, query.get("sign"), query.get("input", "")
    token = bearer(request)
    if token and sign is None:
        known, _, rest = token.rpartition("?")
        fields = dict(part.partition("=")[::2] for part in rest.split("&")[:8])
        if not name:
            id = known
        if known in ("", id):
            sign, input = fields.get("sign"), fields.get("input", input)
    return id if is_channel_id(id) else "", sign, input


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
        if codec is None:  # RFC 9725 §4.4.3: a push without one of its tracks would mislead its user
            raise OfferRefused(406, no_codec_to_receive(_NAMES[kind], offer.media))
        accepted[index] = chosen = AcceptedMedia(codec, rid=largest_rid(media.rids))
        extension = media.extensions.get(TRANSPORT_CC)
        parameters[kind] = TrackParameters.of(kind, chosen, extension.id if extension is not None else 0)
    if not accepted:
        raise OfferRefused(406, no_codec_to_receive((*VIDEO_NAMES, *AUDIO_NAMES), offer.media))
    return accepted, tuple(parameters.values())


def _refusal(error: GatewayError) -> Response:
    """Returns the answer to a refused push (contract, section 9)."""
    words = refusal_text(error, _PLACE)
    match error:
        case TooManyRefusals():
            return service_unavailable(words, 10, 429)
        case NotAuthorized():
            return text(401, words, headers={"WWW-Authenticate": "Bearer"})
        case NameInUse():
            return text(409, words)
        case PushesNotAccepted():
            return text(403, words)
    return service_unavailable(words, 5)
