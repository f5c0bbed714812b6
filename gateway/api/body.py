"""Request bodies: strict JSON, because every reader has to understand the stored values alike."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Never

from aiohttp import web

from gateway.api.answers import BadRequest


async def json_object(request: web.Request, seconds: float) -> dict[str, Any]:
    """Returns the body as a JSON object.

    seconds: time-out of the whole body; 0: none. Raises BadRequest for anything else than an object, 408 after the
    time-out, and ConnectionError where the client disconnects early.

    Also refuses duplicate names, NaN and infinities, text that is not UTF-8, and nesting beyond the parser's depth.
    Ignores the content type, because `curl -d` sends a different one.
    """
    try:
        async with asyncio.timeout(seconds or None):
            data = await request.read()
    except TimeoutError:
        raise web.HTTPRequestTimeout(reason="the body did not arrive in time") from None
    except web.RequestPayloadError:
        raise undecodable(request) from None
    return parse_object(data)


def undecodable(request: web.Request) -> BadRequest:
    """Returns the answer to a body with an invalid encoding. The rest of the body is not read."""
    request.content.feed_eof()  # else the server reads on and fails again
    return BadRequest("the body cannot be decoded")


def parse_object(data: bytes) -> dict[str, Any]:
    """Returns a whole body as a JSON object, with the checks of `json_object`."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadRequest(f"the body is not UTF-8 text (byte {error.start})") from None
    if not text.strip():
        raise BadRequest("the body is empty, a JSON object is expected")
    try:
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except RecursionError:
        raise BadRequest("the body is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise BadRequest(f"the body is not JSON: {error.msg} (line {error.lineno}, column {error.colno})") from None
    except ValueError:  # an integer of thousands of digits
        raise BadRequest("the body holds a number that is too long") from None
    if not isinstance(value, dict):
        raise BadRequest(f"the body is {_KINDS.get(type(value), 'a number')}, a JSON object is expected")
    return value


_KINDS = {list: "an array", str: "text", bool: "a truth value", type(None): "null"}


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise BadRequest("appears twice in one object", field=name[:255])
            seen.add(name)
    return result


def _no_constant(name: str) -> Never:
    raise BadRequest(f"{name} is no JSON")
