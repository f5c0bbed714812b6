"""The load and the traffic of a node."""

from collections import Counter
from typing import Any

from gateway.lib import metric_table
from gateway.lib.metrics import Metrics
from gateway.lib.metrics_snapshot import MetricsSnapshot
from gateway.reports.node_status import NodeStatus


def summary(node: NodeStatus, metrics: Metrics) -> dict[str, Any]:
    """Returns this node's summary for other nodes: uptime, load, publishers and viewers."""
    return {"version": metrics.version, "uptime": round(node.uptime, 1), "cpu": node.cpu(), **traffic(metrics)}


def traffic(metrics: Metrics | MetricsSnapshot) -> dict[str, Any]:
    """Returns current streams and publishers, viewers by protocol, and bytes and drops since the start."""
    sums: Counter[str] = Counter()
    viewers: Counter[str] = Counter()
    dropped: Counter[str] = Counter()
    for sample in metrics.samples():
        metric = sample.metric
        sums[metric.name] += sample.value  # type: ignore[assignment]
        if metric is metric_table.VIEWERS:
            viewers[sample.labels[0]] += int(sample.value)
        elif metric is metric_table.DROPPED:
            dropped[sample.labels[0]] += int(sample.value)
    return {
        "streams": int(sums[metric_table.STREAMS.name]),
        "renditions": int(sums[metric_table.RENDITIONS.name]),
        "publishers": int(sums[metric_table.PUBLISHERS.name]),
        "viewers": dict(viewers),
        "bytesIn": int(sums[metric_table.BYTES_IN.name]),
        "bytesOut": int(sums[metric_table.BYTES_OUT.name]),
        "dropped": dict(dropped),
    }
