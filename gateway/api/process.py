"""POST /processObject: a stored object into a Kinesis video stream, as the original's load balancer was asked."""

from __future__ import annotations

import re
from typing import Any, Final

from aiohttp import web

from gateway.api.answers import BadRequest, answer, refusal
from gateway.api.body import json_object
from gateway.api.context import CONTEXT
from gateway.hub.errors import OutputTrouble, OutputUnsupported, StoreAway
from gateway.sinks.kvs.jobs import Asked

# The first acknowledgement may need a download before it; who asks usually waits a minute.
PATIENCE: Final = 50.0
_MOST_RECORDS: Final = 100
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", re.ASCII)


async def process(request: web.Request) -> web.Response:
    """Answers with the first fragment's number; the film goes on in its own time, as a job.

    202 without a number where the film takes too long to begin. 502 where Kinesis or the object's store does not take
    part, with the reason.
    """
    context = request.app[CONTEXT]
    asked = _asked(await json_object(request, context.limits.request))
    if context.kvs is None:
        return refusal(503, "this node has no Kinesis Video Streams")
    try:
        started = await context.kvs.begin(asked, PATIENCE)
    except OutputUnsupported as error:
        return refusal(422, f"the object cannot be played: {error}")
    except (OutputTrouble, StoreAway) as error:
        return refusal(502, str(error), retry_after=5)
    shown = {"streamArn": started.arn, "startFragmentNumber": started.fragment, "jobs": list(started.jobs)}
    return answer(shown, 200 if started.fragment is not None else 202)


def _asked(body: dict[str, Any]) -> list[Asked]:
    """The objects of `{"bucketName", "keyName"}` or of an event of S3. Raises BadRequest."""
    if "Records" not in body:
        return [Asked(_bucket(body.get("bucketName"), "bucketName"), _key(body.get("keyName"), "keyName"))]
    records = body["Records"]
    if not isinstance(records, list) or not 0 < len(records) <= _MOST_RECORDS:
        raise BadRequest(f"expected 1 to {_MOST_RECORDS} records of an S3 event", field="Records")
    asked = []
    for record in records:
        event = record.get("eventName", "ObjectCreated:") if isinstance(record, dict) else ""
        if not isinstance(event, str) or not event.removeprefix("s3:").startswith("ObjectCreated:"):
            continue  # what was deleted or restored is nothing new
        s3: Any = record.get("s3")
        bucket, object = (s3.get("bucket"), s3.get("object")) if isinstance(s3, dict) else (None, None)
        if not isinstance(bucket, dict) or not isinstance(object, dict):
            raise BadRequest("expected records with s3.bucket.name and s3.object.key", field="Records")
        asked.append(Asked(_bucket(bucket.get("name"), "Records"), _key(object.get("key"), "Records"), encoded=True))
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
