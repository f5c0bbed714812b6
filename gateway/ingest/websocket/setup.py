"""Opens the ports for pushes over WebSocket."""

from __future__ import annotations

from gateway.http.forwarded import Forwarded
from gateway.http.origin_policy import OriginPolicy
from gateway.ingest.open_listeners import OpenListeners
from gateway.ingest.services import ListenerServices
from gateway.ingest.websocket.compatible_targets import CompatibleTargets
from gateway.ingest.websocket.container_intake import ContainerIntake
from gateway.ingest.websocket.frames_intake import FramesIntake
from gateway.ingest.websocket.listener import WsListener
from gateway.ingest.websocket.services import WsServices
from gateway.live.hub import StreamLimits
from gateway.outputs.services import OutputServices


def open_websocket(services: ListenerServices, outputs: OutputServices) -> OpenListeners:
    """Binds the ports. Raises ListenError."""
    settings, ws = services.settings, services.settings.ws
    compatible = _compatible(services, outputs)
    shared = WsServices(
        settings=ws,
        limits=settings.limits,
        lease=services.lease,
        admission=services.admission,
        container=lambda publisher: ContainerIntake(publisher, outputs.workers, settings.transcode),
        frames=lambda publisher: FramesIntake(publisher, outputs.workers),
        origins=OriginPolicy(ws.origins),
        forwarded=Forwarded(ws.forwarded_from),
        compatible=compatible,
        tasks=services.tasks,
        reads=services.reads,
        pending=services.pending,
    )
    listeners = [
        WsListener(shared, address.host, address.port, tls, services.opener)
        for address, tls in services.addresses("ws")
    ]
    if compatible is None:
        return OpenListeners(listeners, services.tasks)
    services.tasks.start(compatible.hub.run(), "compatible pushes")
    return _CompatibleListeners(listeners, services, compatible)


def _compatible(services: ListenerServices, outputs: OutputServices) -> CompatibleTargets | None:
    """Returns the targets for pushes of the old system's client; None if these pushes are off."""
    settings = services.settings
    if not settings.ws.compatible:
        return None
    limits = StreamLimits(0, 0, settings.stream.gop_seconds, settings.stream.gop_bytes, settings.limits.publishers)

    def local_ports() -> frozenset[int]:
        ports = services.ports()
        return frozenset(port for port in (ports["rtmp"], ports["rtmps"]) if port)

    return CompatibleTargets(settings.ws.compatible, outputs.relays, limits, local_ports)


class _CompatibleListeners(OpenListeners):
    """Listeners that also accept pushes of the old system's client. On shutdown, the targets get all media."""

    def __init__(self, listeners: list[WsListener], services: ListenerServices, compatible: CompatibleTargets) -> None:
        super().__init__(listeners, services.tasks)
        self._compatible = compatible

    async def hang_up(self, grace: float) -> None:
        await super().hang_up(grace)
        await self._compatible.finish()
