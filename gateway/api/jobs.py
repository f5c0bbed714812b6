"""Jobs: films that become HLS, and what else takes its time: submit, list, show, cancel."""

from __future__ import annotations

import re
from typing import Any, Final
from urllib.parse import quote

import structlog
from aiohttp import web

from gateway.api.answers import BadRequest, Conflict, Missing, answer
from gateway.api.body import json_object
from gateway.api.context import CONTEXT
from gateway.api.sessions import rfc3339
from gateway.hub.access import Use
from gateway.hub.errors import JobFinished, NoSuchJob
from gateway.hub.jobs import VOD, Job
from gateway.vod.naming import play_name
from gateway.vod.studio import Studio

log = structlog.get_logger(__name__)

_ID = re.compile(r"[A-Za-z0-9_-]{1,100}", re.ASCII)
_MOST: Final = 1000
_USUAL: Final = 100
_LONGEST: Final = 2048


def studio(request: web.Request) -> Studio:
    """What does jobs here."""
    found = request.app[CONTEXT].studio
    if found is None:
        raise Missing("this node does no jobs")
    return found


class JobPresenter:
    """Shows jobs with the addresses at which their results play. base: such as http://host:8080; sign: of an id."""

    def __init__(self, base: str, sign: Any) -> None:
        self._base = base
        self._sign = sign

    def present(self, job: Job) -> dict[str, Any]:
        """As the API answers."""
        outputs = dict(job.outputs)
        if job.kind == VOD:
            outputs = {name: self._url(key) for name, key in outputs.items()}
        return {
            "id": job.id,
            "kind": job.kind,
            "state": str(job.state),
            "progress": job.progress,
            "source": job.source,
            "outputs": outputs,
            "error": job.error,
            "created": rfc3339(job.created),
            "updated": rfc3339(job.updated),
        }

    def _url(self, key: str) -> str:
        query = self._sign(play_name(key.rpartition("/")[0]))
        return f"{self._base}/vod/{quote(key, safe='/')}{query}"


async def presenter(request: web.Request) -> JobPresenter:
    """For whoever asks: as channels are shown, with play signs where films are protected by them."""
    context = request.app[CONTEXT]
    addresses = (await context.presenter(request)).addresses
    until = int(context.clock() + context.shown.sign_ttl)

    def sign(name: str) -> str:
        return f"?sign={context.secrets.sign(name, until, Use.PLAY)}" if context.shown.play_auth == "sign" else ""

    return JobPresenter(addresses.pull, sign)


async def submit(request: web.Request) -> web.Response:
    """Accepted, not done: its state is to be asked for, or told by a webhook."""
    context = request.app[CONTEXT]
    body = await json_object(request, context.limits.request)
    source = body.get("source")
    if not isinstance(source, str) or not source or len(source) > _LONGEST or not source.isprintable():
        raise BadRequest("expected the key of an object, s3://bucket/key or a path", field="source")
    job = await studio(request).submit(source)
    return answer((await presenter(request)).present(job), 202, {"Location": f"/jobs/{job.id}"})


async def index(request: web.Request) -> web.Response:
    """A bare array, the newest first; `before`, the last id of one page, gives the next."""
    limit, before = request.query.get("limit", str(_USUAL)), request.query.get("before", "")
    if not (limit.isascii() and limit.isdigit() and len(limit) < 6 and 1 <= int(limit) <= _MOST):
        raise BadRequest(f"expected a number from 1 to {_MOST}", field="limit")
    if before and not _ID.fullmatch(before):
        raise BadRequest("expected the id of a job", field="before")
    jobs = await studio(request).desk.store.newest(int(limit), before)
    shown = await presenter(request)
    return answer([shown.present(job) for job in jobs])


async def show(request: web.Request) -> web.Response:
    job = await studio(request).desk.store.get(_id(request))
    return answer((await presenter(request)).present(job))


async def cancel(request: web.Request) -> web.Response:
    """Stops it, wherever it is at work; what it had made so far is removed."""
    try:
        job = await studio(request).desk.cancel(_id(request))
    except JobFinished as error:
        raise Conflict(str(error)) from None
    return answer((await presenter(request)).present(job))


def _id(request: web.Request) -> str:
    id = request.match_info["id"]
    if not _ID.fullmatch(id):
        raise NoSuchJob(id[:100])
    return id
