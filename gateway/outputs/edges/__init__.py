"""The output `cluster`: while a stream is live, it keeps edges running that serve only this channel.

Each edge is an ECS task. `gateway.adapters.aws` starts and stops it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.outputs.descriptor import OutputDescriptor

if TYPE_CHECKING:
    from gateway.live.output import OutputSpec
    from gateway.outputs.services import OutputServices


def _make(services: OutputServices) -> OutputSpec | None:
    from gateway.outputs.edges.edges_output import EdgesOutput, stream_wants_edges

    if services.settings.workers.runner != "ecs":
        return None  # no other runner can start tasks
    return OUTPUT.spec(lambda stream: EdgesOutput(stream, services.task_sets), stream_wants_edges)


OUTPUT = OutputDescriptor(name="cluster", flag="isCluster", make=_make, order=90)
