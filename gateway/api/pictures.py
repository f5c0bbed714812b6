"""The poster of a channel. Pictures of users are never served as they are: a worker decodes and encodes them again."""

import asyncio
import hashlib
import re
import tempfile
from pathlib import Path
from typing import Final

import structlog
from aiohttp import web

from gateway.api import schemas
from gateway.api.answers import BadRequest, Conflict
from gateway.api.channels import answer_with, store_changes, stored_channel
from gateway.api.context import CONTEXT, Context
from gateway.api.route import operation
from gateway.api.uploads import read_chunks
from gateway.ports import media_keys
from gateway.ports.errors import StoreUnavailable, TooLarge
from gateway.workers.jpeg_service import PictureRefused

log = structlog.get_logger(__name__)

MAX_BYTES: Final = 8_000_000  # of an uploaded picture
_LONGEST: Final = 1_280  # pixels of the longer side of a poster
_SECONDS: Final = 120.0  # for the whole upload
_FORMATS: Final = re.compile(rb"\x89PNG\r\n\x1a\n|\xff\xd8\xff|RIFF....WEBP", re.DOTALL)
_EXPECTED: Final = "expected a PNG, JPEG or WebP picture"


async def read_picture(request: web.Request, longest: int, *, alpha: bool) -> bytes:
    """Returns the picture in the body as JPEG, with alpha as WebP, and scaled down to `longest` pixels.

    Raises BadRequest, TooLarge, OutputError.
    """
    data = bytearray()
    try:
        async with asyncio.timeout(_SECONDS):
            async for chunk in read_chunks(request, request.content_length):
                data += chunk
                if len(data) > MAX_BYTES:
                    raise TooLarge(len(data), MAX_BYTES, "the picture")
    except TimeoutError:
        raise web.HTTPRequestTimeout(reason="the picture did not arrive in time") from None
    if not _FORMATS.match(data):
        raise BadRequest(_EXPECTED)
    convert = request.app[CONTEXT].convert_picture
    if convert is None:
        raise Conflict("this node cannot decode pictures")
    try:
        return await convert(bytes(data), longest, alpha)
    except PictureRefused as error:
        raise BadRequest(f"{_EXPECTED}: {error}") from None


@operation(schemas.Channel, body="image/*", statuses=(413,))
async def set_poster(request: web.Request) -> web.Response:
    """Set the poster of a channel: a PNG, JPEG or WebP picture.

    The picture is scaled down to 1,280 pixels, and stored as JPEG without its metadata.
    """
    context, channel = request.app[CONTEXT], await stored_channel(request)
    if context.objects is None:
        raise Conflict("this gateway stores no files")
    picture = await read_picture(request, _LONGEST, alpha=False)
    key = media_keys.poster_key(channel.id, hashlib.sha256(picture).hexdigest()[:16])
    with tempfile.TemporaryDirectory(prefix="millrace-poster-") as folder:
        file = Path(folder) / "poster.jpg"
        await asyncio.to_thread(file.write_bytes, picture)
        await context.objects.put(key, file)
    if key != channel.poster:
        await delete_poster_file(context, channel.poster)
        channel = await store_changes(request, channel.id, {"poster": key})
        log.info("poster changed", channel=channel.id)
    return await answer_with(request, channel)


@operation(schemas.Channel)
async def remove_poster(request: web.Request) -> web.Response:
    """Remove the poster of a channel."""
    context, channel = request.app[CONTEXT], await stored_channel(request)
    if channel.poster:
        key, channel = channel.poster, await store_changes(request, channel.id, {"poster": ""})
        await delete_poster_file(context, key)
    return await answer_with(request, channel)


async def delete_poster_file(context: Context, key: str) -> None:
    """Deletes the file of a poster that is not used any more; "": none. If the store does not answer, it stays."""
    if key and context.objects is not None:
        try:
            await context.objects.delete(key)
        except StoreUnavailable as error:
            log.warning("the file of a poster stays", key=key, reason=str(error))
