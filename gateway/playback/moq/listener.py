"""The port of MoQ. The library accepts the sessions; each must be a play that is allowed before it gets media."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Final
from urllib.parse import unquote

import moq
import moq_ffi
import structlog

from gateway.channels.channel import Channel
from gateway.lib.network import url_host
from gateway.lib.sockets import ListenError
from gateway.listeners.port_listener import PortListener
from gateway.live.stream import Stream, StreamState
from gateway.playback.moq.certificate import MoqCertificate
from gateway.playback.moq.moq_output import KIND, MoqOutput
from gateway.playback.moq.tickets import read_ticket
from gateway.playback.play import Play, ViewerRequest
from gateway.playback.services import PlayServices
from gateway.ports.auth_hook import HookDetails
from gateway.ports.errors import AtCapacity, GatewayError, NotAuthorized, NotFound, StoreUnusable

log = structlog.get_logger(__name__)

TICKET: Final = "ticket"
_MAX_QUERY: Final = 2048  # characters
_LONGEST_WAIT: Final = 8.0  # seconds for the publisher: the library's clients give up after 10 s
_LEAST_RATE: Final = 200  # bytes a second; with less, a session only keeps its connection open
_MOST_WAITING: Final = 4_000_000  # bytes for one session that does not read
_RETRY_SECONDS: Final = 1.0  # between two attempts to open a port that the process before still has
_REFRESH_SECONDS: Final = 60.0  # between two looks at the certificate
_PAGES_ONLY: Final = "only pages that were checked over HTTP may play this"


@dataclass(eq=False, slots=True)
class MoqSession:
    """One session that may play. Implements MoqViewer and TimedSession. session: None during its handshake."""

    stream: Stream
    output: MoqOutput
    request: moq.Request
    stall_seconds: float
    session: moq.Session | None = None
    reason: str = ""  # why it was ended here
    _sent: int = 0  # bytes
    _waiting: int = 0  # bytes that the library may keep for it, because it does not read
    _written: int = field(init=False)  # bytes of the broadcast when it last read
    _read_at: float = field(default_factory=time.monotonic)
    _looked_at: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self._written = self.output.written

    def tick(self, now: float) -> None:
        """Counts what was sent. Ends a session that reads nothing of a live stream, or has not asked for any track.

        What such a session has not read counts as memory of viewers. With too much of it, the session ends at once.
        """
        if self.session is None:
            return
        sent = self.session.stats().bytes_sent or 0
        size, self._sent = sent - self._sent, sent
        self.output.count_sent(size)
        if self.stream.state is not StreamState.LIVE or size >= _LEAST_RATE * (now - self._looked_at):
            self._read_at, self._written = now, self.output.written
        self._looked_at = now
        memory, waiting = self.output.memory, max(0, self.output.written - self._written)
        memory.bytes += waiting - self._waiting
        self._waiting = waiting
        is_late = self.stall_seconds and now - self._read_at > self.stall_seconds
        if is_late or waiting > _MOST_WAITING or (waiting and memory.left <= 0):
            self.output.count_stalled()
            self.end("reads nothing")

    def left(self) -> None:
        """Frees its place and its memory."""
        self.output.memory.bytes -= self._waiting
        self._waiting = 0
        self.output.leave(self)

    def end(self, reason: str) -> None:
        self.reason = self.reason or reason
        if self.session is not None:
            self.session.shutdown()
        else:
            self.request.cancel()


class MoqListener(PortListener[MoqSession]):
    """The port. Its socket belongs to the library, which also ends handshakes after 10 s.

    At most `moq.connections` sessions are open or wait for their answer; above that, new ones are refused. A session
    gets an origin with one broadcast, so it can see and ask for no other stream. It may send no broadcast: the first
    one ends it.
    """

    def __init__(self, services: PlayServices, certificate: MoqCertificate) -> None:
        """Finds the port, and whether it is free. Raises ListenError."""
        settings = services.settings.moq
        super().__init__(KIND, settings.host, settings.port, services.opener, "udp")
        # None: this is one of several processes. The one before in this slot may still have the port.
        self._may_wait = not self._sockets
        for free in self._sockets:
            free.close()
        self._services = services
        self._certificate = certificate
        self._most = settings.connections
        self._stall_seconds = services.settings.limits.viewer_stall
        self._server: moq_ffi.MoqServer | None = None
        self._requests = 0  # sessions that are open or wait for their answer
        self._closing = False

    @property
    def connections(self) -> int:
        return self._requests

    async def start(self) -> None:
        """Opens the port. Raises ListenError."""
        try:
            self._server = await self._open()
        except ListenError as error:
            if not self._may_wait:
                raise
            log.info("the port of MoQ waits for the process before", reason=str(error))

    async def run(self) -> None:
        tasks = self._services.tasks
        loops = [tasks.keep(self._accept, "moq sessions"), tasks.keep(self._follow_certificate, "moq certificate")]
        try:
            await super().run()
        finally:
            for loop in loops:
                loop.cancel()

    def close(self) -> None:
        """Refuses new sessions. Open ones continue, but not if the next process of this slot needs the port."""
        self._closing = True
        if self._may_wait:
            self.abort()

    async def hang_up(self, grace: float) -> None:
        self.abort()

    def abort(self) -> None:
        self._closing = True
        for session in list(self._sessions):
            session.end("shutting down")
        server, self._server = self._server, None
        if server is not None:
            server.cancel()

    # ---- the library's server ----

    async def _open(self) -> moq_ffi.MoqServer:
        try:
            await asyncio.to_thread(self._certificate.refresh)
        except (OSError, StoreUnusable) as error:
            raise ListenError(f"{KIND}: the certificate cannot be written: {error}") from None
        server = moq_ffi.MoqServer()
        path = str(self._certificate.served)
        try:
            server.set_bind(f"{url_host(self._services.settings.moq.host)}:{self.port}")
            server.set_tls_cert([path])
            server.set_tls_key([path])
            await server.listen()
        except moq.Error as error:
            server.cancel()
            raise ListenError(f"{KIND}: port {self.port} cannot be opened: {error}") from None
        log.info("the port of MoQ is open", port=self.port)
        return server

    async def _follow_certificate(self) -> None:
        while True:
            await asyncio.sleep(_REFRESH_SECONDS)
            await asyncio.to_thread(self._certificate.refresh)

    async def _accept(self) -> None:
        while self._server is None and not self._closing:
            await asyncio.sleep(_RETRY_SECONDS)
            with suppress(ListenError):
                self._server = await self._open()
        while self._server is not None:
            try:
                inner = await self._server.accept()
            except moq.Error as error:
                if not moq.is_shutdown(error):
                    raise
                return
            if inner is None:
                return
            if self._closing or self._requests >= self._most:
                inner.cancel()
                continue
            self._requests += 1
            self._services.tasks.start(self._serve(moq.Request(inner)), "moq session")

    # ---- one session ----

    async def _serve(self, request: moq.Request) -> None:
        play: Play | None = None
        try:
            play = await self._play(request)
            stream = await play.begin(_LONGEST_WAIT)
            await self._show(request, play, stream)
        except GatewayError as error:
            log.info("MoQ viewer refused", stream=request.path[1:100], reason=str(error))
            await _reject(request, _code(error))
        except moq.Error as error:  # the client went away during the handshake
            log.debug("a session of MoQ failed", reason=str(error))
        finally:
            self._requests -= 1
            if play is not None:
                play.end()

    async def _play(self, request: moq.Request) -> Play:
        """Returns the play that a session asks for: `/<id>?sign=…`, or with a ticket. Raises GatewayError."""
        name, text = unquote(request.path.strip("/")), request.query or ""
        if request.transport is not moq.Transport.QUIC or len(text) > _MAX_QUERY:
            raise NotAuthorized("not a request to play")
        shown = dict(part.partition("=")[::2] for part in text.split("&"))
        plays, streams = self._services.plays, self._services.streams
        if TICKET in shown:
            access = await asyncio.to_thread(self._certificate.access)
            address = read_ticket(access.key, name, unquote(shown[TICKET]), time.time())
            if address is None:
                raise NotAuthorized("the ticket is not valid")
            wanted = ViewerRequest(name, address, exempt=not address, judge=_allowed)
            return Play(replace(plays, hook=None), streams, wanted)
        if plays.hook is not None:  # it asks with the client's address, which the library does not tell
            raise NotAuthorized(_PAGES_ONLY)
        sign = unquote(shown["sign"]) if "sign" in shown else None

        def judge(name: str, channel: Channel | None) -> None:
            if request.url is not None and plays.protection.limits_pages(channel):
                raise NotAuthorized(_PAGES_ONLY)  # WebTransport: the library does not tell the page
            plays.protection.judge_sign(name, channel, sign, None)

        return Play(plays, streams, ViewerRequest(name, "", exempt=True, details=HookDetails(text), judge=judge))

    async def _show(self, request: moq.Request, play: Play, stream: Stream) -> None:
        """Lets a session play until it ends. Raises AtCapacity, moq.Error."""
        output, peer = stream.output(KIND), play.request.address or None
        if not isinstance(output, MoqOutput):
            raise AtCapacity(f"{stream.name} is about to start again")
        viewer = MoqSession(stream, output, request, self._stall_seconds)
        request.set_publish(output.join(viewer).origin)
        self._sessions.add(viewer)
        try:
            viewer.session = session = await request.accept()
            log.info("MoQ viewer joins", stream=stream.name, peer=peer)
            await self._over(viewer, session)
            viewer.tick(time.monotonic())
            log.info("MoQ viewer left", stream=stream.name, peer=peer, reason=viewer.reason or "left")
        finally:
            self._sessions.discard(viewer)
            viewer.left()

    async def _over(self, viewer: MoqSession, session: moq.Session) -> None:
        """Waits for the end of a session. Ends it if the client announces a broadcast: pushes are not accepted."""
        announcements = session.consume().announced(hidden=True)

        async def refuse_broadcasts() -> None:
            try:
                await anext(announcements)
                viewer.end("sends a broadcast")
            except (moq.Error, StopAsyncIteration):
                pass  # the session has ended

        watching = self._services.tasks.start(refuse_broadcasts(), "moq announcements")
        try:
            await session.closed()
        except moq.Error as error:
            log.debug("a session of MoQ ended", stream=viewer.stream.name, reason=str(error))
        finally:
            announcements.cancel()
            watching.cancel()


def _allowed(name: str, channel: Channel | None) -> None:
    """Judges the holder of a ticket, whose rights were checked when it was made."""


def _code(error: GatewayError) -> int:
    """Returns the code for a refused client, like the status over HTTP. The library has names for 401 and 403 only."""
    match error:
        case NotAuthorized():
            return 403
        case NotFound():
            return 404
    return 503


async def _reject(request: moq.Request, code: int) -> None:
    try:
        await request.reject(code)
    except moq.Error as error:
        log.debug("a refused session of MoQ has gone", reason=str(error))
