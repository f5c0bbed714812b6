"""The nodes that share the streams, and the state of each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from aiohttp import web

from gateway.api.answers import answer
from gateway.api.context import CONTEXT, host_of
from gateway.api.servers import age_order
from gateway.api.status import summary
from gateway.ports.nodes import Node, NodeRole

_SUMMARY_FIELDS: Final = ("version", "uptime", "cpu", "streams", "publishers", "viewers", "bytesIn", "bytesOut")


async def index(request: web.Request) -> web.Response:
    """Returns all nodes with their reported state; nulls for a node that does not answer."""
    context = request.app[CONTEXT]
    here = context.cluster.node
    own = summary(context.node, context.metrics, context.version)
    if not here:
        return answer([_entry(Node("", NodeRole.GATEWAY, host_of(request)), "", own)])
    heard = await context.cluster.everywhere("node")
    entries = []
    nodes = await context.cluster.nodes()
    for node in sorted(nodes, key=lambda n: (n.id != here, n.role != NodeRole.GATEWAY, age_order(n))):
        report = [own] if node.id == here else heard.answers.get(node.id, ())
        entries.append(_entry(node, here, report[0] if report else None))
    return answer(entries)


def _entry(node: Node, here: str, report: Mapping[str, Any] | None) -> dict[str, Any]:
    said = report or {}
    return {
        "node": node.id,
        "role": str(node.role),
        "address": node.address,
        "here": node.id == here,
        "answers": report is not None,
        **{name: said.get(name) for name in _SUMMARY_FIELDS},
    }
