"""The services of the gateway that an output may use."""

import ssl
from collections.abc import Mapping
from typing import Protocol

from gateway.lib.egress import Egress
from gateway.lib.metrics import Counter
from gateway.live.hub import Hub
from gateway.live.task_set import TaskSets
from gateway.outputs.kinesis.kvs_streams import KvsStreams
from gateway.outputs.recording.mp4_finalizer import Mp4Finalizer
from gateway.outputs.recording.recording_output import RecordingCounts
from gateway.outputs.relay.relay_output import RelayFactory
from gateway.outputs.storage.archive import Archive
from gateway.settings import Settings
from gateway.settings.ladders import LadderSettings
from gateway.workers.jpeg_service import JpegService
from gateway.workers.worker_pool import WorkerPool


class OutputServices(Protocol):
    """The services that all outputs of a gateway share. Outputs never close them.

    hub: publishes streams that an output makes, such as renditions.
    workers: starts worker processes. The gateway's own process decodes and encodes nothing.
    egress: resolves and checks addresses from a channel.
    tls: for outgoing connections; None: the system's authorities.
    dropped: counts dropped pictures by reason.
    archive: sends finished files to the object store, also after a crash or an outage of the store.
    finalizer: converts fragmented recordings to seekable files.
    jpegs: encodes pictures as JPEG. ladders: by name. task_sets: runs the cloud tasks of channels.
    address: `host:port` for cloud tasks to reach this gateway; empty if it has none.
    """

    settings: Settings
    hub: Hub
    workers: WorkerPool
    egress: Egress
    tls: ssl.SSLContext | None
    dropped: Counter
    archive: Archive
    finalizer: Mp4Finalizer
    recording_counts: RecordingCounts
    jpegs: JpegService
    relays: RelayFactory
    kvs: KvsStreams
    ladders: Mapping[str, LadderSettings]
    task_sets: TaskSets

    @property
    def address(self) -> str: ...
