"""Answers: JSON bodies, the statuses of errors, and the headers of every answer."""

import asyncio
import errno
import json
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any, Final, TypeVar

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from gateway.api.context import CLIENT, CONTEXT
from gateway.lib.log_rate_limiter import LogRateLimiter
from gateway.ports import errors

log = structlog.get_logger(__name__)

R = TypeVar("R", bound=web.StreamResponse)

_MAX_LOG_LINES: Final = 10  # log lines a second for refused requests
_LIST_STEP: Final = 50  # items that are written without a pause
_LIMITER: Final = web.AppKey("refusal_lines", LogRateLimiter)


class BadRequest(Exception):
    """The request cannot be understood. `field` names the wrong part of the body or query."""

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field


class Conflict(Exception):
    """The request is not possible in the present state."""


class Missing(Exception):
    """The object of the request does not exist."""


# The status of each expected error; the first match counts. Any other error is a bug: 500.
_STATUS: Final[tuple[tuple[int, tuple[type[Exception], ...]], ...]] = (
    (400, (BadRequest, errors.InvalidField)),
    (403, (errors.NotAuthorized,)),
    (404, (Missing, errors.NotFound)),
    (409, (Conflict, errors.NotPossible)),
    (413, (errors.TooLarge,)),
    (429, (errors.TooManyRequests,)),
    (503, (errors.AtCapacity, errors.HolderUnavailable, errors.StoreUnavailable, errors.StoreUnusable)),
)
# Errors of a local disk that an operator can mend: 507.
_DISK_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS})

HEADERS: Final[Mapping[str, str]] = {
    # A browser never sends the token automatically. So any page that has the token may use the API, as with the old
    # system. With "*", browsers send no cookies and hide answers that a cookie authorized. Only the gateway's own pages
    # get those answers.
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Expose-Headers": "Content-Disposition, Location, Retry-After, X-Millrace-Silent",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Server": "Millrace",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


def json_text(value: Any) -> str:
    """Returns `value` as JSON in ASCII, so that a stored lone surrogate cannot break the encoding."""
    return json.dumps(value, separators=(",", ":"))


def answer(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """Returns an answer with `value` as JSON."""
    return answer_text(json_text(value), status, headers)


def answer_text(body: str, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """Returns an answer with a body that is already JSON text."""
    return web.Response(
        body=body.encode("ascii"), status=status, headers=headers, content_type="application/json", charset="utf-8"
    )


async def answer_list(items: Iterable[Any], headers: Mapping[str, str] | None = None) -> web.Response:
    """Returns an answer with a long list as JSON.

    1,000 channels or sessions take tens of milliseconds. Other tasks run in between.
    """
    parts: list[str] = []
    for number, item in enumerate(items, 1):
        parts.append(json_text(item))
        if number % _LIST_STEP == 0:
            await asyncio.sleep(0)
    return answer_text(f"[{','.join(parts)}]", headers=headers)


def refusal(status: int, message: str, *, field: str | None = None, retry_after: int | None = None) -> web.Response:
    """Returns `{"error", "field"}`; without `field` if no field is wrong. retry_after: seconds."""
    body = {"error": message} if field is None else {"error": message, "field": field}
    return answer(body, status, None if retry_after is None else {"Retry-After": str(retry_after)})


def with_headers(response: R) -> R:
    """Adds the headers of every answer that the answer does not have yet, and returns it."""
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    return response


def error_answer(error: Exception) -> web.Response | None:
    """Returns the answer to an error in `_STATUS`; None for any other error."""
    status = next((status for status, kinds in _STATUS if isinstance(error, kinds)), None)
    if status is None:
        return None
    message, retry_after = getattr(error, "message", str(error)), getattr(error, "retry_after", None)
    if isinstance(error, errors.AtCapacity):
        log.warning("no capacity", reason=message)
        retry_after = 5
    elif isinstance(error, errors.StoreUnavailable | errors.StoreUnusable):
        # The store's own message (paths, table names) goes only to the log.
        log.warning("store unavailable", reason=message)
        shown = error if isinstance(error, errors.StoreUnavailable) else errors.StoreUnavailable(message)
        message, retry_after = shown.public, shown.retry_after
    return refusal(status, message, field=getattr(error, "field", None), retry_after=retry_after)


def http_error_answer(request: web.Request, error: web.HTTPException) -> web.StreamResponse:
    """Returns aiohttp's own refusals (routing, body size) in the API's form."""
    status = error.status
    headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else None
    if status == 404:
        return refusal(404, f"no such route: {request.method} {request.path[:200]}")
    if status == 405:
        return answer({"error": f"unsupported method {request.method[:20]} on this route"}, 405, headers)
    if status == 413:
        limit = request.app[CONTEXT].limits.body
        return refusal(413, f"the body is larger than {limit} bytes")
    return refusal(status, error.reason)


@web.middleware
async def answer_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """The outermost middleware. Counts every answer of `error_middleware`, and logs refusals."""
    response = await error_middleware(request, handler)
    request.app[CONTEXT].metrics.api_requests.add(f"{response.status // 100}xx")
    if 400 <= response.status < 500 and response.status != 429:  # lines for 429 would flood the log
        _log_refusal(request, response)
    return response


@web.middleware
async def error_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Converts every result to one JSON answer with the headers."""
    response: web.StreamResponse
    try:
        response = await handler(request)
    except web.HTTPException as error:
        response = http_error_answer(request, error)
    except (errors.GatewayError, BadRequest, Conflict, Missing) as error:
        response = error_answer(error) or _internal_error(request, error)
    except ConnectionError as error:
        if not is_connected(request):
            response = refusal(400, "the client disconnected before its answer")  # never sent
        else:
            response = _internal_error(request, error)  # an error of another connection of this process
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _DISK_FULL:
            log.warning("a file cannot be stored", path=request.path[:200], reason=str(error))
            response = refusal(507, "the gateway's disk cannot hold the file now")
        else:
            response = _internal_error(request, error)
    return with_headers(response)


def is_connected(request: web.Request) -> bool:
    """Whether the client is still connected."""
    return request.transport is not None and not request.transport.is_closing()


async def send_stream(request: web.Request, response: web.StreamResponse, chunks: AsyncIterator[bytes]) -> None:
    """Sends a long answer. An error in the middle closes the connection, because the head was sent.

    A client that does not read a piece in time is disconnected, because few long answers are possible at a time.
    """
    stall = request.app[CONTEXT].limits.stall
    await response.prepare(request)
    try:
        async for chunk in chunks:
            try:
                async with asyncio.timeout(stall or None):
                    await response.write(chunk)
            except TimeoutError:
                raise OSError(f"its client has read less than {len(chunk)} bytes in {stall:g} s") from None
    except (errors.GatewayError, OSError) as error:
        if is_connected(request):
            channel = request.match_info.get("id")
            log.warning("an export was cut off", channel=channel, peer=request[CLIENT].address, reason=str(error))
            assert request.transport is not None  # it is connected
            request.transport.abort()
        return
    await response.write_eof()


def _internal_error(request: web.Request, error: Exception) -> web.Response:
    log.error("api request failed", method=request.method, path=request.path[:200], exc_info=error)
    return refusal(500, "internal error")


def limit_refusal_lines(app: web.Application) -> None:
    """Limits the log lines for refused requests of an application."""
    app[_LIMITER] = LogRateLimiter(_MAX_LOG_LINES)


def _log_refusal(request: web.Request, response: web.StreamResponse) -> None:
    suppressed = request.app[_LIMITER].admit()
    if suppressed is None:
        return
    reason = ""
    if isinstance(response, web.Response) and isinstance(response.body, bytes) and len(response.body) < 2_000:
        reason = str(json.loads(response.body).get("error", "")) if response.content_type == "application/json" else ""
    log.info(
        "api request refused",
        status=response.status,
        method=request.method,
        path=request.path[:200],
        peer=request[CLIENT].address,
        reason=reason[:200],
        **suppressed,
    )
