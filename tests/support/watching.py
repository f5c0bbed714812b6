"""Viewers in threads: they note when pictures arrive, and which playlists and errors a player gets."""

from __future__ import annotations

import contextlib
import itertools
import re
import threading
import time
import urllib.request
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from gateway.formats.flv.tag import TrackStart
from gateway.media.track import AccessUnit, Kind
from tests.support.flv_reader import FlvFileDemuxer
from tests.support.gateway import Reply, http
from tests.support.time_outs import at_most


class _Viewer(threading.Thread):
    """A thread that runs until the end of its `with` block."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.over = threading.Event()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.over.set()
        self.join(at_most(30))


class FlvViewer(_Viewer):
    """Plays HTTP-FLV. pictures: monotonic arrival time and decode time (ms) of each. ended: the stream ended."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.pictures: list[tuple[float, int]] = []
        self.ended = False
        self._url = url

    def run(self) -> None:
        demuxer = FlvFileDemuxer()
        with contextlib.suppress(OSError), urllib.request.urlopen(self._url, timeout=at_most(30)) as answer:
            while not self.over.is_set() and (data := answer.read1(65536)):
                now = time.monotonic()
                for event in demuxer.receive(data):
                    unit = event.unit if isinstance(event, TrackStart) else event
                    if isinstance(unit, AccessUnit) and unit.track.kind is Kind.VIDEO:
                        self.pictures.append((now, unit.dts))
        self.ended = True

    def gap_after(self, moment: float) -> float | None:
        """Returns the seconds from a monotonic moment to the next picture; None: there is none yet."""
        return next((at - moment for at, _ in list(self.pictures) if at > moment), None)

    def longest_gap(self, since: float) -> float:
        """Returns the longest time between two pictures after a monotonic moment, in seconds."""
        times = [since, *(at for at, _ in list(self.pictures) if at > since)]
        return max(after - before for before, after in itertools.pairwise(times))


@dataclass(frozen=True)
class Playlist:
    """A media playlist that a player got. at: monotonic time. numbers: of its segments."""

    at: float
    sequence: int
    discontinuity: int
    text: str
    names: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, text: str, at: float) -> Playlist:
        names = [line.partition("?")[0] for line in text.splitlines() if line and not line.startswith("#")]
        return cls(at, number(text, "MEDIA-SEQUENCE"), number(text, "DISCONTINUITY-SEQUENCE"), text, names)

    @property
    def last(self) -> int:
        """The Media Sequence Number of the last complete segment."""
        return self.sequence + len(self.names) - 1


class HlsReader(_Viewer):
    """Asks for a media playlist ten times a second.

    blocks: asks for the next segment instead, as players of LL-HLS do.
    replies: answers other than 200. playlists: without repetitions.
    """

    def __init__(self, url: str, *, blocks: bool = False) -> None:
        super().__init__()
        self.playlists: list[Playlist] = []
        self.replies: list[Reply] = []
        self._url = url
        self._blocks = blocks

    def run(self) -> None:
        while not self.over.wait(0.1):
            query = f"?_HLS_msn={self.playlists[-1].last + 1}" if self._blocks and self.playlists else ""
            reply = http("GET", self._url + query, timeout=60)
            if reply.status != 200:
                self.replies.append(reply)
            elif not self.playlists or self.playlists[-1].text != reply.text:
                self.playlists.append(Playlist.of(reply.text, time.monotonic()))

    def names(self) -> dict[int, list[str]]:
        """Returns the names of the segments by number. A number with two names was used twice."""
        found: dict[int, list[str]] = {}
        for playlist in list(self.playlists):
            for offset, name in enumerate(playlist.names):
                known = found.setdefault(playlist.sequence + offset, [])
                if name not in known:
                    known.append(name)
        return found


def number(text: str, tag: str) -> int:
    """Returns the number of an EXT-X tag, or 0 without the tag."""
    found = re.search(rf"#EXT-X-{tag}:(\d+)", text)
    return int(found[1]) if found else 0
