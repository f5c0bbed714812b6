"""POST /processObject: sends a stored object to a Kinesis video stream, with the original load balancer's request."""

from __future__ import annotations

import re
from typing import Any, Final

from aiohttp import web

from gateway.api.answers import BadRequest, answer, refusal
from gateway.api.body import json_object
from gateway.api.context import CONTEXT
from gateway.outputs.kinesis.kvs_jobs import ObjectRequest
from gateway.ports.errors import OutputError, OutputUnsupported, StoreUnavailable

# The first acknowledgement may need a download before it. Clients usually wait a minute.
TIMEOUT: Final = 50.0
_MAX_RECORDS: Final = 100
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", re.ASCII)


async def process_object(request: web.Request) -> web.Response:
    """Answers with the first fragment's number. The upload continues as a job.

    202 without a number where the video takes too long to start. 502 with the reason where Kinesis or the object's
    store refuses.
    """
    context = request.app[CONTEXT]
    asked = _asked(await json_object(request, context.limits.request))
    if context.kvs is None:
        return refusal(503, "this node has no Kinesis Video Streams")
    try:
        started = await context.kvs.begin(asked, TIMEOUT)
    except OutputUnsupported as error:
        return refusal(422, f"the object cannot be played: {error}")
    except (OutputError, StoreUnavailable) as error:
        return refusal(502, str(error), retry_after=5)
    shown = {"streamArn": started.arn, "startFragmentNumber": started.fragment, "jobs": list(started.jobs)}
    return answer(shown, 200 if started.fragment is not None else 202)


def _asked(body: dict[str, Any]) -> list[ObjectRequest]:
    """Returns the objects of `{"bucketName", "keyName"}` or of an S3 event. Raises BadRequest."""
    if "Records" not in body:
        return [ObjectRequest(_bucket(body.get("bucketName"), "bucketName"), _key(body.get("keyName"), "keyName"))]
    records = body["Records"]
    if not isinstance(records, list) or not 0 < len(records) <= _MAX_RECORDS:
        raise BadRequest(f"expected 1 to {_MAX_RECORDS} records of an S3 event", field="Records")
    asked = []
    for record in records:
        event = record.get("eventName", "ObjectCreated:") if isinstance(record, dict) else ""
        if not isinstance(event, str) or not event.removeprefix("s3:").startswith("ObjectCreated:"):
            continue  # deleted and restored objects are not new
        s3: Any = record.get("s3")
        bucket, object = (s3.get("bucket"), s3.get("object")) if isinstance(s3, dict) else (None, None)
        if not isinstance(bucket, dict) or not isinstance(object, dict):
            raise BadRequest("expected records with s3.bucket.name and s3.object.key", field="Records")
        asked.append(
            ObjectRequest(_bucket(bucket.get("name"), "Records"), _key(object.get("key"), "Records"), encoded=True)
        )
    if not asked:
        raise BadRequest("no record tells of an object that was created", field="Records")
    return asked


def _bucket(value: Any, field: str) -> str:
    if not isinstance(value, str) or not _BUCKET.fullmatch(value):
        raise BadRequest("expected the name of a bucket", field=field)
    return value


def _key(value: Any, field: str) -> str:
    if (
        not isinstance(value, str)
        or not value
        or len(value.encode("utf-8", "replace")) > 3072
        or not value.isprintable()
    ):
        raise BadRequest("expected the key of an object", field=field)
    return value
