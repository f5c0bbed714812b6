"""JPEG pictures of a stream at a fixed interval.

A worker process encodes the JPEG.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.outputs.descriptor import OutputDescriptor

if TYPE_CHECKING:
    from gateway.live.output import OutputSpec
    from gateway.outputs.services import OutputServices


def _make(services: OutputServices) -> OutputSpec:
    from gateway.outputs.snapshot.snapshot_output import SnapshotOutput

    archive, jpegs, counts = services.archive, services.jpegs, services.recording_counts
    return OUTPUT.spec(lambda stream: SnapshotOutput(stream, archive, jpegs, counts))


OUTPUT = OutputDescriptor(name="image", flag="isImage", make=_make, order=60)
