"""Creates the streams of a gateway with their outputs, and the services that observe them."""

from dataclasses import dataclass

from gateway.app.node_parts import NodeParts
from gateway.app.parts.backends import Backends
from gateway.app.parts.output_factory import OutputFactory
from gateway.diagnosis.cue_log import CueLog
from gateway.diagnosis.health_monitor import HealthMonitor
from gateway.lib import log as logs
from gateway.lib.viewer_memory import ViewerMemory
from gateway.live.hub import Hub, HubLimits
from gateway.live.remote_viewer_counts import RemoteViewerCounts
from gateway.live.shelf import NODES_SECONDS
from gateway.live.stream import Stream
from gateway.outputs.storage.archive import Archive
from gateway.packaging.rtp.output import KIND as WHEP
from gateway.playback.public_channels import viewer_count
from gateway.ports.events import Event, Events, EventType
from gateway.reports.hub_samples import HubSamples
from gateway.settings import Settings


@dataclass(frozen=True, slots=True)
class Live:
    """The streams of this node, and their cues. remote_viewers: viewers of these streams on other nodes."""

    hub: Hub
    cues: CueLog
    outputs: OutputFactory
    remote_viewers: RemoteViewerCounts

    def viewers_of(self, stream: Stream) -> int:
        """Returns the number of viewers of a stream on all nodes."""
        return viewer_count(stream, self.remote_viewers)


async def build_live(parts: NodeParts, backends: Backends, memory: ViewerMemory) -> Live:
    """Returns the streams. From now on, the stack closes the tasks of the process.

    memory: limits the bytes that wait for viewers. Raises SettingsError.
    """
    settings, metrics, stack, events = parts.settings, parts.metrics, parts.stack, parts.events
    stores = backends.stores
    hub = Hub(_hub_limits(settings, stores.registry is not None), (), events, parts.traffic)
    slot = parts.identity.slot
    process = slot.id if slot is not None else ""  # several processes may share the data folder
    archive = Archive(
        stores.objects, settings.recording, events, media=stores.media, spool=settings.data / "spool", process=process
    )
    outputs = OutputFactory(parts, backends, hub, archive, memory)
    await stack.enter_async_context(outputs.kvs)
    await stack.enter_async_context(outputs.jpegs)
    hub.add_outputs(outputs.specs())
    _follow_log_levels(events, hub)
    metrics.read_from(HubSamples(hub, events, settings.metrics.per_stream))
    if settings.metrics.per_stream:
        metrics.read_from(parts.traffic.samples)
    remote_viewers = RemoteViewerCounts()
    health = HealthMonitor(
        hub, events, lambda stream: stream.viewers[WHEP] + remote_viewers.of(stream.name).get(WHEP, 0) > 0
    )
    metrics.read_from(health)
    await stack.enter_async_context(parts.tasks)
    parts.tasks.keep(health.run, "health")
    return Live(hub, CueLog(hub, events), outputs, remote_viewers)


def _hub_limits(settings: Settings, shared: bool) -> HubLimits:
    """Returns the limits of streams. shared: other nodes may pull streams from this one."""
    stream, pushes = settings.stream, settings.limits
    limits = (stream.takeover_after, stream.linger, stream.gop_seconds, stream.gop_bytes)
    beginning = NODES_SECONDS if shared else 0.0
    return HubLimits(*limits, beginning, stream.tracks_wait, pushes.publishers, stream.end_at_expiry, pushes.push_kbps)


def _follow_log_levels(events: Events, hub: Hub) -> None:
    """Applies a channel's logLevel while it is live."""

    def follow(event: Event) -> None:
        if event.type is EventType.STREAM_STARTED:
            stream = hub.find(str(event.data["stream"]))
            logs.levels.set_channel(event.channel, stream.channel.log_level if stream is not None else None)
        elif event.type is EventType.STREAM_ENDED:
            logs.levels.set_channel(event.channel, None)

    events.listen(follow)
