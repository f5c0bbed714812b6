"""The outputs that a stream can have, by the names of the contract, and what makes them."""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from gateway.adapters.advertise import advertised
from gateway.hub.addresses import Ports
from gateway.hub.crew import Crews
from gateway.hub.hub import Hub
from gateway.hub.output import Output, OutputSpec
from gateway.hub.stream import Stream
from gateway.lib.aio import Tasks
from gateway.lib.egress import Egress
from gateway.lib.metrics import BYTES_OUT as SENT
from gateway.lib.metrics import DROPPED, Metrics, Sample
from gateway.packagers.cmaf import CmafPackager
from gateway.packagers.feed import FeedCounts
from gateway.packagers.live import live_outputs
from gateway.packagers.succession import CmafPackagers, TsPackagers
from gateway.packagers.ts import TsPackager
from gateway.settings import Settings
from gateway.settings.ladders import load_ladders
from gateway.sinks.archive import Archive
from gateway.sinks.capture import RecordingCounts
from gateway.sinks.cluster import ClusterOutput, spreads
from gateway.sinks.cluster import wanted as has_cluster
from gateway.sinks.finisher import Finisher
from gateway.sinks.kvs.output import KvsOutput
from gateway.sinks.kvs.streams import KvsStreams
from gateway.sinks.motion import Motion
from gateway.sinks.ondemand import OnDemand
from gateway.sinks.recorder import Recorder
from gateway.sinks.relay import Relays
from gateway.sinks.snapshot import Snapshots
from gateway.transcode.fetch import Pictures
from gateway.transcode.launch import Workers
from gateway.transcode.overlay import Watermarks
from gateway.transcode.remote import RemoteTranscoder
from gateway.transcode.stills import Stills
from gateway.transcode.transcoder import Transcoder
from gateway.transcode.transcoder import wanted as has_ladder

if TYPE_CHECKING:
    from gateway.adapters import Stores
    from gateway.adapters.cloud import Cloud
    from gateway.hub.channel import Channel
    from gateway.hub.events import Events
    from gateway.hub.ports import TaskRunner


class Makers:
    """What the outputs of all streams share: feeds' counters, worker processes, the archive, relays.

    cloud: IVS and Kinesis. tls: what outgoing connections trust; None: the system's authorities. Raises SettingsError
    for a useless file of ladders.
    """

    def __init__(
        self,
        settings: Settings,
        stores: Stores,
        cloud: Cloud,
        metrics: Metrics,
        events: Events,
        tls: ssl.SSLContext | None,
        process: str = "",
    ) -> None:
        """process: the name of this one, where several share the data folder."""
        self._settings = settings
        self._metrics = metrics
        self._cloud = cloud
        self.address = ""  # how tasks reach this gateway, once `locate` has found out
        self.crews = Crews()
        self.feeds = FeedCounts()
        self.workers = Workers(settings.workers, metrics.worker_restarts)
        self.egress = Egress(settings.egress.allow)
        self.ladders = load_ladders(settings.transcode.ladders)
        self.archive = Archive(
            stores.objects,
            settings.recording,
            events,
            media=stores.media,
            spool=settings.data / "spool",
            process=process,
        )
        self.finisher = Finisher(self.archive)
        self.recordings = RecordingCounts()
        self.stills = Stills(self.workers, settings.snapshot)
        self.relays = Relays(settings.relay, self.egress, tls, cloud)
        self.watermarks = Watermarks(
            self.workers,
            Pictures(self.egress, settings.watermark, tls),
            settings.watermark,
            settings.transcode,
            metrics.dropped,
        )
        self.kvs = KvsStreams(cloud, settings.kvs, tls)
        for source in (
            *(self._fed, self.archive.samples, self.recordings.samples),
            *(self.relays.samples, self.kvs.samples),
        ):
            metrics.read_from(source)

    def start(self, tasks: Tasks) -> None:
        """What runs beside the streams."""
        tasks.start(self.archive.run(), "archive")
        tasks.start(self.finisher.run(), "recordings")

    async def locate(self, ports: Ports) -> None:
        """Finds out how tasks reach this gateway, where it has any. ports: what is open."""
        if self._settings.workers.runner == "ecs":
            self.address = await advertised(self._settings, ports)

    async def flush(self) -> None:
        """Until what the streams left is finished and stored; who calls bounds it."""
        await self.finisher.flush()
        await self.archive.flush()

    def spreads(self, channel: Channel) -> bool:
        """Whether a channel gets edges of its own here."""
        return self._settings.workers.runner == "ecs" and spreads(channel)

    def specs(self, hub: Hub) -> list[OutputSpec]:
        """The outputs; hub: where a ladder's rungs are published."""
        return [*self._changing(hub), *self._played(), *self._recorded(), *self._spread()]

    def replicated(self) -> list[OutputSpec]:
        """The outputs that streams have too which are held by another node and played here."""
        settings = self._settings
        flush, stall = settings.http.flush_ms / 1000, settings.limits.viewer_stall
        return live_outputs(flush, stall, settings.rtmp.chunk_size, self.feeds)

    def _played(self) -> list[OutputSpec]:
        settings = self._settings
        hls, cmaf = TsPackagers(self._metrics), CmafPackagers(settings.cmaf.part, self._metrics)

        def make_hls(stream: Stream) -> TsPackager:
            return hls.make(stream, stream.channel.hls_time, stream.channel.hls_list_size, time.time())

        def make_cmaf(stream: Stream) -> CmafPackager:
            return cmaf.make(stream, stream.channel.hls_time, stream.channel.hls_list_size, time.time())

        return [
            *self.replicated(),
            OutputSpec("hls", make_hls, lambda s: s.channel.is_hls or _is_rung(s, "libx264"), settings.hls.on_demand),
            OutputSpec(
                "cmaf", make_cmaf, lambda s: s.channel.is_cmaf or _is_rung(s, "libx265"), settings.cmaf.on_demand
            ),
        ]

    def _recorded(self) -> list[OutputSpec]:
        archive, finisher, stills, counts = self.archive, self.finisher, self.stills, self.recordings
        pre_roll = self._settings.motion.pre_roll
        return [
            OutputSpec("video", lambda s: Recorder(s, archive, finisher, counts), _source_with("isVideo")),
            OutputSpec("image", lambda s: Snapshots(s, archive, stills, counts), _source_with("isImage")),
            OutputSpec("ondemand", lambda s: OnDemand(s, archive, finisher, counts), _source_with("isOnDemand")),
            OutputSpec("motion", lambda s: Motion(s, archive, stills, counts, pre_roll), _source_with("isMotion")),
        ]

    def _changing(self, hub: Hub) -> list[OutputSpec]:
        """What reads the original: the watermark first, so that it covers what the others show."""
        ladders = self.ladders
        return [
            OutputSpec("watermark", self.watermarks.make, self.watermarks.wanted),
            OutputSpec("codec", lambda s: self._transcoder(s, hub), lambda s: has_ladder(ladders, s)),
            OutputSpec("relay", self.relays.make, _source_with("isRelay")),
            OutputSpec("kvs", lambda s: KvsOutput(s, self.kvs, self.workers), _source_with("isKvs")),
        ]

    def _transcoder(self, stream: Stream, hub: Hub) -> Output:
        settings = self._settings
        if settings.workers.runner == "ecs":
            region = os.environ.get("AWS_REGION", "")
            return RemoteTranscoder(stream, hub, self._tasks, self.ladders, lambda: self.address, region, self.crews)
        return Transcoder(stream, hub, self.workers, self.ladders, settings.transcode, self._metrics.dropped)

    def _spread(self) -> list[OutputSpec]:
        """A channel's own edges, where there is somebody to run them."""
        if self._settings.workers.runner != "ecs":
            return []
        return [OutputSpec("cluster", lambda s: ClusterOutput(s, self._tasks, self.crews), has_cluster)]

    async def _tasks(self) -> TaskRunner:
        return await self._cloud.tasks(self._settings.ecs)

    def _fed(self) -> Iterator[Sample]:
        for kind, sent in self.feeds.sent.items():
            yield Sample(SENT, sent, (kind,))
        yield Sample(DROPPED, self.feeds.dropped, ("viewer",))


def _source_with(flag: str) -> Callable[[Stream], bool]:
    return lambda stream: stream.is_source and stream.channel.flag(flag)


def _is_rung(stream: Stream, codec: str) -> bool:
    """Whether the ladder's own playlists are made of this stream in the form that `codec` goes with."""
    return not stream.is_source and stream.channel.codec == codec
