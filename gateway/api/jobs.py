"""Jobs, such as converting a video to HLS: submit, list, show, cancel."""

import re
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final
from urllib.parse import quote

import structlog
from aiohttp import web

from gateway.api import schemas
from gateway.api.answers import BadRequest, Conflict, Missing, answer
from gateway.api.body import read
from gateway.api.context import CONTEXT, Context
from gateway.api.film_texts import film_texts
from gateway.api.page_limit import page_limit
from gateway.api.route import operation
from gateway.api.schema_base import to_answer
from gateway.channels.media_owners import MediaOwner
from gateway.channels.names import is_channel_id
from gateway.channels.stream_key import SignatureUse
from gateway.lib.rfc3339 import rfc3339
from gateway.ports.errors import JobFinished, NoSuchJob
from gateway.ports.jobs import VOD, StoredJob
from gateway.ports.vod_names import play_name
from gateway.vod.vod_service import VodService

log = structlog.get_logger(__name__)

_ID = re.compile(r"[A-Za-z0-9_-]{1,100}", re.ASCII)
_MAX_LIMIT: Final = 1000
_DEFAULT_LIMIT: Final = 100


def vod_service(request: web.Request) -> VodService:
    """Returns this node's VOD service. Raises Missing if the node has none."""
    service = request.app[CONTEXT].vod_service
    if service is None:
        raise Missing("this node runs no jobs")
    return service


def _job_json(job: StoredJob, url: Callable[[str], str]) -> dict[str, Any]:
    """Returns a job as the API shows it. url: returns the play address for the key of a VOD's file."""
    outputs = {name: url(key) for name, key in job.outputs.items()} if job.kind == VOD else dict(job.outputs)
    times = {"created": rfc3339(job.created), "updated": rfc3339(job.updated)}
    return to_answer(schemas.Job, job, outputs=outputs, **times)


async def present_jobs(request: web.Request, jobs: Sequence[StoredJob]) -> list[dict[str, Any]]:
    """Returns jobs as the API shows them. Addresses get a play signature if the VOD or its channel needs one."""
    keys = [key for job in jobs if job.kind == VOD for key in job.outputs.values()]
    url = await film_addresses(request, {key.rpartition("/")[0] for key in keys})
    return [_job_json(job, url) for job in jobs]


async def film_addresses(request: web.Request, folders: Collection[str]) -> Callable[[str], str]:
    """Returns a function from an object key in one of these VOD folders to its play address."""
    context = request.app[CONTEXT]
    presenter, now = await context.presenter(request), context.clock()
    owners: dict[str, MediaOwner | None] = {}
    for id in {folder.partition("/")[0] for folder in folders if "/" in folder}:
        owners[id] = await context.media_owners.find(id) if is_channel_id(id) else None

    def url(key: str) -> str:
        folder = key.rpartition("/")[0]
        owner = owners.get(folder.partition("/")[0]) if "/" in folder else None
        query = presenter.play_query(owner.channel, now) if owner is not None else vod_query(context, folder)
        return f"{presenter.addresses.pull}/vod/{quote(key, safe='/')}{query}"

    return url


def vod_query(context: Context, folder: str) -> str:
    """Returns the query string for the addresses of VODs without a channel."""
    if context.address_defaults.play_auth != "sign":
        return ""
    expires = int(context.clock() + context.address_defaults.sign_ttl)
    return f"?sign={context.secrets.sign(play_name(folder), expires, SignatureUse.PLAY)}"


@operation(schemas.Job, body=schemas.NewJob, status=202, statuses=(503,))
async def submit(request: web.Request) -> web.Response:
    """Convert a video to HLS, with a poster and a thumbnail.

    The client polls its state, or a webhook reports it.
    """
    wanted = await read(request, schemas.NewJob)
    job = await vod_service(request).submit(wanted.source, **film_texts(wanted))
    (presented,) = await present_jobs(request, [job])
    return answer(presented, 202, {"Location": f"/jobs/{job.id}"})


@operation(
    list[schemas.Job],
    statuses=(503,),
    query=(("limit", "the number of jobs, 1 to 1000 (default 100)"), ("before", "the id of a job: only older ones")),
)
async def index(request: web.Request) -> web.Response:
    """List the jobs, the newest first.

    For the next page, `before` is the last id of the current page.
    """
    limit = page_limit(request.query.get("limit", str(_DEFAULT_LIMIT)), _MAX_LIMIT)
    before = request.query.get("before", "")
    if before and not _ID.fullmatch(before):
        raise BadRequest("expected the id of a job", field="before")
    jobs = await vod_service(request).queue.store.newest(limit, before)
    return answer(await present_jobs(request, jobs))


@operation(schemas.Job, statuses=(503,))
async def show(request: web.Request) -> web.Response:
    """Show a job."""
    job = await vod_service(request).queue.store.get(_id(request))
    return answer((await present_jobs(request, [job]))[0])


@operation(schemas.Job, statuses=(409, 503))
async def cancel(request: web.Request) -> web.Response:
    """Cancel a job.

    Its partial results are removed.
    """
    try:
        job = await vod_service(request).cancel(_id(request))
    except JobFinished as error:
        raise Conflict(str(error)) from None
    return answer((await present_jobs(request, [job]))[0])


def _id(request: web.Request) -> str:
    id = request.match_info["id"]
    if not _ID.fullmatch(id):
        raise NoSuchJob(id[:100])
    return id
