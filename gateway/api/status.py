"""The node's health in one answer, for the console."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from aiohttp import web

from gateway.api.answers import answer
from gateway.api.context import CONTEXT, host_of
from gateway.api.node_status import NodeStatus
from gateway.api.servers import role
from gateway.lib import metric_table
from gateway.lib.log import levels
from gateway.lib.metrics import Metrics
from gateway.lib.metrics_snapshot import MetricsSnapshot


async def show(request: web.Request) -> web.Response:
    """Returns machine, traffic, drops and missing services. Checks whether the stores answer."""
    context = request.app[CONTEXT]
    node = context.node
    missing = await context.readiness.missing()
    disk = await asyncio.to_thread(node.disk)
    return answer(
        {
            "version": context.version,
            "uptime": round(node.uptime, 1),
            "node": {"role": await role(context), "address": host_of(request)},
            "cpu": node.cpu(),
            "memory": node.memory(),
            "loopLag": round(context.metrics.last_lag, 4),
            "disk": disk,
            **traffic(await context.measured()),
            "workers": node.workers(),
            "ready": not missing,
            "missing": list(missing),
            "ports": context.shown.ports().as_json(),
            "logLevel": levels.name,
            "stores": node.stores,
            "ivs": context.ivs is not None and context.ivs.available,
        }
    )


def summary(node: NodeStatus, measured: Metrics, version: str) -> dict[str, Any]:
    """Returns a node's summary for other nodes: uptime, load, publishers and viewers."""
    return {
        "version": version,
        "uptime": round(node.uptime, 1),
        "cpu": node.cpu(),
        **traffic(measured),
    }


def traffic(measured: Metrics | MetricsSnapshot) -> dict[str, Any]:
    """Returns current streams and publishers, viewers by protocol, and bytes and drops since the start."""
    sums: Counter[str] = Counter()
    viewers: Counter[str] = Counter()
    dropped: Counter[str] = Counter()
    for sample in measured.samples():
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
