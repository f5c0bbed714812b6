"""Answers of other nodes in a memory cache. A viewer's answer gets that viewer's query string and the current time."""

from __future__ import annotations

import json
import re
from collections import OrderedDict
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import cached_property
from html import escape
from typing import Any, Final

from aiohttp import ClientResponse

from gateway.http.request import Request
from gateway.http.response import VARY, Response
from gateway.http.validators import unchanged
from gateway.lib import bounded_json
from gateway.lib.numbers import read_integer
from gateway.lib.rfc3339 import rfc3339
from gateway.playback.formats import FILES, viewer_protocol
from gateway.playback.internal_playback import BIT_RATE
from gateway.playback.play_format import CacheClass
from gateway.playback.playlist_response import M3U8, refuse_copies
from gateway.playback.recording_files import with_query

# A node appends the query string of a playlist request to every URI in the playlist. Requests to it have this fixed
# query, and each viewer's query replaces it. So one answer serves all viewers, and other nodes see no signature.
QUERY: Final = "millrace-query=0"
_SUFFIX: Final = "?" + QUERY
_MARK: Final = b"\x01"  # RFC 8216 §4.1: a playlist has no control characters
_DIRECT: Final = re.compile(r'(<UTCTiming schemeIdUri="urn:mpeg:dash:utc:direct:2014" value=")([^"]*)(")')
_MAX_AGE: Final = re.compile(r"max-age=([0-9]{1,9})\b")
_PART_TARGET: Final = re.compile(rb"PART-TARGET=([0-9]{1,6}(?:\.[0-9]{1,9})?)")
_SEQUENCE: Final = re.compile(rb"#EXT-X-MEDIA-SEQUENCE:([0-9]{1,18})")
_FORWARDED: Final = (
    "Content-Type", "Cache-Control", "ETag", "Last-Modified", "Retry-After", "Content-Range", "Content-Disposition",
    "Content-Security-Policy", "Referrer-Policy", BIT_RATE,
)  # fmt: skip
_MAX_BIT_RATE: Final = 10**12

_OVERHEAD: Final = 1_024  # bytes counted for an entry besides its body, because viewers can request any number of names


@dataclass(frozen=True, slots=True)
class ResponseHead:
    """The head of a node's answer, with the headers that are forwarded.

    kind: its Content-Type. cache: its Cache-Control.
    length: bytes of the body; None if the node did not send it.
    """

    status: int
    kind: str
    cache: str
    headers: Mapping[str, str]
    length: int | None = None

    @classmethod
    def of(cls, response: ClientResponse) -> ResponseHead:
        """Returns the head of a node's answer. Leaves out headers with invalid characters."""
        headers = response.headers
        forwarded = {n: v for n in _FORWARDED if (v := headers.get(n)) is not None and v.isascii() and v.isprintable()}
        kind = forwarded.pop("Content-Type", "application/octet-stream")
        cache = forwarded.pop("Cache-Control", "no-store")
        return cls(response.status, kind, cache, forwarded, response.content_length)

    @property
    def max_age(self) -> float:
        """Seconds for which the answer may be cached; 0 if it must not be cached."""
        found = _MAX_AGE.search(self.cache)
        return float(found[1]) if found is not None and "no-store" not in self.cache else 0.0

    @property
    def bitrate(self) -> int:
        """Bits per second of the stream; 0: the node did not send it."""
        return read_integer(self.headers.get(BIT_RATE, ""), _MAX_BIT_RATE) or 0

    def response(self, body: Any, *, compress: bool = False) -> Response:
        """Returns the answer with this body. If the body is a stream of bytes, its length is from the head."""
        answer = Response(self.status, body, self.kind, cache=self.cache, headers=self.headers, compress=compress)
        return answer if isinstance(body, bytes) else answer.sized(self.length)


@dataclass
class CachedResponse:
    """One cached answer.

    received: monotonic seconds.
    fresh_until: monotonic seconds until which it may answer a request.
    stale_until: monotonic seconds until which it may answer if no node does.
    protocol: the protocol for which players of this file are counted; "" if they are not counted.
    """

    head: ResponseHead
    body: bytes
    received: float
    fresh_until: float = 0.0
    stale_until: float = 0.0
    protocol: str = ""

    @property
    def size(self) -> int:
        return len(self.body)

    def answer(self, request: Request, suffix: str, now: float) -> Response:
        """Returns the answer for a viewer. Hot path.

        suffix: the viewer's query string, as `copied_query` returns it.
        now: monotonic seconds.
        """
        return self._plain

    @cached_property
    def _plain(self) -> Response:
        """The answer for a viewer without a query string."""
        return self.head.response(self.body)


class CachedPlaylist(CachedResponse):
    """A live HLS playlist."""

    @cached_property
    def first_number(self) -> int:
        """The value of EXT-X-MEDIA-SEQUENCE; 0 if it is missing."""
        found = _SEQUENCE.search(self.body)
        return int(found[1]) if found is not None else 0

    @cached_property
    def part_target(self) -> float:
        """The value of PART-TARGET in seconds; 0 if the playlist has no parts."""
        found = _PART_TARGET.search(self.body)
        return float(found[1]) if found is not None else 0.0

    def answer(self, request: Request, suffix: str, now: float) -> Response:
        return self._with_suffix(suffix) if suffix else self._plain

    @cached_property
    def _plain(self) -> Response:
        return self._with_suffix("")

    def _with_suffix(self, suffix: str) -> Response:
        if (refusal := refuse_copies(suffix, self.body.count(QUERY.encode()))) is not None:
            return refusal
        body = self.body.replace(_SUFFIX.encode(), suffix.encode())
        if self._has_rewind:
            body = body.replace(b"&" + QUERY.encode(), suffix.replace("?", "&", 1).encode())
        return self.head.response(body, compress=True)

    @cached_property
    def _has_rewind(self) -> bool:
        """Whether URIs have another parameter before QUERY, as in `master.m3u8?rewind=…`."""
        return b"&" + QUERY.encode() in self.body


class CachedManifest(CachedResponse):
    """An MPD. The age of the cached answer is added to the time in its UTCTiming element."""

    def answer(self, request: Request, suffix: str, now: float) -> Response:
        age = timedelta(seconds=max(0.0, now - self.received))
        # formats.dash.mpd.finish escapes in the same way: "$" begins an identifier of a template.
        query = escape(suffix.replace("$", "$$"))
        text = self.body.decode("utf-8", "replace").replace(_SUFFIX, query)
        text = _DIRECT.sub(lambda m: m[1] + _add_to_date(m[2], age) + m[3], text)
        return self.head.response(text.encode(), compress=True)


def _add_to_date(text: str, by: timedelta) -> str:
    try:
        return rfc3339((datetime.fromisoformat(text) + by).timestamp())
    except (ValueError, OverflowError):
        return text


class CachedStatus(CachedResponse):
    """A `status.json`. The age of the cached answer is added to its `now`."""

    def answer(self, request: Request, suffix: str, now: float) -> Response:
        try:
            status = bounded_json.loads(self.body)
            status["now"] = round(status["now"] + max(0.0, now - self.received) * 1000)
        except (ValueError, TypeError, KeyError):
            return super().answer(request, suffix, now)
        return self.head.response(json.dumps(status).encode())


class CachedFile(CachedResponse):
    """A small file of a recording, with validators. `with_query` adds the query string to a playlist."""

    def answer(self, request: Request, suffix: str, now: float) -> Response:
        head = self.head
        if suffix and head.kind == M3U8:
            refusal = refuse_copies(suffix, self._marked.count(_MARK))
            if refusal is not None:
                return refusal
            body = self._marked.replace(_MARK, suffix[1:].encode())
            return Response(head.status, body, head.kind, cache=head.cache, compress=True)
        tag, modified = head.headers.get("ETag"), head.headers.get("Last-Modified")
        if tag and modified and unchanged(request, tag, _timestamp(modified)):
            validators = {"ETag": tag, "Last-Modified": modified} | (VARY if head.kind == M3U8 else {})
            return Response(304, None, cache=head.cache, headers=validators)
        return self._plain

    @cached_property
    def _marked(self) -> bytes:
        """The playlist with _MARK in place of each viewer's query. A long one takes tens of milliseconds."""
        return with_query(self.body.decode("utf-8", "replace"), f"?{_MARK.decode()}").encode()

    @cached_property
    def _plain(self) -> Response:
        return self.head.response(self.body, compress=self.head.kind == M3U8)


def _timestamp(text: str) -> float:
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, OverflowError):
        return float("inf")  # the date is invalid, so the file counts as changed


_RESPONSE_CLASSES: Final = {CacheClass.PLAYLIST: CachedPlaylist, CacheClass.MANIFEST: CachedManifest}


def to_cached_response(path: str, head: ResponseHead, body: bytes, now: float) -> CachedResponse:
    """Returns the cached answer for `path`, which is relative to the stream. The caller sets its lifetimes."""
    if path.startswith("vod/"):
        return CachedFile(head, body, now)
    if head.status != 200:
        return CachedResponse(head, body, now)
    if path == "status.json":
        return CachedStatus(head, body, now)
    cache_class = FILES.get(path.rpartition(".")[2])
    response_class = CachedResponse if cache_class is None else _RESPONSE_CLASSES.get(cache_class, CachedResponse)
    # Players of an ended playlist are not counted.
    ended = cache_class is CacheClass.PLAYLIST and b"#EXT-X-ENDLIST" in body
    return response_class(head, body, now, protocol="" if ended else viewer_protocol(path, body))


class Cache:
    """A memory cache of at most `max_bytes` bytes. It removes the least recently used entry first.

    It does not accept an entry larger than an eighth of its size. Times are parameters, in monotonic seconds.
    Counters: `hits`, `misses`. `bytes`: current size of all entries.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._entries: OrderedDict[Hashable, CachedResponse] = OrderedDict()
        self.bytes = 0
        self.hits = 0
        self.misses = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: Hashable, now: float) -> CachedResponse | None:
        """Returns the entry if it is fresh. Hot path."""
        entry = self._entries.get(key)
        if entry is None or entry.fresh_until <= now:
            self.misses += 1
            if entry is not None and entry.stale_until <= now:
                self.remove(key)
            return None
        self.hits += 1
        self._entries.move_to_end(key)
        return entry

    def stale(self, key: Hashable, now: float) -> CachedResponse | None:
        """Returns the entry if it may be used when no node answers."""
        entry = self._entries.get(key)
        # An answer to a blocking reload is fresh for minutes, because it never changes. It is the newest only briefly.
        return entry if entry is not None and (entry.stale_until or entry.fresh_until) > now else None

    def put(self, key: Hashable, entry: CachedResponse) -> None:
        """Stores the entry. Replaces an older one with this key."""
        self.remove(key)
        size = entry.size + _OVERHEAD
        if size > self._max_bytes // 8:
            return
        self._entries[key] = entry
        self.bytes += size
        while self.bytes > self._max_bytes:
            _, oldest = self._entries.popitem(last=False)
            self.bytes -= oldest.size + _OVERHEAD

    def remove(self, key: Hashable) -> None:
        """Removes the entry, if it exists."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.bytes -= entry.size + _OVERHEAD
