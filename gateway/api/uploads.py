"""Uploads of videos on demand: an address to upload to, and the receiver where the store has none of its own."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator
from typing import Final

from aiohttp import web
from aiohttp.client_exceptions import ClientError

from gateway.api.answers import BadRequest, Conflict, answer
from gateway.api.body import json_object, undecodable
from gateway.api.context import CONTEXT
from gateway.api.jobs import presented, vod_service
from gateway.vod.uploads import UploadExists

_PIECE: Final = 1 << 18
_STALL: Final = 60  # seconds within which a piece has to arrive


async def offer(request: web.Request) -> web.Response:
    """Returns an address for an upload, which becomes a job by itself.

    The job starts at once where the upload comes to this node, else after the bucket's event.
    """
    context = request.app[CONTEXT]
    body = await json_object(request, context.limits.request)
    name = body.get("name")
    if not isinstance(name, str) or not name or len(name) > 1024:
        raise BadRequest("expected the name of the film's file", field="name")
    key, upload = await vod_service(request).uploads.offer(name, f"{request.scheme}://{request.host}")
    return answer({"key": key, "url": upload.url, "method": upload.method, "headers": upload.headers})


async def receive(request: web.Request) -> web.Response:
    """Receives an upload. The address's own signature replaces a token."""
    uploads = vod_service(request).uploads
    key = request.match_info["key"]
    size = request.content_length
    uploads.admit(key, request.query.get("expires", ""), request.query.get("sign", ""), size)
    try:
        job = await uploads.receive(key, _pieces(request, size))
    except UploadExists:
        raise Conflict("this address is good for one upload, and was used") from None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise web.HTTPInsufficientStorage(reason="there is no room for this film") from error
        raise
    (shown,) = await presented(request, [job])
    return answer({"key": key, "job": shown}, 201, {"Location": f"/jobs/{job.id}"})


async def _pieces(request: web.Request, size: int | None) -> AsyncIterator[bytes]:
    """Yields the body as it arrives. Raises BadRequest where the client stops in the middle."""
    got = 0
    while True:
        try:
            async with asyncio.timeout(_STALL):
                piece = await request.content.read(_PIECE)
        except TimeoutError:
            raise web.HTTPRequestTimeout(reason="the upload has stalled") from None
        except (ClientError, ConnectionError) as error:
            raise BadRequest("the film was cut off") from error
        except web.RequestPayloadError:
            raise undecodable(request) from None
        if not piece:
            break
        got += len(piece)
        yield piece
    if size is not None and got != size:
        raise BadRequest(f"{got} of {size} bytes came")
