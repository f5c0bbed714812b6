"""The parts of the gateway that an output may use."""

from __future__ import annotations

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
    """The parts that all outputs of a gateway share. Outputs never close them."""

    @property
    def settings(self) -> Settings: ...

    @property
    def hub(self) -> Hub:
        """Where an output publishes streams that it makes, such as renditions."""

    @property
    def workers(self) -> WorkerPool:
        """Starts worker processes: nothing is decoded or encoded in the gateway's own."""

    @property
    def egress(self) -> Egress:
        """Resolves and checks addresses that a channel names."""

    @property
    def tls(self) -> ssl.SSLContext | None:
        """For outgoing connections; None: the authorities of the system."""

    @property
    def dropped(self) -> Counter:
        """Counts dropped pictures by reason."""

    @property
    def archive(self) -> Archive:
        """Brings finished files to the store, also after a crash and while the store is away."""

    @property
    def finalizer(self) -> Mp4Finalizer:
        """Turns fragmented recordings into seekable files."""

    @property
    def recording_counts(self) -> RecordingCounts: ...

    @property
    def jpegs(self) -> JpegService:
        """Makes JPEGs of pictures."""

    @property
    def relays(self) -> RelayFactory: ...

    @property
    def kvs(self) -> KvsStreams: ...

    @property
    def ladders(self) -> Mapping[str, LadderSettings]:
        """The ladders by name."""

    @property
    def task_sets(self) -> TaskSets:
        """Runs the cloud tasks of channels."""

    @property
    def address(self) -> str:
        """How cloud tasks reach this gateway, host:port; empty where it has none."""
