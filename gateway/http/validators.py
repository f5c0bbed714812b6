"""Answers for a finished file or object of known size: ETag and Last-Modified, 304, ranges."""

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime

from gateway.http.request import Request
from gateway.http.response import Response, byte_range, unsatisfiable


def validators(tag: str, modified: float) -> dict[str, str]:
    """Returns the headers for revalidation.

    tag: strong, in quotes.
    modified: seconds since 1970.
    """
    return {"ETag": tag, "Last-Modified": format_datetime(_to_datetime(modified), usegmt=True)}


def unchanged(request: Request, tag: str, modified: float) -> bool:
    """Whether the copy of the client is still valid. RFC 9110 §13.2.2: If-None-Match comes before If-Modified-Since."""
    tags = request.headers.get("if-none-match")
    if tags is not None:
        return tags.strip() == "*" or tag in [t.strip().removeprefix("W/") for t in tags.split(",")]
    since = request.headers.get("if-modified-since")
    if since is None:
        return False
    try:
        return _to_datetime(modified) <= parsedate_to_datetime(since)
    except (ValueError, TypeError, OverflowError):
        return False


def file_response(
    request: Request,
    body: Callable[[int, int], AsyncIterator[bytes]],
    size: int,
    *,
    tag: str,
    modified: float,
    kind: str,
    cache: str,
) -> Response:
    """Returns 200, 206, 304 or 416.

    body: body(first, end) yields the bytes from first to end (exclusive). Called only if these bytes are sent.
    tag, modified: as in `validators`.
    kind: the Content-Type.
    cache: the Cache-Control.
    With `download` in the query, browsers save the file under the last part of its path.
    """
    headers = {**validators(tag, modified), "Accept-Ranges": "bytes"}
    if "download" in request.query:
        headers["Content-Disposition"] = "attachment"
    if unchanged(request, tag, modified):
        return Response(304, None, cache=cache, headers=headers)
    first, end, code = 0, size, 200
    if_range = request.headers.get("if-range")
    if request.method == "GET" and (if_range is None or if_range == tag):
        span = byte_range(request.headers.get("range", ""), size)
        if span is not None:
            first, end = span
            if first >= end:
                return unsatisfiable(size)
            headers["Content-Range"] = f"bytes {first}-{end - 1}/{size}"
            code = 206
    return Response(code, body(first, end), kind, cache=cache, headers=headers).sized(end - first)


def _to_datetime(modified: float) -> datetime:
    return datetime.fromtimestamp(int(modified), UTC)
