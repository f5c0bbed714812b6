"""Renditions of a stream. Worker processes on this machine or tasks in the cloud encode them.

The encoding itself is in `gateway.workers.programs.ladder`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from gateway.outputs.descriptor import OutputDescriptor

if TYPE_CHECKING:
    from gateway.live.output import OutputSpec, StreamOutput
    from gateway.live.stream import Stream
    from gateway.outputs.services import OutputServices


def _make(services: OutputServices) -> OutputSpec:
    from gateway.outputs.ladder.ladder_output import LadderOutput, channel_ladder_kind, stream_wants_ladder
    from gateway.outputs.ladder.remote_ladder import RemoteLadderOutput

    settings, hub, ladders = services.settings, services.hub, services.ladders
    region, ladder_kind = os.environ.get("AWS_REGION", ""), channel_ladder_kind(services.ladders, settings.transcode)

    def make(stream: Stream) -> StreamOutput:
        if settings.workers.runner == "ecs":
            return RemoteLadderOutput(stream, hub, ladders, lambda: services.address, region, services.task_sets)
        return LadderOutput(stream, hub, services.workers, ladder_kind, services.dropped)

    return OUTPUT.spec(make, lambda stream: stream_wants_ladder(ladders, stream))


OUTPUT = OutputDescriptor(name="codec", flag="isCodec", make=_make, order=20)
