"""Push: checks the key of a client, counts it for its address, acquires its publisher, and logs its begin and end."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from gateway.channels.channel import Channel
from gateway.ingest.admission import Admission
from gateway.live.publisher import AcquirePublisher, PushOrigin, StreamPublisher
from gateway.live.sink import EndReason
from gateway.ports.errors import AtCapacity, GatewayError
from gateway.settings.models import LimitsSettings

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class PushRequest:
    """A request to push, from any protocol.

    key: None without one. input: the name of the channel's input; "": the push with the channel's own key.
    exempt: whether the address is that of a trusted proxy, which is not limited.
    """

    id: str
    key: str | None
    address: str
    protocol: str
    exempt: bool = False
    input: str = ""


@dataclass(frozen=True, slots=True)
class PublisherSource:
    """Checks keys, and acquires publishers for them."""

    admission: Admission
    acquire: AcquirePublisher

    async def check_key(self, request: PushRequest) -> Channel:
        """Returns the channel, if the key is valid. Raises GatewayError."""
        return await self.admission.admit(
            request.id, request.key, request.address, exempt=request.exempt, input=request.input
        )

    async def acquire_publisher(
        self, request: PushRequest, evict: Callable[[EndReason], None], channel: Channel | None = None
    ) -> StreamPublisher:
        """Returns the publisher. channel: if the key was checked; None: it is checked now. Raises GatewayError."""
        found = await self.check_key(request) if channel is None else channel
        return await self.acquire(found, PushOrigin(request.protocol, request.address), evict, request.input)

    def refuse(self, request: PushRequest, error: GatewayError) -> None:
        """Counts and logs a refusal."""
        self.admission.refuse(request.id, request.address, request.protocol, error)


class Push:
    """One push. Nothing is kept for it before its key is checked. `end` must be called.

    channel: of a push without a key; None: the key of the request is checked.
    began: monotonic time from which its first media are awaited.
    """

    def __init__(self, source: PublisherSource, request: PushRequest, channel: Channel | None = None) -> None:
        self.request = request
        self.publisher: StreamPublisher | None = None
        self.began = time.monotonic()
        self._source = source
        self._channel = channel
        self._has_place = False

    async def check_key(self) -> None:
        """Checks the key. Raises GatewayError, and counts the refusal."""
        try:
            self._channel = await self._source.check_key(self.request)
        except GatewayError as error:
            self._source.refuse(self.request, error)
            raise

    async def begin(self, evict: Callable[[EndReason], None]) -> StreamPublisher:
        """Counts the push for its address, and acquires the publisher. Checks the key if it was not checked yet.

        Raises GatewayError, and counts the refusal.
        """
        request = self.request
        try:
            if not request.exempt:
                if not self._source.admission.connections.take(request.address):
                    raise AtCapacity("too many publishers from this address")
                self._has_place = True
            self.publisher = await self._source.acquire_publisher(request, evict, self._channel)
        except GatewayError as error:
            self.refuse(error)
            raise
        except BaseException:
            self.end("refused")
            raise
        return self.publisher

    def publishing(self, **more: str) -> None:
        """Logs that the push begins. Its first media are awaited from now on. more: for the log."""
        request, self.began = self.request, time.monotonic()
        log.info("publishing", stream=request.id, peer=request.address, protocol=request.protocol, **more)

    def refuse(self, error: GatewayError) -> None:
        """Ends the push, and counts the refusal."""
        self.end("refused")
        self._source.refuse(self.request, error)

    def overdue(self, now: float, last: float, limits: LimitsSettings, idle_timeout: float, *, has_media: bool) -> str:
        """Returns why a push without media must end; "": it may continue.

        now, last: monotonic times, the second of the last data. has_media: whether anything was published.
        """
        if not has_media and limits.first_media and now - self.began > limits.first_media:
            return "no media in time"
        return "nothing received for too long" if idle_timeout and now - last > idle_timeout else ""

    def end(self, reason: str, **counts: int) -> None:
        """Closes the publisher, whose stream lingers, and stops counting the push. Idempotent. counts: for the log."""
        publisher, self.publisher = self.publisher, None
        if self._has_place:
            self._has_place = False
            self._source.admission.connections.give(self.request.address)
        if publisher is None:
            return
        publisher.close()
        log.info(
            "publish ended",
            stream=self.request.id,
            peer=self.request.address,
            protocol=self.request.protocol,
            reason=reason,
            seconds=round(time.monotonic() - self.began, 1),
            **counts,
        )
