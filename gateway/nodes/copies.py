"""Copies: what a holder answered, made ready for any viewer: each one's own query, the time as it is now."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import cached_property
from typing import Any, Final
from xml.sax.saxutils import escape

from gateway.formats.dash.mpd import date
from gateway.servers.dash import MPD
from gateway.servers.recordings import with_query
from gateway.servers.request import Request
from gateway.servers.response import JSON, Response
from gateway.servers.segmented import M3U8
from gateway.servers.stored import unchanged

# A holder copies a playlist's query behind every URI in it. It is asked with this one, and what viewers sent is put in
# its place: one answer serves all of them, and no holder sees a signature.
QUERY: Final = "millrace-query=0"
_SUFFIX: Final = "?" + QUERY
_DIRECT: Final = re.compile(r'(<UTCTiming schemeIdUri="urn:mpeg:dash:utc:direct:2014" value=")([^"]*)(")')
_MAX_AGE: Final = re.compile(r"max-age=([0-9]{1,9})\b")
_PART_TARGET: Final = re.compile(rb"PART-TARGET=([0-9]{1,6}(?:\.[0-9]{1,9})?)")
_SEQUENCE: Final = re.compile(rb"#EXT-X-MEDIA-SEQUENCE:([0-9]{1,18})")
_PASSED: Final = (
    "Content-Type", "Cache-Control", "ETag", "Last-Modified", "Retry-After", "Content-Range", "Content-Disposition",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Head:
    """The head of a holder's answer, as far as it is passed on. length: None where it was not told."""

    status: int
    kind: str
    cache: str
    headers: Mapping[str, str]
    length: int | None = None

    @classmethod
    def of(cls, status: int, headers: Mapping[str, str], length: int | None) -> Head:
        """From an answer's headers, without those that cannot be passed on."""
        said = {n: v for n in _PASSED if (v := headers.get(n)) is not None and v.isascii() and v.isprintable()}
        kind, cache = said.pop("Content-Type", "application/octet-stream"), said.pop("Cache-Control", "no-store")
        return cls(status, kind, cache, said, length)

    @property
    def max_age(self) -> float:
        """Seconds for which it may be kept; 0 where it may not."""
        found = _MAX_AGE.search(self.cache)
        return float(found[1]) if found is not None and "no-store" not in self.cache else 0.0

    def response(self, body: Any, *, compress: bool = False) -> Response:
        """The answer with this body; of a stream of bytes the length is what was told."""
        length = None if isinstance(body, bytes) else self.length
        return Response(
            self.status, body, self.kind, cache=self.cache, headers=self.headers, compress=compress, length=length
        )


@dataclass
class Copy:
    """One answer. received: monotonic seconds; protocol: what players of it count as, "" for none."""

    head: Head
    body: bytes
    received: float
    fresh_until: float = 0.0
    stale_until: float = 0.0
    protocol: str = ""
    _plain: Response | None = field(default=None, repr=False)

    @property
    def size(self) -> int:
        return len(self.body)

    def answer(self, request: Request, suffix: str, now: float) -> Response:
        """Hot. For a viewer whose query, as `copied_query` gives it, is `suffix`."""
        plain = self._plain
        if plain is None:
            plain = self._plain = self.head.response(self.body)
        return plain


class Playlist(Copy):
    """An HLS playlist of something live."""

    @cached_property
    def first_number(self) -> int:
        """EXT-X-MEDIA-SEQUENCE; 0 where it is not said."""
        found = _SEQUENCE.search(self.body)
        return int(found[1]) if found is not None else 0

    @cached_property
    def part_target(self) -> float:
        """PART-TARGET, seconds; 0 where there are no parts."""
        found = _PART_TARGET.search(self.body)
        return float(found[1]) if found is not None else 0.0

    def answer(self, request: Request, suffix: str, now: float) -> Response:
        if suffix:
            return self._with(suffix)
        if self._plain is None:
            self._plain = self._with("")
        return self._plain

    def _with(self, suffix: str) -> Response:
        return self.head.response(self.body.replace(_SUFFIX.encode(), suffix.encode()), compress=True)


class Manifest(Copy):
    """An MPD: the time that it tells goes on from what the holder's clock said."""

    def answer(self, request: Request, suffix: str, now: float) -> Response:
        later = timedelta(seconds=max(0.0, now - self.received))
        # As formats.dash.mpd.finish writes it: "$" begins an identifier of a template.
        query = escape(suffix.replace("$", "$$"), {'"': "&quot;"})
        text = self.body.decode("utf-8", "replace").replace(_SUFFIX, query)
        return self.head.response(
            _DIRECT.sub(lambda m: m[1] + _later(m[2], later) + m[3], text).encode(), compress=True
        )


def _later(text: str, by: timedelta) -> str:
    try:
        return date((datetime.fromisoformat(text) + by).timestamp())
    except (ValueError, OverflowError):
        return text


class Status(Copy):
    """A `status.json`, whose `now` goes on as a Manifest's time does."""

    def answer(self, request: Request, suffix: str, now: float) -> Response:
        try:
            said = json.loads(self.body)
            said["now"] = round(said["now"] + max(0.0, now - self.received) * 1000)
        except (ValueError, TypeError, KeyError):
            return super().answer(request, suffix, now)
        return self.head.response(json.dumps(said).encode())


class Stored(Copy):
    """A small file of what is recorded: it has validators, and its playlists get the query as Recordings gives it."""

    def answer(self, request: Request, suffix: str, now: float) -> Response:
        head = self.head
        if suffix and head.kind == M3U8:
            body = with_query(self.body.decode("utf-8", "replace"), suffix).encode()
            return Response(head.status, body, head.kind, cache=head.cache, compress=True)
        tag, modified = head.headers.get("ETag"), head.headers.get("Last-Modified")
        if tag and modified and unchanged(request, tag, _epoch(modified)):
            validators = {"ETag": tag, "Last-Modified": modified}
            return Response(304, None, cache=head.cache, headers=validators)
        if self._plain is None:
            self._plain = head.response(self.body, compress=head.kind == M3U8)
        return self._plain


def _epoch(text: str) -> float:
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, OverflowError):
        return float("inf")  # never unchanged


def copy_of(path: str, head: Head, body: bytes, now: float) -> Copy:
    """The copy of the answer to `path`, below a stream. Lifetimes are who keeps it's to set."""
    kind: type[Copy] = Copy
    if path.startswith("vod/"):
        kind = Stored
    elif head.status == 200 and head.kind == M3U8:
        kind = Playlist
    elif head.status == 200 and head.kind == MPD:
        kind = Manifest
    elif head.status == 200 and head.kind == JSON and path == "status.json":
        kind = Status
    return kind(head, body, now, protocol=_protocol(path, head, body))


def _protocol(path: str, head: Head, body: bytes) -> str:
    """As the holder's routes count: not whoever looks at an index or at what has ended."""
    if head.status != 200 or path.startswith("vod/") or path == "index.m3u8":
        return ""
    if path.endswith(".ts") or path == "live.m3u8":
        protocol = "hls"
    elif path.endswith(".m3u8"):
        protocol = "hls" if b".ts" in body and b"#EXT-X-MAP" not in body else "cmaf"
    elif path.endswith((".m4s", ".mp4", ".mpd")):
        protocol = "cmaf"
    else:
        return ""
    return "" if head.kind == M3U8 and b"#EXT-X-ENDLIST" in body else protocol
