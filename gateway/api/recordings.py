"""Recordings and pictures of a channel: what there is, where it plays, and taking one away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote

import structlog
from aiohttp import web

from gateway.api.answers import BadRequest, Conflict, Missing, answer
from gateway.api.channels import stored
from gateway.api.context import CONTEXT, Context
from gateway.api.sessions import rfc3339
from gateway.hub.errors import NoSuchObject
from gateway.sinks.naming import KeptKind
from gateway.sinks.shelf import LISTED, RECORDED, Shelf

log = structlog.get_logger(__name__)

_USUAL, _MOST = 50, 500
PAGE: Final = (
    ("kind", f"{', '.join(LISTED)}, or several with commas ({','.join(RECORDED)})"),
    ("limit", f"how many, 1 to {_MOST} ({_USUAL})"),
    ("before", "the key of a recording: only older ones"),
)


async def index(request: web.Request) -> web.Response:
    """The newest first."""
    context = request.app[CONTEXT]
    channel = await stored(request)
    kinds, limit = _kinds(request.query.get("kind", "")), _limit(request.query.get("limit", ""))
    before = request.query.get("before", "")
    if before and not before.startswith(f"{channel.id}/"):
        raise BadRequest("expected the key of a recording of this channel", field="before")
    if context.objects is None:
        return answer([])
    found = await Shelf(context.objects).list(channel.id, limit, before, kinds)
    presenter = await context.presenter(request)
    base, query = f"{presenter.addresses.pull}/{channel.id}/vod/", presenter.play_query(channel, context.clock())

    def url(key: str) -> str:
        return base + quote(key.removeprefix(f"{channel.id}/")) + query

    return answer(
        [
            {
                "key": kept.key,
                "kind": str(kept.kind),
                "start": rfc3339(kept.start),
                "seconds": kept.seconds,
                "size": kept.size,
                "url": url(kept.key),
                "poster": None if kept.poster is None else url(kept.poster),
            }
            for kept in found
        ]
    )


async def delete(request: web.Request) -> web.Response:
    """An on-demand session goes with its segments; one that is being recorded stays."""
    context = request.app[CONTEXT]
    channel = await stored(request)
    key = f"{channel.id}/{request.match_info['path']}"
    if any(output.get("playlist") == key for output in await _outputs(context, channel.id)):
        raise Conflict("this session is being recorded: end it first")
    if context.objects is None:
        raise Missing("nothing is recorded here")
    try:
        await Shelf(context.objects).delete(key)
    except NoSuchObject:
        raise Missing("no such recording") from None
    log.info("recording deleted", channel=channel.id, object=key)
    return answer({"key": key, "deleted": True})


async def _outputs(context: Context, id: str) -> Sequence[Mapping[str, Any]]:
    """Of the live stream of a channel, wherever it is."""
    stream = context.hub.find(id)
    if stream is not None:
        return stream.outputs.status() if stream.outputs is not None else ()
    session = await context.cluster.ask(id, "session")
    return session["outputs"] if session is not None else ()


def _kinds(text: str) -> tuple[KeptKind, ...]:
    if not text:
        return RECORDED
    wanted = set(text.split(","))
    if not wanted <= set(LISTED):
        raise BadRequest(f"expected one or more of {', '.join(LISTED)}", field="kind")
    return tuple(kind for kind in LISTED if kind in wanted)


def _limit(text: str) -> int:
    if not text:
        return _USUAL
    if not text.isascii() or not text.isdecimal() or len(text) > 4 or not 1 <= int(text) <= _MOST:
        raise BadRequest(f"expected a number from 1 to {_MOST}", field="limit")
    return int(text)
