"""Request bodies: strict JSON, so that all readers parse the stored values equally."""

import asyncio
import json
import math
from typing import Any, Final, Never, TypeVar

from aiohttp import web
from pydantic import ValidationError

from gateway.api.answers import BadRequest, refusal, with_headers
from gateway.api.context import CONTEXT
from gateway.api.schema_base import Body, ExpectedText
from gateway.lib.texts import STORABLE, has_unstorable, storable
from gateway.ports.errors import TooLarge

_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"

B = TypeVar("B", bound=Body)
T = TypeVar("T")


async def json_array(request: web.Request) -> list[Any]:
    """Returns the body as a JSON array, with the checks of `json_object`."""
    return _parse(await read_body(request), list, "array")


async def json_object(request: web.Request) -> dict[str, Any]:
    """Returns the body as a JSON object.

    Raises BadRequest if the body is not an object, and 408 if it does not arrive in time. Raises ConnectionError if the
    client disconnects early.

    Also refuses duplicate names, NaN and infinities, text that is not UTF-8, and nesting beyond the parser's depth.
    Ignores the content type, because `curl -d` sends a form type.
    """
    return parse_object(await read_body(request))


async def read(request: web.Request, model: type[B]) -> B:
    """Returns the body as a model, with the checks of `json_object`. Raises BadRequest for the first invalid field."""
    body = await json_object(request)
    try:
        return model.model_validate(body, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = str(first["loc"][0])
        expected = (data.text for data in model.model_fields[name].metadata if isinstance(data, ExpectedText))
        # If a validator raised ValueError, its text is more exact.
        raise BadRequest(str(first.get("ctx", {}).get("error", "")) or next(expected), field=name) from None


def text_of(body: dict[str, Any], field: str, most: int | None = None, default: str | None = None) -> str:
    """Returns a text in a body. most: characters; None: any number. default: of a missing text. Raises BadRequest."""
    value = body.get(field, default)
    if not isinstance(value, str) or (most is not None and len(value) > most):
        raise BadRequest("expected text" + ("" if most is None else f" of at most {most} characters"), field=field)
    return value


async def check_expectation(request: web.Request) -> web.Response | None:
    """Refuses an unknown Expect header. aiohttp itself would ask for each body, before any check of the request.

    No middleware sees this answer.
    """
    if request.version < (1, 1) or request.headers["Expect"].lower() == "100-continue":
        return None
    return with_headers(refusal(417, "expected no Expect header but 100-continue"))


async def begin_body(request: web.Request, most: int, label: str = "the body") -> None:
    """Asks for the body if the client waits for that (RFC 9110 §10.1.1). Raises TooLarge for a larger one, before.

    most: bytes; 0: any number. label: its name for the client.
    """
    size = request.content_length or 0
    if 0 < most < size:
        raise TooLarge(size, most, label)
    if request.version >= (1, 1) and "Expect" in request.headers and not request.content.is_eof():
        await request.writer.write(_CONTINUE)
        request.writer.output_size = 0  # the answer has not begun


async def read_body(request: web.Request) -> bytes:
    """Returns the whole body. Raises BadRequest, TooLarge, and 408 or 413."""
    await begin_body(request, request.client_max_size)
    try:
        async with asyncio.timeout(request.app[CONTEXT].limits.request or None):
            return await request.read()
    except TimeoutError:
        raise web.HTTPRequestTimeout(reason="the body did not arrive in time") from None
    except web.RequestPayloadError:
        raise decoding_error(request) from None


def decoding_error(request: web.Request) -> BadRequest:
    """Returns the error for a body with an invalid encoding. Stops reading the body."""
    request.content.feed_eof()  # otherwise the server continues to read and fails again
    return BadRequest("the body cannot be decoded")


def parse_object(data: bytes) -> dict[str, Any]:
    """Returns a whole body as a JSON object, with the checks of `json_object`."""
    return _parse(data, dict, "object")


def _parse(data: bytes, kind: type[T], expected: str) -> T:
    """Returns a whole body as a JSON value of this kind. expected: its name for the errors."""
    try:
        # Files of Windows begin with a byte order mark. RFC 8259 §8.1 allows to ignore it.
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadRequest(f"the body is not UTF-8 text (byte {error.start})") from None
    if not text.strip():
        raise BadRequest(f"the body is empty, a JSON {expected} is expected")
    try:
        value = json.loads(text, object_pairs_hook=_unique, parse_float=_finite, parse_constant=_reject_constant)
    except RecursionError:
        raise BadRequest("the body is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise BadRequest(f"the body is not JSON: {error.msg} (line {error.lineno}, column {error.colno})") from None
    except ValueError:  # int() refuses an integer of thousands of digits
        raise BadRequest("the body contains a number that is too long") from None
    if "\\u" in text:  # only an escape can make such a text
        for name, inner in value.items() if isinstance(value, dict) else [("", value)]:
            if has_unstorable([name, inner]):
                raise BadRequest(f"expected {STORABLE}", field=storable(name)[:255] or None)
    if not isinstance(value, kind):
        raise BadRequest(f"the body is {_TYPE_NAMES.get(type(value), 'a number')}, a JSON {expected} is expected")
    return value


_TYPE_NAMES = {list: "an array", dict: "an object", str: "text", bool: "a boolean", type(None): "null"}


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise BadRequest("appears twice in one object", field=name[:255])
            seen.add(name)
    return result


def _finite(text: str) -> float:
    """Returns a number. A larger one than a float can be would be an infinity, which JSON cannot have."""
    if math.isinf(value := float(text)):
        raise BadRequest(f"the number {text[:20]} is too large")
    return value


def _reject_constant(name: str) -> Never:
    raise BadRequest(f"{name} is not valid JSON")
