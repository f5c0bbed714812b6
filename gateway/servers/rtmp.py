"""One RTMP connection: moves bytes between a socket and the pure core, a publisher or a viewer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final, cast

import structlog

from gateway.formats.flv.tag import Script
from gateway.hub.errors import AtCapacity, HubError, NoSuchStream
from gateway.hub.names import is_stream_name
from gateway.hub.publisher import Publisher
from gateway.hub.stream import EndReason
from gateway.media.errors import InvalidData
from gateway.packagers.rtmp import RtmpOutput
from gateway.protocols.errors import RemoteProtocolError
from gateway.protocols.rtmp.events import (
    Connected,
    Paused,
    PlayEnded,
    PlayRequested,
    PublishEnded,
    PublishRequested,
    ServerEvent,
)
from gateway.protocols.rtmp.message import VIDEO, Message
from gateway.protocols.rtmp.server import ServerConnection
from gateway.protocols.rtmp.state import State
from gateway.protocols.rtmp.wire import Limits as WireLimits
from gateway.servers.rtmp_door import EVICTIONS, PUBLISH_REFUSALS, RtmpDoor, play_refusal
from gateway.servers.rtmp_play import Playing
from gateway.sources.intake import FlvIntake

log = structlog.get_logger(__name__)

CLOSE_GRACE: Final = 0.25  # over TLS, between the last words and the close, so that the peer reads them
CLOSE_BOUND: Final = 2.5  # a peer that does not take them is cut; contract: closed within 3 s
PLAYED_OUT: Final = 10.0  # the same for a player whose stream has ended: its backlog may still go out
ANSWERS: Final = 262_144  # bytes of answers that wait for a peer that asks and asks and does not read
NOTHING_ASKED: Final = 60.0  # seconds that a connection may neither publish nor play


class RtmpSession(asyncio.Protocol):
    """A connection from its first byte to its last. `tick` is called about once a second by the listener."""

    def __init__(
        self, door: RtmpDoor, protocol: str, address: str, *, exempt: bool, gone: Callable[[RtmpSession], None]
    ) -> None:
        self._door = door
        self._limits = limits = door.limits
        self._protocol = protocol
        self.address = address
        self._exempt = exempt
        self._gone = gone
        self._core = ServerConnection(
            chunk_size=limits.chunk_size, limits=WireLimits(message=limits.message or 0xFFFFFF)
        )
        self._waiting = self._core.waiting
        self._transport: asyncio.Transport | None = None
        self._publisher: Publisher | None = None
        self._intake: FlvIntake | None = None
        self._playing: Playing | None = None
        self._task: asyncio.Task[object] | None = None
        self._name = ""
        self._counted = ""  # which quota this connection holds: "push", "play" or none
        self._closing = False
        self._last_data = self._started = self._at_rest = time.monotonic()
        self._pinged = 0.0
        self._accepted = 0.0
        self._cut: asyncio.TimerHandle | None = None
        self._owed = 0  # bytes of answers since the transport was last empty

    # ---- asyncio.Protocol ----

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if not self._exempt and self._door.admission.blocked(self.address):
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return  # read on, unheard: unread bytes would turn the close into a reset, which eats the last words
        self._last_data = time.monotonic()
        self._pinged = 0.0
        try:
            self._take(self._core.receive(data))
        except (RemoteProtocolError, InvalidData) as error:
            self._broken(error)
        else:
            if self._intake is not None and not self._waiting:
                return  # hot: media came, nothing is to be answered
            self._send()
            if self._core.closing:
                self._close()

    def _take(self, events: list[ServerEvent]) -> None:
        """Hot. Acts on what the peer's bytes meant. Raises InvalidData where its media is nothing but rubbish."""
        now, wall = self._last_data, time.time()
        intake = self._intake
        for event in events:
            if isinstance(event, Message):
                if intake is None:
                    continue  # media of a publish that was ended in this very read
                if event.type_id == VIDEO:
                    intake.video(event.timestamp, event.payload, wall, now)
                else:
                    intake.audio(event.timestamp, event.payload, wall, now)
            else:
                self._on_event(event, now)
                intake = self._intake

    def _broken(self, error: Exception) -> None:
        """The peer breaks the protocol, or its media is rubbish: what it published or played is over."""
        reason = str(error)[:200]
        log.info("connection refused", peer=self.address, stream=self._name[:128], reason=reason)
        self._cancel()
        self._leave_publish(reason)
        self._leave_play()
        if self._core.state is State.PUBLISHING:
            self._core.reject_publish("NetStream.Publish.Failed", "What was sent is no media that can be carried.")
        self._send()
        self._close()

    def eof_received(self) -> bool:
        return False  # close, too

    def connection_lost(self, exc: Exception | None) -> None:
        self._closing = True
        if self._cut is not None:
            self._cut.cancel()
        if self._task is not None:
            self._task.cancel()
        self._leave_publish("connection closed")
        self._leave_play()
        if self._counted == "push":
            self._door.admission.connections.give(self.address)
        elif self._counted == "play":
            self._door.players.give(self.address)
        self._counted = ""
        self._gone(self)

    # ---- time ----

    def tick(self, now: float) -> None:
        """Closes what is late, asks who is silent."""
        limits = self._limits
        if self._closing or self._transport is None:
            return  # a bound of its own runs
        silent = now - self._last_data
        state = self._core.state
        playing = self._playing
        watching = playing is not None and not playing.paused
        if playing is not None:
            playing.look()
        if (
            state in (State.HANDSHAKING, State.CONNECTING)
            and limits.handshake
            and now - self._started > limits.handshake
        ):
            self._drop("no RTMP handshake in time")
        elif self._intake is not None and not self._intake.units:
            if limits.first_media and now - self._accepted > limits.first_media:
                self._drop("no media in time")
        elif state is State.CONNECTED and self._task is None and now - self._at_rest > NOTHING_ASKED:
            self._drop("neither published nor played")
        elif limits.idle_timeout and silent > limits.idle_timeout and not watching:
            self._drop("nothing received for too long")
        elif self._pinged and limits.ping_timeout and now - self._pinged > limits.ping_timeout and not watching:
            self._drop("no answer to a ping")
        elif (
            limits.ping_interval
            and silent > limits.ping_interval
            and not self._pinged
            and state is not State.HANDSHAKING
        ):
            self._pinged = now
            self._core.ping(int(now * 1000))
            self._send()

    @property
    def unsent(self) -> int:
        """Bytes that wait for the peer to take them."""
        transport = self._transport
        return 0 if transport is None or transport.is_closing() else transport.get_write_buffer_size()

    def shutdown(self) -> None:
        """The listener closes: whoever is left goes. Publishers and viewers were told when their streams ended."""
        self._cancel()
        self._leave_publish("shutting down")
        self._leave_play()
        self._close()

    # ---- events ----

    def _on_event(self, event: ServerEvent, now: float) -> None:
        match event:
            case Script():
                if self._intake is not None:
                    self._intake.script(event, now)
            case PublishRequested():
                self._start(self._publish(event))
            case PlayRequested():
                self._start(self._play(event))
            case PublishEnded():
                self._at_rest = now
                self._cancel()
                self._leave_publish(event.reason)
            case PlayEnded():
                self._at_rest = now
                self._cancel()
                self._leave_play()
            case Paused():
                if self._playing is not None:
                    self._playing.pause(event.paused)
            case Connected():
                log.debug("connected", peer=self.address, protocol=self._protocol, encoder=event.flash_ver[:100])

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        self._task = self._door.tasks.start(self._guarded(work), f"{self._protocol} {self.address}")

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        """A bug of ours must not leave the peer waiting; the task group logs it."""
        try:
            await work
        except Exception:
            self._abort()
            raise

    def _cancel(self) -> None:
        task, self._task = self._task, None
        if task is not None and not task.done():
            task.cancel()

    # ---- publishing ----

    async def _publish(self, request: PublishRequested) -> None:
        door = self._door
        self._name = request.name
        try:
            if not self._exempt and not self._count("push"):
                raise AtCapacity("too many publishers from this address")
            channel = await door.admission.channel(
                request.name, request.query.get("sign"), self.address, exempt=self._exempt
            )
            self._publisher = await door.lease(channel, protocol=self._protocol, peer=self.address, evict=self._evicted)
        except HubError as error:
            door.admission.refuse(request.name, self.address, self._protocol, error)
            code, words = PUBLISH_REFUSALS.get(type(error), ("NetStream.Publish.Failed", "Try again later."))
            self._core.reject_publish(code, words)
            self._send()
            self._close()
            return
        finally:
            self._task = None
        self._accepted = self._last_data = time.monotonic()
        self._intake = FlvIntake(self._publisher)
        log.info("publishing", stream=channel.id, peer=self.address, protocol=self._protocol)
        try:
            self._take(self._core.accept_publish())  # what it sent while it waited
        except (RemoteProtocolError, InvalidData) as error:
            self._broken(error)
        else:
            self._send()

    def _leave_publish(self, reason: str) -> None:
        publisher, self._publisher = self._publisher, None
        intake, self._intake = self._intake, None
        if publisher is None:
            return
        if publisher.active and intake is not None:
            intake.finish(time.monotonic())
        publisher.close()
        log.info(
            "publish ended",
            stream=publisher.stream.name,
            peer=self.address,
            reason=reason,
            seconds=round(time.monotonic() - publisher.since, 1),
            bytes=self._core.received,
            malformed=intake.malformed if intake is not None else 0,
        )

    def _evicted(self, reason: EndReason) -> None:
        """The hub takes the lease away."""
        self._intake = None
        if self._core.state is State.PUBLISHING:
            code = "NetStream.Publish.BadName" if reason is EndReason.PUBLISHER_GONE else "NetStream.Publish.Failed"
            self._core.reject_publish(code, EVICTIONS.get(reason, str(reason)))
            self._send()
        self._leave_publish(str(reason))
        self._close()

    # ---- playing ----

    async def _play(self, request: PlayRequested) -> None:
        door, name = self._door, request.name
        self._name = name
        try:
            if not self._exempt and not self._count("play"):
                raise AtCapacity("too many players from this address")
            if not is_stream_name(name):
                raise NoSuchStream(name)
            await door.may_play(name, request.query, self.address)
            stream = await door.streams.wait(name, self._limits.wait_for_publisher)
        except HubError as error:
            reason = f"{type(error).__name__}: {error}"[:200]
            log.info("play refused", stream=name[:200], peer=self.address, reason=reason)
            self._core.reject_play(*play_refusal(error, name))
            self._send()
            self._close()
            return
        finally:
            self._task = None
        output = stream.outputs.get("rtmp") if stream.outputs is not None else None
        transport = self._transport
        if not isinstance(output, RtmpOutput) or transport is None:  # between two tries of an output that failed
            self._core.reject_play("NetStream.Play.Failed", "Try again later.")
            self._send()
            self._close()
            return
        feed = output.feed(self._core.stream_id)
        playing = self._playing = Playing(
            feed, transport, self._limits.viewer_backlog, self.address, self._play_over, self._flooded
        )
        try:
            waited = self._core.accept_play()
            self._send()
            playing.join()
            self._take(waited)
        except (RemoteProtocolError, InvalidData) as error:
            self._broken(error)
        else:
            self._send()

    def _leave_play(self) -> None:
        playing, self._playing = self._playing, None
        if playing is not None:
            playing.leave()

    def _flooded(self) -> None:
        self._drop("plays again and again and does not read")

    def _play_over(self, reason: EndReason) -> None:
        self._playing = None
        if self._core.state is State.PLAYING:
            self._core.end_play(str(reason))
            self._send()
        self._close(PLAYED_OUT)

    # ---- closing ----

    def _count(self, use: str) -> bool:
        if self._counted:
            return True  # a second publish or play on one connection
        quota = self._door.admission.connections if use == "push" else self._door.players
        if not quota.take(self.address):
            return False
        self._counted = use
        return True

    def _send(self) -> None:
        transport = self._transport
        data = self._core.data_to_send()
        if not data or transport is None or self._closing or transport.is_closing():
            return
        self._owed = self._owed + len(data) if transport.get_write_buffer_size() else 0
        if self._owed > ANSWERS:
            self._drop("does not read the answers it asks for")
        else:
            transport.write(data)

    def _drop(self, reason: str) -> None:
        """We give up on the peer; a publisher is told."""
        log.info(
            "connection dropped", peer=self.address, protocol=self._protocol, stream=self._name[:128], reason=reason
        )
        self._cancel()
        self._leave_publish(reason)
        self._leave_play()
        if self._core.state is State.PUBLISHING and not self._owed > ANSWERS:
            self._core.reject_publish("NetStream.Publish.Failed", f"The push was ended: {reason}.")
            self._send()
            self._close()
        else:
            self._abort()

    def _close(self, bound: float = CLOSE_BOUND) -> None:
        """After the last words. A plain connection is closed on our side only and read on, so that they arrive."""
        transport = self._transport
        if self._closing or transport is None:
            return
        self._closing = True
        loop = asyncio.get_running_loop()
        if not transport.can_write_eof():
            loop.call_later(CLOSE_GRACE, transport.close)
        elif not transport.is_closing():
            transport.write_eof()
        self._cut = loop.call_later(bound, transport.abort)

    def _abort(self) -> None:
        self._closing = True
        if self._transport is not None:
            self._transport.abort()
