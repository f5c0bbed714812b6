"""Just enough of an HLS client for the bench: playlists, and how soon a low-latency part can be had."""

from __future__ import annotations

import http.client
import math
import re
import time
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

from bench.harness.procs import BenchError

STAMP = b"\xa5\x5a#LATENCY-PROBE"  # what rtmppush writes before every frame, then 16 hex digits: monotonic µs


class Connection:
    """One keep-alive connection to the host of a URL."""

    def __init__(self, url: str, timeout: float = 15) -> None:
        u = urlsplit(url)
        self._c = http.client.HTTPConnection(u.hostname or "", u.port or 80, timeout=timeout)

    def get(self, url: str) -> bytes:
        """The body; BenchError for another status than 200."""
        u = urlsplit(url)
        try:
            self._c.request("GET", u.path + (f"?{u.query}" if u.query else ""))
            r = self._c.getresponse()
            body = r.read()
        except (OSError, http.client.HTTPException) as e:
            self._c.close()
            raise BenchError(f"GET {u.path}: {type(e).__name__} {e}") from e
        if r.status != 200:
            raise BenchError(f"GET {u.path} answered {r.status}: {body[:100]!r}")
        return body

    def close(self) -> None:
        self._c.close()


def media_playlist(connection: Connection, url: str, seconds: float = 30) -> str:
    """The URL of the first media playlist with a segment in it, following a multivariant one; waits for it."""
    end = time.monotonic() + seconds
    while True:
        try:
            text = connection.get(url).decode()
            if "#EXT-X-STREAM-INF" in text:
                url = urljoin(url, next(x for x in text.splitlines() if x and not x.startswith("#")))
            elif text.count("#EXTINF") >= 3:
                return url
        except BenchError:
            if time.monotonic() > end:
                raise
        if time.monotonic() > end:
            raise BenchError(f"{url} has no segments after {seconds:.0f} s")
        time.sleep(0.2)


def segments(text: str, url: str) -> list[str]:
    """URLs of the segments that stand in a media playlist."""
    return [urljoin(url, x) for x in text.splitlines() if x and not x.startswith("#")]


@dataclass(frozen=True, slots=True)
class Edge:
    """The live edge of a low-latency playlist: its newest part, and what to ask a blocking reload for next."""

    newest: str | None
    msn: int
    part: int


def edge(text: str, url: str) -> Edge:
    """Reads the live edge (RFC 8216bis sections 4.4.3.2, 4.4.4.9 and 6.2.5.2)."""
    msn = int((re.search(r"#EXT-X-MEDIA-SEQUENCE:(\d+)", text) or ["", "0"])[1])
    newest: str | None = None
    open_parts = 0
    for line in text.splitlines():
        if line.startswith("#EXT-X-PART:") and (uri := re.search(r'URI="([^"]+)"', line)):
            newest = urljoin(url, uri[1])
            open_parts += 1
        elif line.startswith("#EXTINF"):
            msn += 1
            open_parts = 0
        elif m := re.match(r"#EXT-X-SKIP:.*SKIPPED-SEGMENTS=(\d+)", line):
            msn += int(m[1])
    return Edge(newest, msn, open_parts)


@dataclass(frozen=True, slots=True)
class PartDelay:
    """One part, in milliseconds after its last frame left the publisher: when the playlist naming it had arrived, and
    when its bytes had."""

    listed: float
    fetched: float
    frames: int
    size: int


def part_delays(master: str, seconds: float) -> list[PartDelay]:
    """Follows the stream as a low-latency player does: a blocking reload for the next part, then that part.

    The last stamp within a part is the moment at which the publisher wrote the part's last frame to its socket
    (CLOCK_MONOTONIC, the same machine), so the delays hold the way in, the packaging and the way out.
    """
    control, media = Connection(master), Connection(master)
    found: list[PartDelay] = []
    try:
        url = media_playlist(control, master)
        at = edge(control.get(url).decode(), url)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            text = control.get(f"{url}{'&' if '?' in url else '?'}_HLS_msn={at.msn}&_HLS_part={at.part}").decode()
            listed = time.monotonic()
            now = edge(text, url)
            if now == at or now.newest is None:
                raise BenchError("a blocking reload answered without the part that was asked for")
            body = media.get(now.newest)
            fetched = time.monotonic()
            stamps = [body[i.end() : i.end() + 16] for i in re.finditer(re.escape(STAMP), body)]
            # The next part of its segment, or the one that also ended it, or the first of the next segment.
            if stamps and (now.msn, now.part) in ((at.msn, at.part + 1), (at.msn + 1, 0), (at.msn + 1, 1)):
                sent = int(stamps[-1], 16) / 1e6
                found.append(PartDelay((listed - sent) * 1e3, (fetched - sent) * 1e3, len(stamps), len(body)))
            at = now
    finally:
        control.close()
        media.close()
    if not found:
        raise BenchError("no part with a latency stamp was seen")
    return found


def percentile(values: list[float], p: float) -> float:
    """The nearest value at p (0 to 1) of an unsorted list; nan of none."""
    ordered = sorted(values)
    return ordered[math.floor(p * (len(ordered) - 1) + 0.5)] if ordered else math.nan
