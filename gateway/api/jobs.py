"""Jobs: submit, list, show, cancel. They convert videos to HLS, or send stored objects to Kinesis.

POST /processObject has the old system's format.
"""

import re
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final
from urllib.parse import quote

import structlog
from aiohttp import web

from gateway.api import schemas
from gateway.api.answers import BadRequest, answer, refusal
from gateway.api.body import json_object, read
from gateway.api.context import CONTEXT, Context
from gateway.api.film_texts import film_texts
from gateway.api.moments import page_limit
from gateway.api.route import operation
from gateway.api.schema_base import to_answer
from gateway.channels.media_owners import MediaOwner
from gateway.channels.names import is_channel_id
from gateway.channels.stream_key import SignatureUse
from gateway.lib.rfc3339 import rfc3339
from gateway.outputs.kinesis.kvs_jobs import KvsJobs, ObjectRequest
from gateway.ports.errors import NoSuchJob, OutputError, OutputUnsupported, StoreUnavailable
from gateway.ports.jobs import VOD, StoredJob
from gateway.ports.vod_names import play_name
from gateway.vod.vod_service import VodService

log = structlog.get_logger(__name__)

VOD_SERVICE: Final = web.AppKey("vod service", VodService)
KVS_JOBS: Final = web.AppKey("kvs jobs", KvsJobs)
_ID = re.compile(r"[A-Za-z0-9_-]{1,100}", re.ASCII)
_MAX_LIMIT: Final = 1000
_DEFAULT_LIMIT: Final = 100
# Seconds for the first acknowledgement. The gateway may have to download the object first. Clients usually wait one
# minute.
_KINESIS_SECONDS: Final = 50.0
_MAX_RECORDS: Final = 100
_MAX_KEY: Final = 3_072  # bytes
_BUCKET_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", re.ASCII)


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
    job = await request.app[VOD_SERVICE].submit(wanted.source, **film_texts(wanted))
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
    jobs = await request.app[VOD_SERVICE].queue.store.newest(limit, before)
    return answer(await present_jobs(request, jobs))


@operation(schemas.Job, statuses=(503,))
async def show(request: web.Request) -> web.Response:
    """Show a job."""
    job = await request.app[VOD_SERVICE].queue.store.get(_id(request))
    return answer((await present_jobs(request, [job]))[0])


@operation(schemas.Job, statuses=(409, 503))
async def cancel(request: web.Request) -> web.Response:
    """Cancel a job.

    Its partial results are removed.
    """
    job = await request.app[VOD_SERVICE].cancel(_id(request))
    return answer((await present_jobs(request, [job]))[0])


def _id(request: web.Request) -> str:
    id = request.match_info["id"]
    if not _ID.fullmatch(id):
        raise NoSuchJob(id[:100])
    return id


@operation(
    schemas.Processed,
    body=schemas.ProcessObject,
    statuses=(404, 413, 422, 502, 503),
    other_answers=((202, schemas.QueuedProcess),),
    query=(("wait", "1 (default): until Kinesis has the first fragment, at most 50 s; 0: answers at once"),),
)
async def process_object(request: web.Request) -> web.Response:
    """Send a stored object to a Kinesis video stream.

    Returns the number of the first fragment. The upload continues as a job, when its turn comes.
    202 with the job and without a number: with `?wait=0` at once, otherwise if the upload does not start in time. 502
    with the reason if Kinesis or the object store refuses, 503 if too many jobs wait.
    """
    wait = request.query.get("wait", "1")
    if wait not in ("0", "1"):
        raise BadRequest("expected 0 or 1", field="wait")
    requests = _parse_requests(await json_object(request))
    try:
        submitted = await request.app[KVS_JOBS].submit(requests, _KINESIS_SECONDS if wait == "1" else 0)
    except OutputUnsupported as error:
        return refusal(422, f"the object cannot be played: {error}")
    except (OutputError, StoreUnavailable) as error:
        log.warning("a job cannot be submitted", reason=str(error))
        return refusal(502, getattr(error, "public", str(error)), retry_after=5)
    ids = [job.id for job in submitted.jobs]
    body = {"streamArn": submitted.arn, "startFragmentNumber": submitted.fragment, "jobs": ids}
    if submitted.fragment is not None:
        return answer(body)
    (job,) = await present_jobs(request, submitted.jobs[:1])
    return answer({**job, **body}, 202, {"Location": f"/jobs/{ids[0]}"})


def _parse_requests(body: dict[str, Any]) -> list[ObjectRequest]:
    """Returns the objects of `{"bucketName", "keyName"}` or of an S3 event. Raises BadRequest."""
    if "Records" not in body:
        return [ObjectRequest(_bucket(body.get("bucketName"), "bucketName"), _key(body.get("keyName"), "keyName"))]
    records = body["Records"]
    if not isinstance(records, list) or not 0 < len(records) <= _MAX_RECORDS:
        raise BadRequest(f"expected 1 to {_MAX_RECORDS} records of an S3 event", field="Records")
    requests = []
    for record in records:
        event = record.get("eventName", "ObjectCreated:") if isinstance(record, dict) else ""
        if not isinstance(event, str) or not event.removeprefix("s3:").startswith("ObjectCreated:"):
            continue  # deleted and restored objects are not new
        match record.get("s3"):
            case {"bucket": dict(bucket), "object": dict(object)}:
                name, key = _bucket(bucket.get("name"), "Records"), _key(object.get("key"), "Records")
                requests.append(ObjectRequest(name, key, encoded=True))
            case _:
                raise BadRequest("expected records with s3.bucket.name and s3.object.key", field="Records")
    if not requests:
        raise BadRequest("no record reports a created object", field="Records")
    return requests


def _bucket(value: Any, field: str) -> str:
    if not isinstance(value, str) or not _BUCKET_NAME.fullmatch(value):
        raise BadRequest("expected the name of a bucket", field=field)
    return value


def _key(value: Any, field: str) -> str:
    # A lone surrogate is not printable, so the key can be encoded.
    if not (isinstance(value, str) and value.isprintable() and 0 < len(value.encode()) <= _MAX_KEY):
        raise BadRequest("expected the key of an object", field=field)
    return value
