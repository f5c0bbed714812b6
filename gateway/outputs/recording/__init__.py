"""Recordings: MP4 files, and on-demand sessions as HLS.

This folder writes the files; `gateway.outputs.storage` sends them to the object store.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.outputs.descriptor import OutputDescriptor

if TYPE_CHECKING:
    from gateway.live.output import OutputSpec
    from gateway.outputs.services import OutputServices


def _make_video(services: OutputServices) -> OutputSpec:
    from gateway.outputs.recording.mp4_recording import Mp4Recording

    archive, finalizer, counts = services.archive, services.finalizer, services.recording_counts
    return _VIDEO.spec(lambda stream: Mp4Recording(stream, archive, finalizer, counts))


def _make_on_demand(services: OutputServices) -> OutputSpec:
    from gateway.outputs.recording.on_demand_recording import OnDemandRecording

    archive, finalizer, counts = services.archive, services.finalizer, services.recording_counts
    return _ON_DEMAND.spec(
        lambda stream: OnDemandRecording(stream, archive, finalizer, counts),
        lambda stream: stream.is_source and stream.channel.rewind_reach > 0,
    )


_VIDEO = OutputDescriptor(name="video", flag="isVideo", make=_make_video, order=50)
_ON_DEMAND = OutputDescriptor(name="ondemand", flag="isOnDemand", make=_make_on_demand, order=70)
OUTPUTS = (_VIDEO, _ON_DEMAND)
