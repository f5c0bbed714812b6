"""Creates the measurements of a gateway: its state, and the history of its values."""

from dataclasses import dataclass
from typing import Any

from gateway import __version__
from gateway.app.node_parts import NodeParts
from gateway.app.parts.live import Live
from gateway.app.parts.node_values import NodeValues
from gateway.diagnosis.recorder import Recorder, stream_values
from gateway.lib.metrics import Metrics
from gateway.reports.node_status import NodeStatus
from gateway.reports.node_summary import summary


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The measurements of a process. recorder: records their history."""

    metrics: Metrics
    node_status: NodeStatus
    recorder: Recorder

    def summary(self) -> dict[str, Any]:
        """Returns the state of this process for other nodes."""
        return summary(self.node_status, self.metrics, __version__)


def build_diagnosis(parts: NodeParts, live: Live) -> Diagnosis:
    """Returns the measurements. Call it once: `parts.stack` then saves the history when the process ends."""
    settings, slot, workers = parts.settings, parts.identity.slot, live.outputs.workers
    urls = {
        "channels": settings.channels,
        "objects": settings.objects,
        "jobs": settings.vod.jobs,
        "films": settings.vod.films,
        "console": settings.admin.store,
        "events": settings.events.store,
    }
    schemes = {name: url.partition(":")[0] for name, url in urls.items()}
    status = NodeStatus(settings.data, schemes, lambda: (workers.running, workers.limit))
    file = settings.data / f"history-{slot.number if slot is not None else 1}.bin"
    recorder = Recorder(live.hub, NodeValues(parts.metrics, status), stream_values(live.viewers_of), file)
    parts.stack.push_async_callback(recorder.save)  # runs after the task of `recorder.run` has ended
    return Diagnosis(parts.metrics, status, recorder)
