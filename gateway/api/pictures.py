"""Reads uploaded pictures. They are never served as they are: a worker decodes and encodes them again."""

import asyncio
import re
from typing import Final

import structlog
from aiohttp import web

from gateway.api.answers import BadRequest, Conflict
from gateway.api.context import CONTEXT
from gateway.api.uploads import read_chunks
from gateway.ports.errors import TooLarge
from gateway.workers.jpeg_service import PictureRefused

log = structlog.get_logger(__name__)

MAX_BYTES: Final = 8_000_000  # of an uploaded picture
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
