"""The state of this node and of all nodes: health, readiness, metrics, and the status for the console."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

from aiohttp import web

from gateway.api.answers import answer
from gateway.api.context import CONTEXT, host_of
from gateway.api.node_status import NodeStatus
from gateway.api.servers import age_order, role
from gateway.lib import metric_table
from gateway.lib.log import levels
from gateway.lib.metrics import CONTENT_TYPE, Metrics
from gateway.lib.metrics_snapshot import MetricsSnapshot
from gateway.ports.nodes import Node, NodeRole

_SUMMARY_FIELDS: Final = ("version", "uptime", "cpu", "streams", "publishers", "viewers", "bytesIn", "bytesOut")


async def healthcheck(request: web.Request) -> web.Response:
    """Answers OK while the process runs, even if other things are wrong."""
    return web.Response(text="OK")


async def ready(request: web.Request) -> web.Response:
    """Answers 200, or 503 if services are missing that live streams need. Has the names of all missing services."""
    readiness = request.app[CONTEXT].readiness
    missing = await readiness.missing()
    body = {"ready": not missing, "missing": [*missing, *readiness.degraded()]}
    return answer(body, 503, {"Retry-After": "5"}) if missing else answer(body)


async def metrics(request: web.Request) -> web.Response:
    """Returns the metrics for Prometheus, summed over all processes that share the ports."""
    snapshot = await request.app[CONTEXT].metrics_snapshot()
    return web.Response(body=snapshot.render(), headers={"Content-Type": CONTENT_TYPE})


async def show(request: web.Request) -> web.Response:
    """Returns machine, traffic, drops and missing services. Checks whether the stores answer."""
    context = request.app[CONTEXT]
    node = context.node_status
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
            **traffic(await context.metrics_snapshot()),
            "workers": node.workers(),
            "ready": not missing,
            "missing": [*missing, *context.readiness.degraded()],
            "ports": context.address_defaults.ports().as_json(),
            "logLevel": levels.name,
            "stores": node.stores,
            "ivs": context.ivs is not None and context.ivs.available,
            "cloudfront": context.cloudfront is not None,
        }
    )


async def nodes(request: web.Request) -> web.Response:
    """Returns all nodes with their reported state; nulls for a node that does not answer."""
    context = request.app[CONTEXT]
    local_id = context.cluster.node
    local = summary(context.node_status, context.metrics, context.version)
    if not local_id:
        return answer([_node_json(Node("", NodeRole.GATEWAY, host_of(request)), "", local)])
    reported = await context.cluster.everywhere("node")
    entries = []
    for node in sorted(
        await context.cluster.nodes(), key=lambda n: (n.id != local_id, n.role != NodeRole.GATEWAY, age_order(n))
    ):
        reports = [local] if node.id == local_id else reported.answers.get(node.id, ())
        entries.append(_node_json(node, local_id, reports[0] if reports else None))
    return answer(entries)


def _node_json(node: Node, local_id: str, report: Mapping[str, Any] | None) -> dict[str, Any]:
    values = report or {}
    return {
        "node": node.id,
        "role": str(node.role),
        "address": node.address,
        "here": node.id == local_id,
        "answers": report is not None,
        **{name: values.get(name) for name in _SUMMARY_FIELDS},
    }


def summary(node: NodeStatus, metrics: Metrics, version: str) -> dict[str, Any]:
    """Returns this node's summary for other nodes: uptime, load, publishers and viewers."""
    return {"version": version, "uptime": round(node.uptime, 1), "cpu": node.cpu(), **traffic(metrics)}


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
