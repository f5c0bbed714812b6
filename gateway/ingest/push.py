"""Push: checks the key of a client, counts it for its address, acquires its publisher, and logs its begin and end."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import structlog

from gateway.channels.channel import Channel
from gateway.ingest.admission import Admission, PushRequest
from gateway.live.publisher import AcquirePublisher, PushOrigin, StreamPublisher
from gateway.live.sink import EndReason
from gateway.ports.errors import AtCapacity, GatewayError, MediaUnusable
from gateway.settings.models import LimitsSettings

log = structlog.get_logger(__name__)

# For which a check counts. A client of RTSP may announce a push and begin it at any later time; until then, its key may
# be revoked or expire, and its channel may be deleted.
CHECKED_SECONDS: Final = 10.0


@dataclass(slots=True, eq=False)
class Push:
    """One push. Nothing is kept for it before its key is checked. `end` must be called.

    admission: checks its key. acquire: returns its publisher; None: an edge, which admits none.
    channel: None until the key is checked. A push of the old system to a target has no key, so it has a channel from
    the beginning.
    began: monotonic time from which its first media are awaited.
    """

    admission: Admission
    acquire: AcquirePublisher | None
    request: PushRequest
    channel: Channel | None = None
    publisher: StreamPublisher | None = field(default=None, init=False)
    began: float = field(default_factory=time.monotonic, init=False)
    _has_place: bool = field(default=False, init=False)
    _checked: float | None = field(default=None, init=False)  # monotonic time of the check of the key
    _unusable: str = field(default="", init=False)  # why nothing of it can be used

    async def check_key(self) -> None:
        """Checks the key. Raises GatewayError, and counts the refusal."""
        try:
            self.channel, self._checked = await self.admission.admit(self.request), time.monotonic()
        except GatewayError as error:
            self.refuse(error)
            raise

    @property
    def id(self) -> str:
        """The channel: that of the checked key, otherwise the one that the client named."""
        return self.request.id if self.channel is None else self.channel.id

    @property
    def _log_fields(self) -> dict[str, str]:
        return {"stream": self.id, "peer": self.request.address, "protocol": self.request.protocol}

    async def begin(self, evict: Callable[[EndReason], None]) -> StreamPublisher:
        """Counts the push for its address, and acquires the publisher. Checks the key if it was not checked lately.

        Raises GatewayError, and counts the refusal.
        """
        request = self.request
        try:
            if not request.exempt:
                if not self.admission.connections.take(request.address):
                    raise AtCapacity("too many publishers from this address")
                self._has_place = True
            is_old = self._checked is not None and time.monotonic() - self._checked > CHECKED_SECONDS
            if self.channel is None or is_old:
                self.channel = await self.admission.admit(request)
            assert self.acquire is not None, "an edge admits no push"
            self.publisher = await self.acquire(
                self.channel, PushOrigin(request.protocol, request.address), evict, request.input
            )
        except GatewayError as error:
            self.refuse(error)
            raise
        except BaseException:
            self.end("refused")
            raise
        return self.publisher

    def log_begin(self, **more: str) -> None:
        """Logs that the push begins. Its first media are awaited from now on. more: for the log."""
        self.began = time.monotonic()
        log.info("publishing", **self._log_fields, **more)

    def refuse(self, error: GatewayError) -> None:
        """Ends the push, and counts the refusal."""
        self.end("refused")
        self.admission.refuse(self.id, self.request.address, self.request.protocol, error)

    def overdue(self, now: float, last: float, limits: LimitsSettings, idle_timeout: float, *, has_media: bool) -> str:
        """Returns why a push without media must end; "": it may continue.

        now, last: monotonic times, the second of the last data. has_media: whether anything was published.
        """
        if not has_media and limits.first_media and now - self.began > limits.first_media:
            return self.reject("no media in time")
        return "nothing received for too long" if idle_timeout and now - last > idle_timeout else ""

    def reject(self, otherwise: str) -> str:
        """Learns that the push must end because nothing of it can be used. Returns the reason for its client.

        otherwise: the reason if the intake knows none.
        """
        text = self.publisher.unusable.text() if self.publisher is not None else ""
        self._unusable = text or f"{otherwise[:1].upper()}{otherwise[1:].rstrip('.')}."
        return text or otherwise

    def end(self, reason: str, *, stopped: bool = False, **counts: int) -> None:
        """Closes the publisher, whose stream lingers, and stops counting the push. Idempotent.

        A push of which nothing could be used counts as refused, so that its owner learns why.
        stopped: whether the client said that it stops. counts: for the log.
        """
        publisher, self.publisher = self.publisher, None
        if self._has_place:
            self._has_place = False
            self.admission.connections.give(self.request.address)
        if publisher is None:
            return
        unusable = self._unusable or ("" if publisher.has_begun else publisher.unusable.text())
        publisher.close(EndReason.STOPPED if stopped else EndReason.PUBLISHER_GONE)
        seconds = round(time.monotonic() - self.began, 1)
        log.info("publish ended", **self._log_fields, reason=reason, seconds=seconds, **counts)
        if unusable:
            self.admission.refuse(self.id, self.request.address, self.request.protocol, MediaUnusable(unusable))
