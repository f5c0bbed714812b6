"""SrtPush: a push over SRT, from its request to its end."""

from __future__ import annotations

import time
from typing import Final

from gateway.ingest.admission import PushRequest
from gateway.ingest.push import Push
from gateway.ingest.refusal_texts import refusal_text
from gateway.ingest.services import ListenerServices
from gateway.live.program_intake import ProgramIntake
from gateway.live.sink import EndReason
from gateway.ports.auth_hook import HookDetails
from gateway.ports.errors import GatewayError, MediaUnusable
from gateway.protocols.srt.stream_id import StreamId
from gateway.srt.link import Direction, SrtLink
from gateway.srt.refusals import rejected

PROTOCOL: Final = "srt"
_PLACE: Final = "the stream id is publish:<id>?sign=<expiry>-<hash>"


class SrtPush:
    """A request to push, and the push itself. Implements SrtRequest and SrtUser."""

    direction: Final = Direction.PUBLISH

    def __init__(self, services: ListenerServices, asked: StreamId, address: str) -> None:
        self._services = services
        query = asked.query
        self._push: Push = services.make_push(
            PushRequest(
                asked.name,
                query.get("sign"),
                address,
                PROTOCOL,
                input=query.get("input", ""),
                details=HookDetails("&".join(f"{key}={value}" for key, value in query.items())),
            )
        )
        self._intake: ProgramIntake | None = None
        self._link: SrtLink | None = None
        self._last_media = time.monotonic()

    # ---- SrtRequest ----

    async def check(self) -> str:
        try:
            await self._push.check_key()
        except GatewayError as error:
            raise rejected(error, refusal_text(error, _PLACE)) from None
        channel = self._push.channel
        assert channel is not None  # `check_key` has set it
        return channel.srt_passphrase or self._services.settings.srt.passphrase.get_secret_value()

    def refuse(self, reason: str) -> None:
        self._push.refuse(MediaUnusable(reason))

    async def begin(self, link: SrtLink) -> SrtPush:
        try:
            publisher = await self._push.begin(self._evicted)
        except GatewayError as error:
            raise rejected(error, refusal_text(error, _PLACE)) from None
        self._link = link
        publisher.network = link.statistics
        make_converter = self._services.sound_converter(publisher.stream.name)
        assert make_converter is not None, "an edge, which has no workers, takes no pushes"
        self._intake = ProgramIntake(publisher, make_converter)
        self._push.log_begin()
        return self

    def abandon(self) -> None:
        self._push.end("refused")

    # ---- SrtUser ----

    def receive(self, payloads: list[bytes], now: float) -> None:
        if self._intake is not None:
            self._last_media = now
            self._intake.receive(b"".join(payloads), now)

    def tick(self, now: float) -> None:
        link, intake = self._link, self._intake
        if link is None or intake is None:
            return
        limits = self._services.settings.limits
        reason = self._push.overdue(now, self._last_media, limits, 0, has_media=intake.units > 0)
        if reason:
            link.close(reason)

    def _evicted(self, reason: EndReason) -> None:
        if self._link is not None:
            self._link.close(str(reason))

    def closed(self, reason: str) -> None:
        """Ends the push."""
        intake, self._intake = self._intake, None
        if intake is not None:
            intake.finish(time.monotonic())
        stopped = self._link is not None and self._link.stopped
        bytes_received = self._link.connection.bytes if self._link is not None else 0
        self._push.end(reason, stopped=stopped, bytes=bytes_received, units=intake.units if intake is not None else 0)
