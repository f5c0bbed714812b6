"""The read-only routes of node-media-server 2.2, for existing dashboards.

Field names keep its spelling ("totle"). Fields for the Node.js process describe this process.
"""

import math
import os
import platform
import sys
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from aiohttp import web

from gateway.api import schemas
from gateway.api.answers import answer
from gateway.api.context import CONTEXT
from gateway.api.route import operation
from gateway.api.sessions import REMOTE_VIEWERS, source_stream, unanswered_nodes_header
from gateway.channels.addresses import APP
from gateway.lib import metric_table
from gateway.live.stream import StreamState
from gateway.reports.nms_streams import entries
from gateway.reports.node_status import machine_memory
from gateway.reports.node_summary import traffic
from gateway.reports.sessions import session

_STARTED = time.monotonic()


@operation(schemas.NmsServer)
async def server(request: web.Request) -> web.Response:
    """Machine, traffic and clients.

    `cpu.load`: the load average of one minute, as percent of all cores; at most 100.
    """
    context = request.app[CONTEXT]
    total, free = machine_memory()
    cores = os.cpu_count() or 1
    clients = {"rtmp": 0, "http": 0, "ws": 0}
    snapshot = await context.metrics_snapshot()
    for sample in snapshot.samples():
        if sample.metric in (metric_table.VIEWERS, metric_table.PUBLISHERS):
            clients[_client_kind(sample.labels[0])] += int(sample.value)
    sums, active = traffic(snapshot), sum(clients.values())
    system = {"arch": platform.machine(), "platform": sys.platform, "release": platform.release()}
    load = min(100, round(100 * os.getloadavg()[0] / cores))
    model = platform.processor() or platform.machine()
    uptime, version = int(time.monotonic() - _STARTED), f"python {platform.python_version()}"
    return answer(
        {
            "os": system,
            "cpu": {"num": cores, "load": load, "model": model, "speed": 0},
            "mem": {"totle": total, "free": free},
            "net": {"inbytes": sums["bytesIn"], "outbytes": sums["bytesOut"]},
            "nodejs": {"uptime": uptime, "version": version, "mem": {}},
            "clients": {"accepted": active, "active": active, "idle": 0, **clients},
            "version": context.metrics.version,
        }
    )


def _client_kind(protocol: str) -> str:
    """Returns the client kind of a protocol. node-media-server has three kinds."""
    if protocol.startswith("rtmp"):
        return "rtmp"
    return "ws" if protocol.startswith("ws") else "http"


@operation(schemas.NmsStreams)
async def streams(request: web.Request) -> web.Response:
    """The live streams.

    Returns `{"stream": {"<id>": {"publisher", "subscribers"}}}`. Subscribers are not listed one by one, only counted.
    """
    context = request.app[CONTEXT]
    nodes = await context.cluster.ask_all("streams")
    streams_by_id: dict[str, Any] = dict(entries(context.hub))
    for reported in nodes.answers.values():
        for item in reported:
            streams_by_id.setdefault(str(item.get("id")), item.get("entry"))
    return answer({APP: streams_by_id} if streams_by_id else {}, headers=unanswered_nodes_header(nodes.silent))


@operation(schemas.NmsStream)
async def stream(request: web.Request) -> web.Response:
    """One stream.

    Returns `{"isLive", "viewers", "duration", "bitrate", "startTime", "arguments"}` in seconds and kbit/s. If the
    stream is not live, `duration` and `bitrate` are 0 and `startTime` is null. `viewers` still counts players that wait
    for the publisher. `arguments` is empty.
    """
    id = request.match_info["id"] if request.match_info["app"] == APP else ""
    return answer(_stream_json(session(id, source_stream(request, id), request.app[REMOTE_VIEWERS].of(id))))


def _stream_json(session: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the answer of `stream` from a session."""
    is_live = session["state"] == StreamState.LIVE
    return {
        "isLive": is_live,
        "viewers": sum(session["viewers"].values()),
        "duration": math.ceil(time.time() - datetime.fromisoformat(session["since"]).timestamp()) if is_live else 0,
        "bitrate": session["bitrate"] // 1000 if is_live else 0,
        "startTime": session["since"] if is_live else None,
        "arguments": {},
    }
