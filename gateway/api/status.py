"""The state of this node and of all nodes: health, readiness, metrics, the status for the console, the log level."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final

import structlog
from aiohttp import web

from gateway.api import console_schemas, schemas
from gateway.api.answers import BadRequest, answer
from gateway.api.body import json_object
from gateway.api.cloudfront import SIGNER
from gateway.api.context import CONTEXT, host_of
from gateway.api.ivs import IVS
from gateway.api.openid_provider import OpenIdProvider
from gateway.api.route import operation
from gateway.api.schema_base import to_answer
from gateway.api.servers import role
from gateway.lib.log import LEVELS, levels
from gateway.lib.metrics import CONTENT_TYPE
from gateway.lib.readiness import Readiness
from gateway.ports.nodes import Node, NodeRole
from gateway.reports.node_status import NodeStatus
from gateway.reports.node_summary import summary, traffic
from gateway.reports.push_servers import age_order

log = structlog.get_logger(__name__)


READINESS: Final = web.AppKey("readiness", Readiness)
NODE: Final = web.AppKey("node", NodeStatus)
SPEECH: Final = web.AppKey("speech", bool)  # whether there is an engine for captions from speech
CERTIFICATE: Final[web.AppKey[Callable[[], dict[str, Any] | None]]] = web.AppKey("certificate")
_SUMMARY_FIELDS: Final = ("version", "uptime", "cpu", "streams", "publishers", "viewers", "bytesIn", "bytesOut")


@operation("text/plain")
async def healthcheck(request: web.Request) -> web.Response:
    """Whether the process answers.

    Answers OK while the process runs, even if other things are wrong.
    """
    return web.Response(text="OK")


@operation(schemas.Ready, statuses=(503,), other_answers=((503, schemas.Ready),))
async def ready(request: web.Request) -> web.Response:
    """Whether the node is ready for requests.

    Answers 200, or 503 if services are missing that live streams need. The body names all missing services.
    """
    readiness = request.app[READINESS]
    missing = await readiness.missing()
    body = {"ready": not missing, "missing": [*missing, *readiness.degraded()]}
    return answer(body, 503, {"Retry-After": "5"}) if missing else answer(body)


@operation("text/plain")
async def metrics(request: web.Request) -> web.Response:
    """Metrics for Prometheus.

    They are summed over all processes that share the ports.
    """
    snapshot = await request.app[CONTEXT].metrics_snapshot()
    return web.Response(body=snapshot.render(), headers={"Content-Type": CONTENT_TYPE})


@operation(console_schemas.Status)
async def show(request: web.Request) -> web.Response:
    """The node's health: machine, traffic, missing services.

    Checks whether the stores answer.
    """
    context, node, readiness = request.app[CONTEXT], request.app[NODE], request.app[READINESS]
    missing = await readiness.missing()
    disk = await asyncio.to_thread(node.disk)
    return answer(
        {
            "version": context.metrics.version,
            "uptime": round(node.uptime, 1),
            "node": {"role": await role(context), "address": host_of(request)},
            "cpu": node.cpu(),
            "memory": node.memory(),
            "loopLag": round(context.metrics.last_lag, 4),
            "disk": disk,
            **traffic(await context.metrics_snapshot()),
            "workers": node.workers(),
            "ready": not missing,
            "missing": [*missing, *readiness.degraded()],
            "certificate": request.app[CERTIFICATE](),
            "ports": context.address_defaults.ports().as_json(),
            "logLevel": levels.name,
            "stores": node.stores,
            "ivs": request.app[IVS].available,
            "speech": request.app[SPEECH],
            "cloudfront": SIGNER in request.app,
            "signIn": _sign_in(context.authenticators.provider),
            "binHours": context.changes.bin_hours,
        }
    )


def _sign_in(provider: OpenIdProvider | None) -> dict[str, Any]:
    """Returns the name of the sign-in provider, and the options that are missing for it."""
    if provider is None:
        return {"name": None, "missing": ["oidc.issuer", "oidc.client_id", "oidc.allow"]}
    return {"name": provider.name, "missing": [] if provider.admits else ["oidc.allow"]}


@operation(console_schemas.LogLevel)
async def log_level(request: web.Request) -> web.Response:
    """The log level."""
    return answer({"level": levels.name})


@operation(console_schemas.LogLevel, body=console_schemas.LogLevel)
async def set_log_level(request: web.Request) -> web.Response:
    """Change the log level until the next start.

    Channels with their own logLevel keep it.
    """
    body = await json_object(request)
    level = body.get("level")
    if not isinstance(level, str) or level not in LEVELS:
        raise BadRequest(f"expected {', '.join(LEVELS)}", field="level")
    before = levels.name
    if level != before:
        # Logged before the change, because the new level may suppress it.
        log.warning("log level changed", before=before, level=level)
        levels.set_general(level)
    return answer({"level": level})


@operation(list[console_schemas.ClusterNode])
async def nodes(request: web.Request) -> web.Response:
    """All nodes of the cluster.

    The state of a node that does not answer is null.
    """
    context = request.app[CONTEXT]
    local_id = context.cluster.node
    local = summary(request.app[NODE], context.metrics)
    if not local_id:
        return answer([_node_json(Node("", NodeRole.GATEWAY, host_of(request)), "", local)])
    reported = await context.cluster.ask_all("node")
    entries = []
    for node in sorted(
        await context.cluster.nodes(), key=lambda n: (n.id != local_id, n.role != NodeRole.GATEWAY, age_order(n))
    ):
        reports = [local] if node.id == local_id else reported.answers.get(node.id, ())
        entries.append(_node_json(node, local_id, reports[0] if reports else None))
    return answer(entries)


def _node_json(node: Node, local_id: str, report: Mapping[str, Any] | None) -> dict[str, Any]:
    state = {name: (report or {}).get(name) for name in _SUMMARY_FIELDS}
    here, answers = node.id == local_id, report is not None
    free = node.shown.get("free")
    return to_answer(console_schemas.ClusterNode, node, node=node.id, here=here, answers=answers, free=free, **state)
