"""One RTMP connection: moves bytes between a socket, the protocol core (without I/O), and a publisher or viewer."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Coroutine
from typing import Any, Final
from urllib.parse import urlencode

import structlog

from gateway.channels.addresses import APP
from gateway.formats.flv.tag import ScriptTag
from gateway.ingest.admission import PushRequest
from gateway.ingest.push import Push
from gateway.ingest.rtmp.refusals import EVICTIONS, play_refusal, publish_refusal
from gateway.ingest.services import ListenerServices
from gateway.lib.scheduled_reads import LARGEST_READ
from gateway.lib.token_bucket import TokenBucket
from gateway.listeners.pending_connections import EARLY_BYTES, EARLY_READ
from gateway.listeners.tcp_listener import (
    CLOSE_BOUND,
    MAX_UNREAD_BYTES,
    MERGE_READS_AFTER,
    PLAY_CLOSE_BOUND,
    TcpSession,
)
from gateway.live.flv_intake import FlvIntake
from gateway.live.sink import EndReason
from gateway.live.track_changes import KeepsChanging
from gateway.live.unit_intake import AUDIO_INDEX, VIDEO_INDEX
from gateway.media.errors import InvalidData
from gateway.packaging.rtmp_output import RtmpOutput
from gateway.playback.play import Play, ViewerRequest
from gateway.playback.rtmp import RtmpPlayback
from gateway.ports.auth_hook import HookDetails
from gateway.ports.errors import GatewayError, TooManyRefusals
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
from gateway.protocols.rtmp.state import RtmpState
from gateway.protocols.rtmp.url import StreamTarget

log = structlog.get_logger(__name__)

MAX_IDLE_SECONDS: Final = 60.0  # seconds for which a connection may neither publish nor play

# Messages without media. An encoder sends a dozen commands and at most a few data messages per picture. A player sends
# an acknowledgement from time to time. After a network stall, delayed messages arrive all at once.
MESSAGES_PER_SECOND: Final = 500
MESSAGES_BURST: Final = 5000
# Publishes, plays and pauses: each reads the store or sends a GOP.
REQUESTS_PER_SECOND: Final = 2
REQUESTS_BURST: Final = 30
NO_MEDIA_BYTES: Final = 1 << 20  # per second, from a connection that does not publish


class RtmpSession(TcpSession):
    """A connection from its first byte to its last. The listener calls `tick` about once a second."""

    def __init__(
        self, services: ListenerServices, protocol: str, address: str, sessions: set[Any], *, exempt: bool
    ) -> None:
        super().__init__(services, protocol, address, sessions, exempt=exempt)
        self._services = services
        self._limits = services.settings.limits
        self._core = ServerConnection(apps={APP, *services.settings.rtmp.apps})
        self._unsent_answers = self._core.queued  # the queue itself: true while the core has bytes to send
        self._push: Push | None = None
        self._intake: FlvIntake | None = None
        self._play: Play | None = None
        self._playing: RtmpPlayback | None = None
        self._task: asyncio.Task[object] | None = None
        self._name = ""
        self._connected: Connected | None = None
        self._last_data = self._started = self._idle_since = time.monotonic()
        self._pinged = 0.0  # monotonic time of the last ping without an answer; 0: none
        self._merge_after = math.inf  # monotonic time from which small reads are merged; with TLS: never
        self._messages = TokenBucket(MESSAGES_PER_SECOND, MESSAGES_BURST)
        self._requests = TokenBucket(REQUESTS_PER_SECOND, REQUESTS_BURST)
        self._last_asked = self._last_received = 0  # counters of the core at the last check

    # ---- asyncio.BufferedProtocol ----

    def bytes_received(self, data: bytes) -> None:
        if self._closing:
            return
        self._last_data = time.monotonic()
        self._pinged = 0.0
        try:
            self._handle_events(self._core.receive(data))
        except (RemoteProtocolError, InvalidData) as error:
            self._fail(error)
        else:
            if self._intake is not None and not self._unsent_answers:
                if self._last_data > self._merge_after:
                    self.merge_reads(not self._intake.publisher.stream.is_awaited)
                return  # hot path: media without an answer
            self._send()
            if self._core.closing:
                self._close()
            else:
                self._limit_early_data()

    def _limit_early_data(self) -> None:
        """Counts the buffered bytes of an unknown peer. Stops reading at the limit while its key is verified."""
        held = self._core.held
        if self._pending is not None:
            self._pending.hold(held)
        if held > EARLY_BYTES and self._core.state is RtmpState.PUBLISH_PENDING and not self._closing:
            self.hold_reading()

    def _handle_events(self, events: list[ServerEvent]) -> None:
        """Handles the events of the peer's bytes. Raises InvalidData after too much invalid media. Hot path."""
        now, wall_clock = self._last_data, time.time()
        intake = self._intake
        for event in events:
            if isinstance(event, Message):
                if intake is None:
                    continue  # media of a publish that ended in this read
                index = VIDEO_INDEX if event.type_id == VIDEO else AUDIO_INDEX
                intake.take_media(index, event.timestamp, event.payload, wall_clock, now)
            else:
                self._on_event(event, now)
                intake = self._intake

    def _fail(self, error: Exception) -> None:
        """Ends publishing and playing, because the peer broke the protocol or its media is invalid."""
        reason = str(error)[:200]
        log.info("connection refused", peer=self.address, stream=self._name[:128], reason=reason)
        description = "The media that was sent cannot be used."
        if isinstance(error, KeepsChanging):
            description = str(error)
        elif isinstance(error, InvalidData) and self._push is not None:
            description = self._push.reject(description)
        self._leave_media(reason)
        if self._core.state is RtmpState.PUBLISHING:
            self._core.reject_publish("NetStream.Publish.Failed", description)
        self._close()

    def eof_received(self) -> bool:
        return False  # close this side too

    def connection_lost(self, exc: Exception | None) -> None:
        self._closing = True
        self._leave_media("connection closed")
        self._core.release_buffers()
        self._lost()

    # ---- time ----

    def tick(self, now: float) -> None:
        """Closes connections that are too slow or send too much, and pings silent ones. now: monotonic seconds."""
        limits = self._limits
        if self._closing or self._transport is None:
            return  # closing has its own time limit
        if (reason := self._flood_reason(now)) is not None:
            self._drop(reason)
            return
        if self._read_held:
            return  # silent because nothing is read; the check of the key has its own time limit
        silent = now - self._last_data
        settings = self._services.settings.rtmp
        state = self._core.state
        playing = self._playing
        watching = playing is not None and not playing.paused
        if playing is not None:
            playing.check()
        handshaking = state is RtmpState.HANDSHAKING
        late = limits.handshake and now - self._started > limits.handshake
        if late and (handshaking or state is RtmpState.CONNECTING):
            self._drop("no RTMP handshake in time")
        elif self._push is not None and self._intake is not None and not self._intake.units:
            if reason := self._push.overdue(now, now, limits, 0, has_media=False):
                self._drop(reason)
        elif state is RtmpState.CONNECTED and self._task is None and now - self._idle_since > MAX_IDLE_SECONDS:
            self._drop("neither published nor played")
        elif settings.idle_timeout and silent > settings.idle_timeout and not watching:
            self._drop("nothing received for too long")
        elif self._pinged and settings.ping_timeout and now - self._pinged > settings.ping_timeout and not watching:
            self._drop("no answer to a ping")
        elif settings.ping_interval and silent > settings.ping_interval and not (self._pinged or handshaking):
            self._pinged = now
            self._core.ping(int(now * 1000))
            self._send()

    def _flood_reason(self, now: float) -> str | None:
        """Returns the reason if the peer sends too much; otherwise None."""
        core = self._core
        asked, self._last_asked = core.asked - self._last_asked, core.asked
        received, self._last_received = core.received - self._last_received, core.received
        if not self._messages.take(asked, now):
            return "sends too many messages without media"
        if self._intake is None and received > NO_MEDIA_BYTES and now - self._idle_since > 2:
            return "sends too much and publishes nothing"
        return None

    def shutdown(self) -> None:
        self._leave_media("shutting down")
        self._close()

    # ---- events ----

    def _on_event(self, event: ServerEvent, now: float) -> None:
        match event:
            case ScriptTag():
                if self._intake is not None:
                    self._intake.take_script(event, now)
            case PublishRequested():
                if self._may_request(now):
                    self._start(self._publish(event))
            case PlayRequested():
                if self._may_request(now):
                    self._start(self._begin_play(event))
            case PublishEnded():
                self._idle_since = now
                self._leave_media(event.reason, stopped=True)
                self.read_at_most(EARLY_READ)  # because its next publish must be verified too
            case PlayEnded():
                self._idle_since = now
                self._leave_media("")
            case Paused():
                if self._playing is not None and self._may_request(now):
                    self._playing.pause(event.paused)
            case Connected():
                self._connected = event
                log.debug("connected", peer=self.address, protocol=self._protocol, encoder=event.flash_ver[:100])

    def _may_request(self, now: float) -> bool:
        """Whether the peer may publish, play or pause again. Closes the connection if not."""
        if self._requests.take(1, now):
            return True
        self._drop("publishes, plays or pauses again and again")
        return False

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        self._task = self._services.tasks.start(work, f"{self._protocol} {self.address}")
        self._task.add_done_callback(self._abort_on_error)

    def _abort_on_error(self, task: asyncio.Task[object]) -> None:
        """Closes the connection after an internal error, so that the peer does not wait; the task group logs it."""
        if not task.cancelled() and task.exception() is not None:
            self._abort()

    def _leave_media(self, reason: str, *, stopped: bool = False) -> None:
        """Ends publishing and playing, also if they have not begun yet."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
        self._leave_publish(reason, stopped=stopped)
        playing, self._playing = self._playing, None
        if playing is not None:
            playing.leave()
        play, self._play = self._play, None
        if play is not None:
            play.end()

    def _hook_details(self, request: StreamTarget) -> HookDetails:
        """Returns what the auth hook gets of a request."""
        connected = self._connected
        tc_url, encoder = (connected.tc_url, connected.flash_ver) if connected is not None else ("", "")
        return HookDetails(urlencode(request.query), request.app[:64], tc_url[:1024], encoder[:100])

    # ---- publishing ----

    async def _publish(self, request: PublishRequested) -> None:
        self._name = request.name
        key, input = request.query.get("sign"), request.query.get("input", "")
        push = self._push = self._services.make_push(
            PushRequest(
                request.name, key, self.address, self._protocol, self._exempt, input, self._hook_details(request)
            )
        )
        try:
            publisher = await push.begin(self._evicted)
        except GatewayError as error:
            if isinstance(error, TooManyRefusals):
                self._abort()
                return
            self._core.reject_publish(*publish_refusal(error))
            self._close()
            return
        finally:
            self._task = None
        self._name = push.id
        self._leave_pending()
        self.read_at_most(LARGEST_READ)
        push.log_begin()
        self._last_data = push.began
        if self._protocol == "rtmp":
            self._merge_after = push.began + MERGE_READS_AFTER
        self._intake = FlvIntake(publisher, self._services.sound_converter(publisher.stream.name))
        try:
            self._handle_events(self._core.accept_publish())  # messages that the peer sent while it waited
        except (RemoteProtocolError, InvalidData) as error:
            self._fail(error)
        else:
            self._send()
            self.release_reading()

    def _leave_publish(self, reason: str, *, stopped: bool = False) -> None:
        push, self._push = self._push, None
        intake, self._intake = self._intake, None
        self.merge_reads(False)
        if intake is not None:
            intake.finish(time.monotonic())
        if push is not None:
            malformed = intake.unusable.broken if intake is not None else 0
            push.end(reason, stopped=stopped, bytes=self._core.received, malformed=malformed)

    def _evicted(self, reason: EndReason) -> None:
        """Ends the publish when the hub evicts the publisher."""
        if self._core.state is RtmpState.PUBLISHING:
            code = "NetStream.Publish.BadName" if reason is EndReason.PUBLISHER_GONE else "NetStream.Publish.Failed"
            self._core.reject_publish(code, EVICTIONS.get(reason, str(reason)))
        self._leave_publish(str(reason))
        self._close()

    # ---- playing ----

    async def _begin_play(self, request: PlayRequested) -> None:
        self._name = request.name
        wanted = ViewerRequest(
            *(request.name, self.address, request.query.get("sign"), self._hook_details(request)),
            exempt=self._exempt,
            pull_mark=self._core.pull_mark,
        )
        play = self._play = self._services.make_play(wanted)
        try:
            stream = await play.begin()
        except GatewayError as error:
            if isinstance(error, TooManyRefusals):
                self._abort()
                return
            reason = f"{type(error).__name__}: {error}"[:200]
            log.info("play refused", stream=play.name[:200], peer=self.address, reason=reason)
            self._core.reject_play(*play_refusal(error, play.name))
            self._close()
            return
        finally:
            self._task = None
        self._name = play.name
        output = stream.output("rtmp")
        transport = self._transport
        if not isinstance(output, RtmpOutput) or transport is None:  # the output failed; it will be started again
            self._core.reject_play("NetStream.Play.Failed", "Try again later.")
            self._close()
            return
        self._leave_pending()
        feed = output.feed(self._core.stream_id)
        playing = self._playing = RtmpPlayback(
            feed, transport, self._limits.viewer_backlog, self.address, self._play_ended, self._flooded
        )
        try:
            early_messages = self._core.accept_play()
            self._send()
            playing.join(early=play.waited)
            self._handle_events(early_messages)
        except (RemoteProtocolError, InvalidData) as error:
            self._fail(error)
        else:
            self._send()

    def _flooded(self) -> None:
        self._drop("plays again and again and does not read")

    def _play_ended(self, reason: EndReason) -> None:
        playing, self._playing = self._playing, None
        if playing is not None:
            playing.leave()
        if self._core.state is RtmpState.PLAYING:
            self._core.end_play(str(reason))
        self._close(PLAY_CLOSE_BOUND)

    # ---- closing ----

    def _send(self) -> None:
        data = self._core.data_to_send()
        if data and not self._answer(data):
            self._drop("does not read the answers it asks for")

    def _drop(self, reason: str) -> None:
        """Ends the connection of a bad peer. A publisher gets the reason."""
        log.info(
            "connection dropped", peer=self.address, protocol=self._protocol, stream=self._name[:128], reason=reason
        )
        self._leave_media(reason)
        if self._core.state is RtmpState.PUBLISHING and not self._unread_bytes > MAX_UNREAD_BYTES:
            self._core.reject_publish("NetStream.Publish.Failed", f"The push was ended: {reason.rstrip('.')}.")
            self._close()
        else:
            self._abort()

    def _close(self, bound: float = CLOSE_BOUND) -> None:
        """Sends the last message, and closes. bound: seconds until the connection is aborted."""
        self._send()
        self._half_close(bound)
