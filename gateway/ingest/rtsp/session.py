"""One RTSP connection: its requests in order, and the packets of its play or its push."""

from __future__ import annotations

import asyncio
import math
import secrets
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Final
from urllib.parse import urlencode

import structlog

from gateway.channels.inputs import backup_subject
from gateway.channels.names import PULL_HEADER
from gateway.channels.stores import find_channel
from gateway.http.forwarded import plain_address
from gateway.ingest.admission import PushRequest
from gateway.ingest.rtsp.media import RtspPlay, RtspPush
from gateway.ingest.rtsp.refusals import NO_BANDWIDTH, UNAUTHORIZED, play_refusal, push_refusal
from gateway.ingest.rtsp.setups import Setups
from gateway.ingest.rtsp.udp import RtspUdp
from gateway.ingest.services import ListenerServices
from gateway.lib.scheduled_reads import LARGEST_READ
from gateway.lib.token_bucket import TokenBucket
from gateway.listeners.tcp_listener import CLOSE_BOUND, MERGE_READS_AFTER, PLAY_CLOSE_BOUND, TcpSession
from gateway.live.sink import EndReason
from gateway.live.track_changes import KeepsChanging
from gateway.playback.play import ViewerRequest
from gateway.ports.auth_hook import HookDetails, HookMode
from gateway.ports.errors import (
    GatewayError,
    MediaUnusable,
    NotAuthorized,
    RefusalReason,
    StoreUnavailable,
    TooManyRefusals,
)
from gateway.protocols.errors import RemoteProtocolError
from gateway.protocols.rtsp.challenge import REALM, DigestCheck, basic_password
from gateway.protocols.rtsp.description import write_description
from gateway.protocols.rtsp.messages import Interleaved, RtspReader, RtspRequest, answer
from gateway.protocols.rtsp.session import (
    KEEP_ALIVES,
    PUBLIC,
    TIMEOUT,
    TRANSITIONS,
    RtspTarget,
    State,
    read_target,
    refusal,
)

log = structlog.get_logger(__name__)

_MAX_HEAD: Final = 8_192  # bytes of a request
_MAX_BODY: Final = 65_536  # bytes of a description
_MAX_WAITING: Final = 8  # requests behind one that is being answered
MAX_IDLE_SECONDS: Final = 30.0  # for which a connection may neither play nor push
# A player sends a dozen requests, then one in 30 seconds. Each request may read the store, or send a GOP.
_REQUESTS_PER_SECOND: Final = 5
_REQUESTS_BURST: Final = 60
_NO_MEDIA_BYTES: Final = 1 << 20  # between two checks, from a connection that does not push
_OK: Final = "200 OK"
_NO_TUNNEL: Final = "RTSP over HTTP is not offered: choose TCP"
_HTTP_ANSWER: Final = (
    f"HTTP/1.1 501 {_NO_TUNNEL}\r\nContent-Type: text/plain\r\nContent-Length: {len(_NO_TUNNEL) + 1}\r\n"
    f"Connection: close\r\n\r\n{_NO_TUNNEL}\n"
).encode()


class RtspSession(TcpSession):
    """A connection from its first byte to its last. The listener calls `tick` about once a second.

    A session of RTSP lives as long as its connection. udp: the UDP ports; None: all media go over the connection.
    """

    def __init__(
        self,
        services: ListenerServices,
        udp: RtspUdp | None,
        protocol: str,
        address: str,
        sessions: set[Any],
        *,
        exempt: bool,
    ) -> None:
        super().__init__(services, protocol, address, sessions, exempt=exempt)
        self._services, self._udp = services, udp
        self._reader = RtspReader(_MAX_HEAD, _MAX_BODY, "client")
        self._digest = DigestCheck()
        self._state = State.INIT
        self._id = secrets.token_hex(8)
        self._media: RtspPlay | RtspPush | None = None
        self._setups = Setups(udp, lambda: self.address, self._take_datagram, self._own_address)
        self._takers: dict[int, Callable[[bytes], None]] = {}  # of packets of a push, by channel
        self._challenged: PushRequest | None = None  # a push without a key, until one comes
        self._waiting: deque[RtspRequest] = deque()
        self._task: asyncio.Task[object] | None = None
        self._requests = TokenBucket(_REQUESTS_PER_SECOND, _REQUESTS_BURST)
        self._has_asked = False
        self._last_data = self._idle_since = time.monotonic()
        self._merge_after = math.inf  # monotonic time from which small reads are merged; with TLS: never
        self._received = self._unpublished = 0  # bytes: all; and without a push since the last check

    # ---- asyncio.BufferedProtocol ----

    def bytes_received(self, data: bytes) -> None:
        """Takes packets, and answers requests. Hot path for pushes."""
        if self._closing:
            return
        now = self._last_data = time.monotonic()
        self._received += len(data)
        try:
            found = self._reader.receive(data)
            takers = self._takers
            for item in found:
                if isinstance(item, Interleaved):
                    take = takers.get(item.channel)
                    if take is not None:
                        take(item.payload)
                elif isinstance(item, RtspRequest) and not self._closing:
                    self._take_request(item, now)
        except (RemoteProtocolError, KeepsChanging) as error:
            if not self._has_asked and b" HTTP/1." in data.partition(b"\n")[0]:
                self._answer(_HTTP_ANSWER)
            self._drop(str(error)[:200])
            return
        if not takers:
            self._unpublished += len(data)
        elif now > self._merge_after and isinstance(self._media, RtspPush):
            self.merge_reads(not self._media.is_awaited)
        if self._pending is not None:
            self._pending.hold(self._reader.held + sum(len(request.body) for request in self._waiting))

    def eof_received(self) -> bool:
        return False  # close this side too

    def connection_lost(self, exc: Exception | None) -> None:
        self._closing = True
        self._end_media("connection closed")
        self._waiting.clear()
        self._lost()

    # ---- time ----

    def tick(self, now: float) -> None:
        """Closes connections that are idle, silent or send too much. now: monotonic seconds."""
        if self._closing or self._transport is None:
            return
        unpublished, self._unpublished = self._unpublished, 0
        media, reason, limit = self._media, "", self._services.settings.limits.handshake
        if unpublished > _NO_MEDIA_BYTES:
            reason = "sends too much and pushes nothing"
        elif self._task is not None:
            return  # waiting has its own time limits
        elif self._state in (State.PLAYING, State.PAUSED) and isinstance(media, RtspPlay):
            if self._state is State.PAUSED and media.ended is not None:
                self._play_ended(media.ended)
                return
            is_silent = now - self._last_data > 2 * TIMEOUT
            if is_silent and (self._setups.udp_tracks or self._state is State.PAUSED):
                reason = "no sign of life"
        elif self._state is State.RECORDING and isinstance(media, RtspPush):
            reason = media.overdue(now)
        elif not self._has_asked and limit and now - self._idle_since > limit:
            reason = "no request in time"
        elif now - self._idle_since > MAX_IDLE_SECONDS:
            reason = "neither plays nor pushes"
        if reason:
            self._drop(reason)

    def shutdown(self) -> None:
        self._end_media("shutting down")
        self._half_close()

    # ---- requests ----

    def _take_request(self, request: RtspRequest, now: float) -> None:
        """Answers a request, after those that wait."""
        if not self._requests.take(1, now):
            self._drop("sends too many requests")
        elif len(self._waiting) >= _MAX_WAITING:
            self._drop("sends requests without waiting for answers")
        else:
            self._has_asked = True
            self._waiting.append(request)
            if self._task is None:
                self._task = self._services.tasks.start(self._work(), f"{self._protocol} {self.address}")
                self._task.add_done_callback(self._abort_on_error)

    def _abort_on_error(self, task: asyncio.Task[object]) -> None:
        """Closes the connection after an internal error, so that the peer does not wait; the task group logs it."""
        if not task.cancelled() and task.exception() is not None:
            self._abort()

    async def _work(self) -> None:
        try:
            while self._waiting and not self._closing:
                await self._respond(self._waiting.popleft())
        finally:
            self._task = None

    async def _respond(self, request: RtspRequest) -> None:
        method, asked = request.method, request.headers.get("session", "").partition(";")[0].strip()
        status = refusal(self._state, method)
        if not status and asked and asked != self._id:
            status = "454 Session Not Found"
        target = read_target(request.url)
        if not status and target is None and method not in (*KEEP_ALIVES, "TEARDOWN"):
            status = "400 Bad Request: the address has the form rtsp://host:8554/<id>"
        if status:
            self._reply(request, status)
        elif unsupported := request.headers.get("require", ""):  # such as a back channel of ONVIF
            self._reply(request, "551 Option not supported", {"Unsupported": unsupported.partition("\n")[0]})
        elif method in KEEP_ALIVES:
            self._reply(request, _OK, {"Public": PUBLIC} if method == "OPTIONS" else {})
        elif method == "TEARDOWN":
            self._reply(request, _OK)
            self._end_media("stopped", stopped=True)
        elif target is not None:
            try:
                await self._change_state(request, target)
            except TooManyRefusals:
                self._abort()

    async def _change_state(self, request: RtspRequest, target: RtspTarget) -> None:
        """Answers a request that begins or changes a play or a push. Raises TooManyRefusals."""
        match request.method:
            case "DESCRIBE":
                is_done = await self._describe(request, target)
            case "ANNOUNCE":
                is_done = await self._announce(request, target)
            case "SETUP":
                is_done = await self._set_up(request, target)
            case "PLAY":
                is_done = await self._play(request, target)
            case "PAUSE":
                is_done = self._pause(request)
            case _:
                is_done = await self._record(request, target)
        if is_done:
            self._state = TRANSITIONS[self._state].get(request.method, self._state)
            self._idle_since = time.monotonic()

    def _reply(
        self, request: RtspRequest, status: str, headers: dict[str, str] | None = None, body: bytes = b""
    ) -> None:
        more = dict(headers or {})
        if self._setups:
            more.setdefault("Session", self._id)
        if not self._answer(answer(request, status, more, body)):
            self._drop("does not read the answers it asks for")

    def _refuse(self, request: RtspRequest, status: str, error: GatewayError | None, target: RtspTarget) -> None:
        """Refuses a play or a push. Without a sign in the address, the client may try again with a password."""
        if isinstance(error, TooManyRefusals):
            raise error
        if request.method != "ANNOUNCE":
            reason = f"{type(error).__name__}: {error}"[:200]
            log.info("play refused", stream=target.name[:200], peer=self.address, reason=reason)
        challenge = {}
        if status.startswith(UNAUTHORIZED) and "sign" not in target.query:
            challenge = {"WWW-Authenticate": f'Basic realm="{REALM}"'}
            if request.method == "ANNOUNCE":  # the key is stored, so that Digest can be checked. A play sign is not.
                digest = self._digest.challenge(secrets.token_hex(16), time.monotonic())
                challenge = {"WWW-Authenticate": f"{digest}\r\nWWW-Authenticate: {challenge['WWW-Authenticate']}"}
        self._reply(request, status, challenge)

    # ---- playing ----

    async def _describe(self, request: RtspRequest, target: RtspTarget) -> bool:
        if not await self._open_play(request, target):
            return False
        assert isinstance(self._media, RtspPlay)
        described = self._media.described
        body = write_description(described.tracks, self._own_address(), self._media.name, described.version)
        # With the query: if nothing comes over UDP, Media3 sets up the tracks on another connection.
        base = f"{target.base}/" + (f"?{urlencode(target.query)}" if target.query else "")
        self._reply(request, _OK, {"Content-Type": "application/sdp", "Content-Base": base}, body)
        return True

    def _own_address(self) -> str:
        """Returns our address that the client has called."""
        assert self._transport is not None, "it has sent a request"
        return plain_address(str(self._transport.get_extra_info("sockname")[0]))

    async def _open_play(self, request: RtspRequest, target: RtspTarget) -> bool:
        """Finds the stream of a player. Refuses the request if it may not play. Raises TooManyRefusals."""
        self._end_media("")
        sign = target.query.get("sign") or basic_password(request.headers.get("authorization", ""))
        details, mark = self._hook_details(request, target), request.headers.get(PULL_HEADER, "")
        wanted = ViewerRequest(target.name, self.address, sign, details, exempt=self._exempt, pull_mark=mark)
        play = self._services.make_play(wanted)
        media = self._media = RtspPlay(self._services, play, self.address)
        try:
            await media.open()
        except MediaUnusable as error:
            status = f"415 Unsupported Media Type: {error}"
            cause: GatewayError = error
        except GatewayError as error:
            status, cause = play_refusal(error, media.name), error
        else:
            return True
        self._end_media("")
        self._refuse(request, status, cause, target)
        return False

    async def _play(self, request: RtspRequest, target: RtspTarget) -> bool:
        media, transport = self._media, self._transport
        if self._state is State.PLAYING:
            self._reply(request, _OK)
            return True
        if not isinstance(media, RtspPlay) or transport is None:
            return False
        try:
            await media.begin()
        except GatewayError as error:
            self._end_media("")
            self._refuse(request, play_refusal(error, media.name, NO_BANDWIDTH), error, target)
            return False
        self._leave_pending()
        self._reply(request, _OK, {"Range": "npt=0.000-"})
        media.start(self._setups, transport, self._play_ended)
        return True

    def _pause(self, request: RtspRequest) -> bool:
        if isinstance(self._media, RtspPlay):
            self._media.pause()
        self._reply(request, _OK)
        return True

    def _play_ended(self, reason: EndReason) -> None:
        self._end_media(str(reason))
        self._half_close(PLAY_CLOSE_BOUND)

    # ---- pushing ----

    async def _announce(self, request: RtspRequest, target: RtspTarget) -> bool:
        self._end_media("")
        input, header = target.query.get("input", ""), request.headers.get("authorization", "")
        key = target.query.get("sign") or basic_password(header)
        if key is None and header:
            key = await self._proved_key(header, target.name, input)
        details = self._hook_details(request, target)
        wanted = PushRequest(target.name, key, self.address, self._protocol, self._exempt, input, details)
        hook = self._services.admission.hook
        if key is None and self._challenged is None and (hook is None or hook.mode is HookMode.BOTH):
            self._challenged = wanted  # it counts as refused if no key follows
            error = NotAuthorized("missing", RefusalReason.MISSING)
            self._refuse(request, push_refusal(error), error, target)
            return False
        self._challenged = None
        push = self._services.make_push(wanted)
        media = self._media = RtspPush(self._services, push)
        try:
            await push.check_key()
            media.announce(request.body)
        except MediaUnusable as error:
            self._end_media("")
            self._reply(request, f"415 Unsupported Media Type: {error}")
            return False
        except GatewayError as error:
            self._end_media("")
            self._refuse(request, push_refusal(error), error, target)
            return False
        self._reply(request, _OK)
        return True

    async def _proved_key(self, header: str, id: str, input: str) -> str:
        """Returns the key that an answer of Digest proves; "-", which is none, if it proves no key."""
        services = self._services
        if services.admission.refusals.wait(self.address, time.monotonic()) > 0:
            return "-"  # costs no read of the store
        try:
            channel = await find_channel(services.plays.channels, id)
        except StoreUnavailable:
            channel = None
        if channel is None:
            return "-"
        subject = backup_subject(id, input)
        keys = [channel.key] if not input else [channel.key, services.admission.secrets.sign(subject, channel.expires)]
        return self._digest.find(header, "ANNOUNCE", keys, time.monotonic()) or "-"

    async def _record(self, request: RtspRequest, target: RtspTarget) -> bool:
        media = self._media
        if self._state is State.RECORDING:
            self._reply(request, _OK)
            return True
        if not isinstance(media, RtspPush):
            return False
        try:
            await media.begin(self._evicted)
        except GatewayError as error:
            self._end_media("")
            self._refuse(request, push_refusal(error), error, target)
            return False
        self._leave_pending()
        self.read_at_most(LARGEST_READ)
        if not self._setups.udp_tracks:
            for number, channel in self._setups.channels.items():
                self._takers[channel] = partial(media.take, number, is_report=False)
                self._takers[channel + 1] = partial(media.take, number, is_report=True)
            if self._protocol == "rtsp":
                self._merge_after = time.monotonic() + MERGE_READS_AFTER
        self._reply(request, _OK)
        return True

    def _evicted(self, reason: EndReason) -> None:
        self._end_media(str(reason))
        self._half_close()

    # ---- the tracks ----

    async def _set_up(self, request: RtspRequest, target: RtspTarget) -> bool:
        if self._media is None and not await self._open_play(request, target):
            return False  # a client that has the description already
        media = self._media
        assert media is not None
        number = self._number_of(media, request, target)
        if number is None:
            self._reply(request, "459 Aggregate Operation Not Allowed")
            return False
        if number >= media.count:
            self._reply(request, "404 Not Found: no such track")
            return False
        push = media if isinstance(media, RtspPush) else None
        payload_type = push.payload_type(number) if push is not None else None
        written = self._setups.set_up(number, request.headers.get("transport", ""), payload_type)
        if not written:
            self._reply(request, "461 Unsupported Transport")
            return False
        if push is not None and self._setups.udp_tracks:
            push.use_udp()
        self._reply(request, _OK, {"Transport": written, "Session": f"{self._id};timeout={TIMEOUT}"})
        return True

    def _number_of(self, media: RtspPlay | RtspPush, request: RtspRequest, target: RtspTarget) -> int | None:
        """Returns the number of the track that a request sets up; None: it names none."""
        if isinstance(media, RtspPlay):
            return 0 if target.track is None and media.count == 1 else target.track
        number = media.number_of(request.url)
        return number if number is not None else len(self._setups)

    def _take_datagram(self, number: int, data: bytes, is_report: bool) -> None:
        """Takes a datagram of a track over UDP: media of a push, or a sign of life of a player. Hot path for pushes."""
        self._last_data = time.monotonic()
        media = self._media
        if isinstance(media, RtspPush) and self._state is State.RECORDING:
            self._received += len(data)
            try:
                media.take(number, data, is_report)
            except KeepsChanging as error:
                self._drop(str(error)[:200])

    # ---- the end ----

    def _hook_details(self, request: RtspRequest, target: RtspTarget) -> HookDetails:
        agent = request.headers.get("user-agent", "")
        return HookDetails(urlencode(target.query), encoder=agent[:100])

    def _end_media(self, reason: str, *, stopped: bool = False) -> None:
        """Ends the play or the push, also one that has not begun yet. The connection may begin another one."""
        task = self._task
        if task is not None and task is not asyncio.current_task():
            task.cancel()  # what it waits for would come too late
            self._task = None
        self._state, self._takers, self._merge_after = State.INIT, {}, math.inf
        self.merge_reads(False)
        self._idle_since = time.monotonic()
        self._setups.clear()
        media, self._media = self._media, None
        if isinstance(media, RtspPush):
            media.end(reason, stopped=stopped, bytes=self._received)
        elif media is not None:
            media.end()
        challenged, self._challenged = self._challenged, self._challenged if not self._closing else None
        if challenged is not None and self._closing:
            self._services.make_push(challenged).refuse(NotAuthorized("missing", RefusalReason.MISSING))

    def _drop(self, reason: str) -> None:
        """Ends the connection of a bad peer."""
        name = self._media.name if self._media is not None else ""
        log.info("connection dropped", peer=self.address, protocol=self._protocol, stream=name[:128], reason=reason)
        self._end_media(reason)
        self._half_close(CLOSE_BOUND)
