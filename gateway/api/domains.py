"""The public domains for pushing and playing."""

import structlog
from aiohttp import web

from gateway.api import schemas
from gateway.api.answers import answer
from gateway.api.body import json_object
from gateway.api.context import CONTEXT
from gateway.api.route import operation
from gateway.channels.addresses import PublicDomains

log = structlog.get_logger(__name__)


@operation(schemas.Domains)
async def show(request: web.Request) -> web.Response:
    """The push and pull domains."""
    return answer((await request.app[CONTEXT].domains.get_domains()).as_json())


@operation(schemas.Domains, body=schemas.DomainChanges)
async def update(request: web.Request) -> web.Response:
    """Set the push and pull domains.

    All addresses shown later use them. An empty domain means this node's own address.
    """
    context = request.app[CONTEXT]
    body = await json_object(request)
    domains = PublicDomains.from_json(body, await context.domains.get_domains())
    await context.domains.set_domains(domains)
    log.info("domains changed", push=domains.push, pull=domains.pull)
    return answer(domains.as_json())
