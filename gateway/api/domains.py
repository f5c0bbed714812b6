"""The public domains for pushing and playing."""

from __future__ import annotations

import structlog
from aiohttp import web

from gateway.api.answers import answer
from gateway.api.body import json_object
from gateway.api.context import CONTEXT
from gateway.channels.addresses import PublicDomains

log = structlog.get_logger(__name__)


async def show(request: web.Request) -> web.Response:
    return answer((await request.app[CONTEXT].domains.get_domains()).as_json())


async def update(request: web.Request) -> web.Response:
    """Sets the domains. All addresses shown later use them. An empty domain means this node's own address."""
    context = request.app[CONTEXT]
    body = await json_object(request, context.limits.request)
    domains = PublicDomains.from_json(body, await context.domains.get_domains())
    await context.domains.set_domains(domains)
    log.info("domains changed", push=domains.push, pull=domains.pull)
    return answer(domains.as_json())
