"""Opens the WebSocket push as the settings say."""

from __future__ import annotations

from gateway.http.forwarded import Forwarded
from gateway.http.origin_policy import OriginPolicy
from gateway.ingest.open_listeners import OpenListeners
from gateway.ingest.services import ListenerServices
from gateway.ingest.websocket.compatible_targets import CompatibleTargets
from gateway.ingest.websocket.container_intake import ContainerIntake
from gateway.ingest.websocket.frames_intake import FramesIntake
from gateway.ingest.websocket.listener import WsListener
from gateway.ingest.websocket.services import WsLimits, WsServices
from gateway.live.hub import StreamLimits
from gateway.outputs.services import OutputServices


def open_websocket(services: ListenerServices, outputs: OutputServices) -> OpenListeners:
    """Binds the ports. Raises ListenError."""
    settings, ws, limits = services.settings, services.settings.ws, services.settings.limits
    compatible = _compatible(services, outputs)
    shared = WsServices(
        lease=services.lease,
        admission=services.admission,
        container=lambda publisher: ContainerIntake(publisher, outputs.workers, settings.transcode),
        frames=lambda publisher: FramesIntake(publisher, outputs.workers),
        origins=OriginPolicy(ws.origins),
        forwarded=Forwarded(ws.forwarded_from),
        limits=WsLimits(
            message=limits.ws_message,
            handshake=limits.handshake,
            first_media=limits.first_media,
            ping_interval=ws.ping_interval,
            ping_timeout=ws.ping_timeout,
            idle_timeout=ws.idle_timeout,
        ),
        compatible=compatible,
        tasks=services.tasks,
        reads=services.reads,
        pending=services.pending,
    )
    found = [WsListener(shared, one.host, one.port, tls, services.opener) for one, tls in services.addresses("ws")]
    if compatible is None:
        return OpenListeners(found, services.tasks)
    services.tasks.start(compatible.run(), "compatible pushes")
    return _CompatibleListeners(found, services, compatible)


def _compatible(services: ListenerServices, outputs: OutputServices) -> CompatibleTargets | None:
    """Returns the targets for pushes of the original's client; None where they are off."""
    settings = services.settings
    if not settings.ws.compatible:
        return None
    limits = StreamLimits(0, 0, settings.stream.gop_seconds, settings.stream.gop_bytes, settings.limits.publishers)

    def own_ports() -> frozenset[int]:
        ports = services.ports()
        return frozenset(port for port in (ports["rtmp"], ports["rtmps"]) if port)

    return CompatibleTargets(settings.ws.compatible, outputs.relays, limits, own_ports)


class _CompatibleListeners(OpenListeners):
    """Listeners that also take pushes of the original's client. Their targets get the end of the streams."""

    def __init__(self, found: list[WsListener], services: ListenerServices, compatible: CompatibleTargets) -> None:
        super().__init__(found, services.tasks)
        self._compatible = compatible

    async def hang_up(self, grace: float) -> None:
        await super().hang_up(grace)
        await self._compatible.finish()
