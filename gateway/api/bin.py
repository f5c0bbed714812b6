"""The bin: lists deleted recordings and films, restores them, and deletes them for good."""

from typing import Any

from aiohttp import web

from gateway.api import schemas
from gateway.api.answers import Missing, answer
from gateway.api.context import CONTEXT
from gateway.api.jobs import vod_service
from gateway.api.route import operation
from gateway.api.schema_base import to_answer
from gateway.lib.rfc3339 import rfc3339
from gateway.ports import media_keys
from gateway.ports.errors import NoSuchObject
from gateway.vod.bin import FILM, Bin, BinEntry


@operation(list[schemas.BinItem], statuses=(503,))
async def index(request: web.Request) -> web.Response:
    """List the deleted recordings and films that can be restored, the newest deletion first."""
    bin = _bin(request)
    return answer([_present(entry, bin.hours) for entry in await bin.entries()])


@operation(schemas.Restored, statuses=(409, 503))
async def restore(request: web.Request) -> web.Response:
    """Restore a deleted recording or film."""
    bin, entry = _bin(request), await _entry(request)
    if entry.kind == FILM:
        await vod_service(request).films.restore(entry)
    else:
        await bin.restore(entry)
    return answer({"id": entry.id, "key": entry.key})


@operation(schemas.Restored, statuses=(503,))
async def delete(request: web.Request) -> web.Response:
    """Delete a recording or film in the bin for good."""
    entry = await _entry(request)
    await _bin(request).delete(entry)
    return answer({"id": entry.id, "key": entry.key})


@operation(list[schemas.Restored], statuses=(503,))
async def empty(request: web.Request) -> web.Response:
    """Delete everything in the bin for good."""
    bin, deleted = _bin(request), []
    for entry in await bin.entries():
        await bin.delete(entry)
        deleted.append({"id": entry.id, "key": entry.key})
    return answer(deleted)


def _present(entry: BinEntry, hours: int) -> dict[str, Any]:
    parsed = media_keys.parse(entry.key)
    return to_answer(
        schemas.BinItem,
        entry,
        title=entry.film.get("title"),
        channel=parsed.channel if parsed is not None else None,
        start=rfc3339(parsed.start) if parsed is not None else None,
        deleted=rfc3339(entry.deleted),
        until=rfc3339(entry.deleted + hours * 3600),
    )


async def _entry(request: web.Request) -> BinEntry:
    """Returns the entry of the request. Raises Missing."""
    try:
        return await _bin(request).get(request.match_info["id"])
    except NoSuchObject:
        raise Missing("it is not in the bin: it was restored, or deleted for good") from None


def _bin(request: web.Request) -> Bin:
    bin = request.app[CONTEXT].bin
    if bin is None:
        raise Missing("this node has no object store")
    return bin
