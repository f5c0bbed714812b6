"""Request bodies: JSON read strictly, because what is stored has to mean the same to every reader."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Never

from aiohttp import web

from gateway.api.answers import BadRequest


async def json_object(request: web.Request, seconds: float) -> dict[str, Any]:
    """The body as a JSON object; BadRequest for anything else, 408 where it takes longer than `seconds` (0: any time).

    Refused besides bad syntax: duplicate names, NaN and infinities, text that is not UTF-8, nesting beyond the parser's
    depth. The content type is not looked at: `curl -d` sends another one.
    """
    try:
        async with asyncio.timeout(seconds or None):
            data = await request.read()
    except TimeoutError:
        raise web.HTTPRequestTimeout(reason="the body did not arrive in time") from None
    return parse_object(data)


def parse_object(data: bytes) -> dict[str, Any]:
    """As json_object, of a whole body."""
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
                raise BadRequest("stands twice in one object", field=name[:255])
            seen.add(name)
    return result


def _no_constant(name: str) -> Never:
    raise BadRequest(f"{name} is no JSON")
