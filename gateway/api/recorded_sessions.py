"""Changes what viewers see of recorded sessions."""

from dataclasses import replace

import structlog
from aiohttp import web

from gateway.api import schemas
from gateway.api.answers import Missing, answer
from gateway.api.body import read
from gateway.api.channels import stored_channel
from gateway.api.context import CONTEXT
from gateway.api.recordings import FOLDER, REPLAYS, addresses, session_fields
from gateway.api.route import operation
from gateway.ports import media_keys
from gateway.ports.errors import NoSuchObject
from gateway.vod.session_records import read_session, store_session

log = structlog.get_logger(__name__)


@operation(schemas.SessionTexts, body=schemas.SessionChanges, statuses=(503,))
async def change(request: web.Request) -> web.Response:
    """Give an on-demand session a title, or hide it from viewers.

    A hidden session is not replayed, and its page is 404. Other nodes follow within 20 seconds.
    """
    context, channel = request.app[CONTEXT], await stored_channel(request)
    changes = await read(request, schemas.SessionChanges)
    key = f"{channel.id}/{request.match_info['path']}"
    await _check_session(request, key)
    record = await read_session(context.objects, key)
    record = replace(record, **{name: value for name, value in changes.model_dump().items() if value is not None})
    await store_session(context.objects, key, record, request.app[FOLDER])
    request.app[REPLAYS].forget(channel.id)
    log.info("session changed", channel=channel.id, object=key, hidden=record.hidden)
    url = addresses(channel, await context.presenter(request), context.clock())
    return answer({"key": key, **session_fields(key, record, url)})


async def _check_session(request: web.Request, key: str) -> None:
    """Raises Missing if this is not the key of a stored session's playlist."""
    parsed = media_keys.parse(key)
    try:
        if parsed is not None and parsed.kind is media_keys.MediaKind.ONDEMAND:
            await request.app[CONTEXT].objects.head(key)
            return
    except NoSuchObject:
        pass
    raise Missing("no such on-demand session")
