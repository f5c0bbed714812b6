"""The node's health in one answer, as the console shows it."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from aiohttp import web

from gateway.api.answers import answer
from gateway.api.context import CONTEXT, host_of
from gateway.api.node import Node
from gateway.api.servers import role
from gateway.lib import metrics
from gateway.lib.log import levels
from gateway.lib.measured import Measured


async def show(request: web.Request) -> web.Response:
    """Machine, traffic, what is dropped and what is missing. Asks the stores whether they answer."""
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


def summary(node: Node, measured: metrics.Metrics, version: str) -> dict[str, Any]:
    """What a node tells others of itself: how old and how busy it is, how many push and watch there."""
    return {
        "version": version,
        "uptime": round(node.uptime, 1),
        "cpu": node.cpu(),
        **traffic(measured),
    }


def traffic(measured: metrics.Metrics | Measured) -> dict[str, Any]:
    """Streams and publishers now, viewers by protocol, bytes in and out and drops by reason since the start."""
    sums: Counter[str] = Counter()
    viewers: Counter[str] = Counter()
    dropped: Counter[str] = Counter()
    for sample in measured.samples():
        metric = sample.metric
        sums[metric.name] += sample.value  # type: ignore[assignment]
        if metric is metrics.VIEWERS:
            viewers[sample.labels[0]] += int(sample.value)
        elif metric is metrics.DROPPED:
            dropped[sample.labels[0]] += int(sample.value)
    return {
        "streams": int(sums[metrics.STREAMS.name]),
        "renditions": int(sums[metrics.RENDITIONS.name]),
        "publishers": int(sums[metrics.PUBLISHERS.name]),
        "viewers": dict(viewers),
        "bytesIn": int(sums[metrics.BYTES_IN.name]),
        "bytesOut": int(sums[metrics.BYTES_OUT.name]),
        "dropped": dict(dropped),
    }
