"""The listener of units over UDP, and the session of one client."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from gateway.ingest.admission import PushRequest
from gateway.ingest.push import Push
from gateway.ingest.services import ListenerServices
from gateway.listeners.datagrams import Address
from gateway.listeners.port_listener import OpenListeners
from gateway.listeners.udp_listener import UdpClient, UdpLimits, UdpListener
from gateway.live.sink import EndReason
from gateway.live.unit_intake import AUDIO_INDEX, VIDEO_INDEX, UnitIntake
from gateway.media.errors import InvalidData
from gateway.media.track import Kind, MediaTrack
from gateway.ports.errors import GatewayError
from gateway.protocols import units
from gateway.protocols.errors import RemoteProtocolError


def open_units(services: ListenerServices) -> OpenListeners:
    """Binds the port. Raises ListenError."""
    settings = services.settings
    limits = UdpLimits(services.pending, settings.limits.handshake, settings.units.idle_timeout)
    listeners = [
        UdpListener(address.name, address.host, address.port, services.opener, _Units(services), limits)
        for address, _ in services.addresses("units")
    ]
    return OpenListeners(listeners, services.tasks)


class _Units:
    """The protocol, as its listener knows it."""

    def __init__(self, services: ListenerServices) -> None:
        self._services = services

    def opens(self, datagram: bytes, address: Address) -> bool:
        return units.is_open(datagram)

    def answer(self, datagram: bytes, address: Address) -> bytes | None:
        return None

    def session(self, client: UdpClient, address: Address) -> UnitsSession:
        return UnitsSession(self._services, client)


class UnitsSession:
    """One client. Before its key is checked, nothing of it is kept."""

    def __init__(self, services: ListenerServices, client: UdpClient) -> None:
        self._services = services
        self._client = client
        self._push: Push | None = None
        self._task: asyncio.Task[object] | None = None
        self._joiner = units.UnitJoiner()
        self._intake: UnitIntake | None = None

    def receive(self, datagrams: Sequence[bytes], arrivals: Sequence[float]) -> None:
        """Hot path."""
        for datagram, arrival in zip(datagrams, arrivals, strict=True):
            message = units.parse(datagram)
            if isinstance(message, units.Open):
                self._open(message)
            elif self._intake is not None:
                self._take(self._intake, message, arrival)

    def _open(self, message: units.Open) -> None:
        if self._intake is not None:
            self._client.send([units.ACCEPTED])  # our first answer was lost
        elif self._push is None:
            request = PushRequest(message.id, message.key, self._client.address, "units")
            self._push = self._services.make_push(request)
            self._task = self._services.tasks.start(self._begin(self._push), "units push")

    async def _begin(self, push: Push) -> None:
        try:
            publisher = await push.begin(self._evicted)
        except GatewayError as error:
            self._client.send([units.REFUSED + type(error).__name__.encode()])
            self._client.close("refused")
            return
        self._client.accept()
        self._intake = UnitIntake(publisher, (Kind.VIDEO, Kind.AUDIO))
        self._client.send([units.ACCEPTED])
        push.log_begin()

    def _take(self, intake: UnitIntake, message: MediaTrack | units.Part, now: float) -> None:
        try:
            if isinstance(message, MediaTrack):
                self._joiner.set_track(message)
                intake.set_track(message, now)
            elif (unit := self._joiner.add(message, time.time())) is not None:
                index = VIDEO_INDEX if unit.track.kind is Kind.VIDEO else AUDIO_INDEX
                unit.dts = intake.timeline.stamp(index, unit.dts)
                intake.take(0, unit, now)
        except InvalidData as error:  # the tracks change too often
            raise RemoteProtocolError(str(error)) from None

    def tick(self, now: float) -> None:
        push, intake, limits = self._push, self._intake, self._services.settings.limits
        if push is not None and intake is not None:
            reason = push.overdue(now, self._client.heard, limits, 0, has_media=intake.units > 0)
            if reason:
                self._client.close(reason)

    def _evicted(self, reason: EndReason) -> None:
        self._client.send([units.REFUSED + str(reason).encode()])
        self._client.close(str(reason))

    def closed(self, reason: str) -> None:
        """Ends the push."""
        intake, self._intake = self._intake, None
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()
        if self._push is not None:
            if intake is not None and self._push.publisher is not None and self._push.publisher.active:
                intake.finish(time.monotonic())
            self._push.end(reason, bytes=self._client.bytes, units=intake.units if intake is not None else 0)
