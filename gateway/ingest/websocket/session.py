"""One push over a WebSocket: from the admission to the close frame."""

import asyncio
import time
from collections import deque
from contextlib import suppress
from dataclasses import asdict
from typing import Final

import structlog
from websockets.asyncio.server import broadcast
from websockets.exceptions import ConnectionClosed

from gateway.ingest.browser_intake import Intake
from gateway.ingest.push import Push
from gateway.ingest.websocket.compatible_targets import RelayDestination
from gateway.ingest.websocket.connection import MAX_MESSAGE, PushConnection
from gateway.ingest.websocket.frames_intake import FramesIntake
from gateway.ingest.websocket.push_messages import CloseReason, PushMessages
from gateway.ingest.websocket.services import EVICTIONS, WsServices, refusal
from gateway.lib.tasks import Tasks
from gateway.live.sink import EndReason
from gateway.live.unit_intake import IntakeFailed
from gateway.media.errors import InvalidData
from gateway.ports.errors import GatewayError
from gateway.protocols import push
from gateway.protocols.errors import RemoteProtocolError
from gateway.protocols.push import CloseCode, Stats

log = structlog.get_logger(__name__)

FINISH_SECONDS: Final = 2.0  # seconds for the last pictures after the end of a push
MAX_UNREAD_TEXT: Final = 65_536  # bytes of texts that wait for a client; above this limit it gets no further texts
MESSAGES_PER_TURN: Final = 32  # messages that are processed before other connections get a turn
_CLIENT_STOPS: Final = (CloseCode.NORMAL, CloseCode.GOING_AWAY)  # of a page: a click on Stop, or it was left
_RATE_SECONDS: Final = 4  # seconds over which rates are measured


class PushSession:
    """An upgraded connection. `run` handles it until its end. The listener calls `tick` once a second.

    destination: of a push of the old system's client to another server; None: the push goes to a channel.
    """

    def __init__(
        self,
        services: WsServices,
        ws: PushConnection,
        push: Push,
        messages: PushMessages,
        destination: RelayDestination | None = None,
    ) -> None:
        self._services = services
        self._settings = services.shared.settings
        self._ws = ws
        self._push = push
        self._messages = messages
        self._destination = destination
        self._close_reason: asyncio.Future[CloseReason] = asyncio.get_running_loop().create_future()
        self._intake: Intake | None = None
        self._frames: FramesIntake | None = None
        self._stopped = False  # the client said its end or closed the connection, as a page does whose user stops
        self._received = 0  # bytes of binary messages
        self._last_message = time.monotonic()  # when the last message came
        # For each second: monotonic time, bytes and frames received until then.
        self._rates: deque[tuple[float, int, int]] = deque(maxlen=_RATE_SECONDS + 1)

    async def run(self) -> None:
        """Runs until the connection is closed."""
        try:
            await self._publish()
        except Exception as error:  # the page must not wait after an internal error
            request = self._push.request
            log.error("a push failed", stream=request.id[:128], peer=request.address, exc_info=error)
            await self._ws.close(CloseCode.INTERNAL, "internal error")
        finally:
            self._end_push("connection closed")

    async def _publish(self) -> None:
        try:
            publisher = await self._push.begin(self._evicted)
        except GatewayError as error:
            await self._refuse(error)
            return
        if self._ws.subprotocol == push.SUBPROTOCOL:
            self._intake = self._frames = self._services.frames(publisher)
        else:
            self._intake = self._services.container(publisher)
        intake = self._intake
        kind = "frames" if self._frames is not None else "container"
        self._push.log_begin(form=kind)
        self._last_message = self._push.began
        self._rates.append((self._last_message, 0, 0))
        self._send_text(self._messages.accepted(self._push.id, kind))
        self._ws.admit(MAX_MESSAGE)
        async with Tasks(f"push from {self._push.request.address}", self._crashed) as tasks:
            working = tasks.start(self._run_intake(intake), "intake")
            receiving = tasks.start(self._receive(intake), "receive")
            closing = await self._close_reason
            receiving.cancel()
            await asyncio.wait((receiving,), timeout=FINISH_SECONDS)
            intake.finish()
            if publisher.active:
                await asyncio.wait((working,), timeout=FINISH_SECONDS)
            working.cancel()
            self._end_push(closing.reason)
            # Further data of the client is read and discarded. Otherwise the connection would be reset, and the close
            # frame lost.
            tasks.start(self._read_on(), "read on")
            await self._close(closing)

    async def _refuse(self, error: GatewayError) -> None:
        code, reason = refusal(error)
        for text in self._messages.ended(CloseReason(code, reason)):
            self._send_text(text)
        await self._ws.refuse(code, push.close_reason(reason))

    # ---- tasks ----

    async def _run_intake(self, intake: Intake) -> None:
        try:
            await intake.run()
        except IntakeFailed as failure:
            self._end_failed(failure)
        else:  # the client has said its end; its close frame may also be read before this
            self._stopped |= not self._close_reason.done()
            self._end(CloseCode.NORMAL, "the push has ended", tells_client=False)

    async def _receive(self, intake: Intake) -> None:
        try:
            await self._receive_messages(intake)
        except ConnectionClosed as closed:
            self._stopped = closed.rcvd is not None and closed.rcvd.code in _CLIENT_STOPS and _by_client(closed)
            self._end(CloseCode.NORMAL, _describe_close(closed), tells_client=False)
        except (RemoteProtocolError, InvalidData) as error:
            self._end(CloseCode.UNUSABLE, str(error))
        except IntakeFailed as failure:
            self._end_failed(failure)

    async def _receive_messages(self, intake: Intake) -> None:
        """Processes all messages until the connection closes or a message is invalid. Hot path."""
        receive, publisher, frames = self._ws.recv, self._push.publisher, self._frames
        assert publisher is not None, "set before the intake"
        in_a_row = 0
        while True:
            message = await receive()
            in_a_row += 1
            if in_a_row >= MESSAGES_PER_TURN:
                in_a_row = 0
                await asyncio.sleep(0)  # one read may contain thousands of messages
            self._last_message = now = time.monotonic()
            if isinstance(message, bytes):
                self._received += len(message)
                # Set although the media may not be published yet: otherwise another publisher could take over while a
                # transcoder is slow.
                publisher.last_media = now
                await intake.feed(message)
            elif frames is not None:
                await frames.feed(message)
            else:
                raise RemoteProtocolError("text instead of binary data")

    async def _read_on(self) -> None:
        with suppress(ConnectionClosed):
            while True:
                await self._ws.recv()

    # ---- time ----

    def tick(self, now: float) -> None:
        """Ends a push that stalls; otherwise sends the statistics. now: monotonic seconds."""
        intake, publisher, destination = self._intake, self._push.publisher, self._destination
        limits, idle_timeout = self._settings.limits, self._settings.ws.idle_timeout
        if self._close_reason.done() or intake is None or publisher is None:
            return
        media = any(publisher.unusable.read)
        overdue = self._push.overdue(now, self._last_message, limits, idle_timeout, has_media=media)
        if overdue:
            self._end(CloseCode.STALLED, overdue)
        elif destination is not None and (closing := destination.check(publisher.stream, now)) is not None:
            self._end(closing.code, closing.reason)
        else:
            problem = destination.problem if destination is not None else ""
            for text in self._messages.stats(self._stats(intake, now), problem):
                self._send_text(text)

    def shutdown(self) -> None:
        """Ends the push when the listener closes."""
        self._end(CloseCode.GOING_AWAY, "The server is shutting down.")

    def _stats(self, intake: Intake, now: float) -> Stats:
        stats = intake.stats
        self._rates.append((now, self._received, stats.frames))
        since, bytes_then, frames_then = self._rates[0]
        seconds = now - since
        bitrate = round((self._received - bytes_then) * 8 / seconds) if seconds > 0 else 0
        fps = (stats.frames - frames_then) / seconds if seconds > 0 else 0.0
        return Stats(bitrate=bitrate, received=self._received, fps=fps, **asdict(stats))

    # ---- the end ----

    def _evicted(self, reason: EndReason) -> None:
        """Ends the push when the hub evicts the publisher."""
        self._end(*EVICTIONS.get(reason, (CloseCode.TRY_LATER, str(reason))))

    def _end_failed(self, failure: IntakeFailed) -> None:
        self._end(CloseCode.TRY_LATER if failure.again else CloseCode.UNUSABLE, str(failure))

    def _end(self, code: CloseCode, reason: str, *, tells_client: bool = True) -> None:
        if not self._close_reason.done():
            if code is CloseCode.UNUSABLE:
                reason = self._push.reject(reason)
            self._close_reason.set_result(CloseReason(code, reason, tells_client))

    def _crashed(self, name: str, error: BaseException) -> None:
        log.error("a push's task failed", stream=self._push.id, task=name, exc_info=error)
        self._end(CloseCode.INTERNAL, "internal error")

    def _end_push(self, reason: str) -> None:
        dropped = self._intake.stats.dropped if self._intake is not None else 0
        self._push.end(reason, stopped=self._stopped, bytes=self._received, dropped=dropped)

    def _send_text(self, text: str) -> None:
        """Sends a text without waiting. A client that does not read gets no texts."""
        if self._ws.transport.get_write_buffer_size() <= MAX_UNREAD_TEXT:
            broadcast((self._ws,), text)

    async def _close(self, closing: CloseReason) -> None:
        self._ws.end_messages()
        for text in self._messages.ended(closing):
            self._send_text(text)
        await self._ws.close(closing.code, push.close_reason(closing.reason))


def _describe_close(closed: ConnectionClosed) -> str:
    """Returns the reason of a close for the log."""
    if closed.rcvd is None:
        return "connection lost"
    if closed.sent is not None and not _by_client(closed):
        return f"closed with {closed.sent.code} {closed.sent.reason}".rstrip()
    return f"closed by the client ({closed.rcvd.code})"


def _by_client(closed: ConnectionClosed) -> bool:
    """Whether the client closed the connection, and this side answered."""
    return closed.sent is None or bool(closed.rcvd_then_sent)
