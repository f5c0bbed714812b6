"""Records who changed users, tokens, alarms, domains, the site and recordings, and who acted on a live channel."""

from collections.abc import Collection

from aiohttp import web

from gateway.api.channels import author
from gateway.api.context import CONTEXT
from gateway.channels.channel_events import Change, What, settings_changed


async def record_change(
    request: web.Request,
    what: What,
    change: Change,
    name: str = "",
    fields: Collection[str] = (),
    channel: str = "",
) -> None:
    """Writes the event of a change by the user of the request. See `settings_changed`."""
    context = request.app[CONTEXT]
    event = settings_changed(what, change, context.clock(), author(request), name=name, fields=fields, channel=channel)
    await context.changes.effects.record(event)
