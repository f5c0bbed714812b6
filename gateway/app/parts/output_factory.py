"""Creates the outputs of streams and the services that they share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.lib.egress import Egress
from gateway.lib.tasks import Tasks
from gateway.lib.viewer_memory import ViewerMemory
from gateway.live.hub import Hub
from gateway.live.output import OutputSpec
from gateway.live.shelf import StreamLimits, StreamShelf
from gateway.live.task_set import TaskSets
from gateway.outputs.browser import browser_specs
from gateway.outputs.edges.edges_output import wants_edges
from gateway.outputs.kinesis.kvs_streams import KvsStreams
from gateway.outputs.recording.mp4_finalizer import Mp4Finalizer
from gateway.outputs.recording.recording_output import RecordingCounts
from gateway.outputs.registry import all_outputs
from gateway.outputs.relay.relay_output import RelayFactory
from gateway.outputs.storage.archive import Archive
from gateway.packaging.services import PackagingServices
from gateway.playback.format_outputs import output_specs
from gateway.protocols.srt.url import LatencyRange
from gateway.settings.ladders import load_ladders
from gateway.workers.jpeg_service import JpegService
from gateway.workers.worker_pool import WorkerPool

if TYPE_CHECKING:
    from gateway.app.node_parts import NodeParts
    from gateway.app.parts.backends import Backends
    from gateway.channels.channel import Channel
    from gateway.ports.stores import TaskRunner

_BROWSER_LINGER = 10.0  # seconds from the end of a failed worker to the end of its rendition
_PLAYBACK_START_ORDER = 45  # behind outputs that change the picture, and before recordings


class OutputFactory:
    """Creates the outputs of all streams and has their shared services. Implements `OutputServices`.

    memory: limits the bytes that wait for viewers. Raises SettingsError if the ladder file is invalid.
    """

    def __init__(self, parts: NodeParts, backends: Backends, hub: Hub, archive: Archive, memory: ViewerMemory) -> None:
        settings, metrics, tls, cloud = parts.settings, parts.metrics, backends.tls, backends.cloud
        self.settings, self.hub, self.archive, self.cloud, self.tls = settings, hub, archive, cloud, tls
        self.dropped = metrics.dropped
        self._own_address = parts.own_address
        self.task_sets = TaskSets(self.tasks)
        limits = StreamLimits(0, _BROWSER_LINGER, hub.limits.gop_seconds, hub.limits.gop_bytes)
        self._browser_renditions = StreamShelf(limits)  # players cannot reach them
        self._packaging = PackagingServices(settings, memory, metrics=metrics)
        self.workers = WorkerPool(settings.workers, metrics.worker_restarts, hub.events)
        self.egress = Egress(settings.egress.allow)
        self.ladders = load_ladders(settings.transcode.ladders)
        self.finalizer = Mp4Finalizer(archive)
        self.recording_counts = RecordingCounts()
        self.jpegs = JpegService(self.workers, settings.snapshot)
        latency = LatencyRange(settings.srt.latency, settings.srt.max_latency)
        self.relays = RelayFactory(settings.relay, self.egress, hub.events, tls, cloud, latency)
        self.kvs = KvsStreams(cloud, settings.kvs, tls)
        for source in (
            *(self._packaging.samples, archive.samples, self.recording_counts.samples),
            *(self.relays.samples, self.kvs.samples),
        ):
            metrics.read_from(source)

    def start(self, tasks: Tasks) -> None:
        """Starts the tasks that do not belong to a single stream."""
        tasks.keep(self._browser_renditions.run, "browser renditions")
        tasks.keep(self.archive.run, "archive")
        tasks.keep(self.finalizer.run, "recordings")

    @property
    def address(self) -> str:
        """The address of this gateway for ECS tasks."""
        return self._own_address.address

    async def flush(self) -> None:
        """Waits until all files of ended streams are finished and stored. The caller sets the time-out."""
        await self.finalizer.flush()
        await self.archive.flush()

    def starts_edges(self, channel: Channel) -> bool:
        """Whether this gateway starts edges for the channel."""
        return self.settings.workers.runner == "ecs" and wants_edges(channel)

    def specs(self) -> list[OutputSpec]:
        """Returns the output specs of a stream, in the order in which the outputs start."""
        specs_by_order = [(output.order, output.make(self)) for output in all_outputs()]
        specs = [(order, spec) for order, spec in specs_by_order if spec is not None]
        specs += [(_PLAYBACK_START_ORDER, spec) for spec in output_specs(self._packaging)]
        specs += [(_PLAYBACK_START_ORDER, spec) for spec in browser_specs(self, self._browser_renditions)]
        return [spec for _, spec in sorted(specs, key=lambda entry: entry[0])]

    def replica_specs(self) -> list[OutputSpec]:
        """Returns the output specs for replicas of streams of other nodes."""
        return output_specs(self._packaging, pulled=True)

    async def tasks(self) -> TaskRunner:
        """Returns the runner of ECS tasks."""
        return await self.cloud.tasks(self.settings.ecs)
