"""Uploads of videos and of pictures for slates: creates upload addresses, and receives files if the store cannot."""

import asyncio
import errno
from collections.abc import AsyncIterator
from typing import Final

from aiohttp import web
from aiohttp.client_exceptions import ClientError

from gateway.api import schemas
from gateway.api.answers import BadRequest, Conflict, answer
from gateway.api.body import decoding_error, read
from gateway.api.context import CONTEXT
from gateway.api.film_texts import film_texts
from gateway.api.jobs import present_jobs, vod_service
from gateway.api.route import operation
from gateway.vod.uploads import UploadExists

_CHUNK_BYTES: Final = 1 << 18
_READ_TIMEOUT: Final = 60  # seconds in which the next chunk must arrive


@operation(schemas.Upload, body=schemas.NewUpload, statuses=(503,))
async def create_upload(request: web.Request) -> web.Response:
    """Get an address for the upload of a video, or of a picture for a slate.

    An uploaded video becomes a job automatically, a picture does not.
    The job starts at once if this node receives the upload, otherwise after the bucket's event.
    """
    wanted = await read(request, schemas.NewUpload)
    base = f"{request.app[CONTEXT].scheme(request)}://{request.host}"
    key, upload = await vod_service(request).uploads.offer(wanted.name, base, **film_texts(wanted))
    return answer({"key": key, "url": upload.url, "method": upload.method, "headers": upload.headers})


@operation(
    schemas.Uploaded,
    status=201,
    statuses=(400, 403, 404, 409, 413, 507, 503),
    query=(("expires", "from the address"), ("sign", "from the address")),
)
async def receive(request: web.Request) -> web.Response:
    """Upload a file to this address; a video becomes a job.

    The signature in the address is the authorization.
    """
    uploads = vod_service(request).uploads
    key = request.match_info["key"]
    size = request.content_length
    uploads.admit(key, request.query.get("expires", ""), request.query.get("sign", ""), size)
    try:
        job = await uploads.receive(key, read_chunks(request, size))
    except UploadExists:
        raise Conflict("this upload address was already used") from None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise web.HTTPInsufficientStorage(reason="the disk has not enough space for this file") from error
        raise
    if job is None:
        return answer({"key": key, "job": None}, 201)
    (presented,) = await present_jobs(request, [job])
    return answer({"key": key, "job": presented}, 201, {"Location": f"/jobs/{job.id}"})


async def read_chunks(request: web.Request, size: int | None) -> AsyncIterator[bytes]:
    """Yields the body in chunks. Raises BadRequest if the client disconnects early."""
    received = 0
    while True:
        try:
            async with asyncio.timeout(_READ_TIMEOUT):
                chunk = await request.content.read(_CHUNK_BYTES)
        except TimeoutError:
            raise web.HTTPRequestTimeout(reason="the upload has stalled") from None
        except (ClientError, ConnectionError) as error:
            raise BadRequest("the upload was interrupted") from error
        except web.RequestPayloadError:
            raise decoding_error(request) from None
        if not chunk:
            break
        received += len(chunk)
        yield chunk
    if size is not None and received != size:
        raise BadRequest(f"received {received} of {size} bytes")
