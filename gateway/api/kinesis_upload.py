"""POST /processObject: sends a stored object to a Kinesis video stream. The request has the old system's format."""

import re
from typing import Any, Final

from aiohttp import web

from gateway.api import schemas
from gateway.api.answers import BadRequest, answer, refusal
from gateway.api.body import json_object
from gateway.api.context import CONTEXT
from gateway.api.jobs import present_jobs
from gateway.api.route import operation
from gateway.outputs.kinesis.kvs_jobs import ObjectRequest
from gateway.ports.errors import OutputError, OutputUnsupported, StoreUnavailable

# Seconds for the first acknowledgement. The gateway may have to download the object first. Clients usually wait one
# minute.
_TIMEOUT: Final = 50.0
_MAX_RECORDS: Final = 100
_MAX_KEY: Final = 3_072  # bytes
_BUCKET_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", re.ASCII)


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
    context = request.app[CONTEXT]
    wait = request.query.get("wait", "1")
    if wait not in ("0", "1"):
        raise BadRequest("expected 0 or 1", field="wait")
    requests = _parse_requests(await json_object(request))
    if context.kvs is None:
        return refusal(503, "this node has no Kinesis Video Streams")
    try:
        submitted = await context.kvs.submit(requests, _TIMEOUT if wait == "1" else 0)
    except OutputUnsupported as error:
        return refusal(422, f"the object cannot be played: {error}")
    except (OutputError, StoreUnavailable) as error:
        return refusal(502, str(error), retry_after=5)
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
