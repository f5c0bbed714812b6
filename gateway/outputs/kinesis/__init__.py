"""Kinesis Video Streams: sends live streams and stored objects with PutMedia. A fragment is one Matroska cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.outputs.descriptor import OutputDescriptor

if TYPE_CHECKING:
    from gateway.live.output import OutputSpec
    from gateway.outputs.services import OutputServices


def _make(services: OutputServices) -> OutputSpec:
    from gateway.outputs.kinesis.kvs_output import KvsOutput

    kvs, workers = services.kvs, services.workers
    return OUTPUT.spec(lambda stream: KvsOutput(stream, kvs, workers))


OUTPUT = OutputDescriptor(name="kvs", flag="isKvs", make=_make, order=40)
