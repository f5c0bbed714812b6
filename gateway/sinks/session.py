"""Session: an on-demand recording on disk: the open segment, and a journal from which a crash is recovered."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from gateway.formats.hls import media
from gateway.hub.names import is_channel_id
from gateway.sinks.growing import Growing, trouble
from gateway.sinks.naming import segment_uri

SCRATCH: Final = "ondemand"
JOURNAL: Final = "journal"
_VERSION: Final = 3  # EXTINF with fractions
_LONG_JOURNAL: Final = 1_000_000  # bytes
_LONGEST_LINE: Final = 4096
_MOST_ENTRIES: Final = 5_000_000


@dataclass(frozen=True, slots=True)
class Entry:
    """A segment. fresh: it does not continue the one before it; wall: of its first frame, seconds since the epoch."""

    number: int
    seconds: float
    bytes: int
    fresh: bool
    wall: float


@dataclass(slots=True)
class Told:
    """What a journal tells: finished segments, and the open one (None: there is none) as far as it was written."""

    entries: list[Entry]
    open: Entry | None
    points: list[tuple[int, float]]  # of the open one: after so many bytes it was so many seconds long

    def saved(self, size: int) -> Entry | None:
        """The open segment where its file has `size` bytes: as far as the journal vouches for it."""
        at = max((p for p in self.points if p[0] <= size), default=None)
        if self.open is None or at is None or not at[0]:
            return None
        return replace(self.open, bytes=at[0], seconds=at[1])


class Session:
    """Files in `<scratch>/<channel>~<start ms>/`: `<number>.ts`, and the journal, which holds the lock.

    Journal lines are JSON: `begin` a segment, `at` so many bytes and seconds of it, `done`. A segment is `done` before
    it is brought away, so one that is done and still lies here has yet to be. `trim` says that those before a number
    have aged out. Everything here blocks and belongs into a thread; raises OutputTrouble.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # As a Growing file: under its name it is locked from the first moment on.
        hidden = folder.with_name(f".{folder.name}")
        with trouble(folder.parent):
            hidden.mkdir(exist_ok=True)
        self._journal = Growing(hidden / JOURNAL)
        with trouble(folder.parent):
            hidden.rename(folder)
        self._segments: dict[int, Growing] = {}
        self._most = _LONG_JOURNAL

    def begin(self, number: int, fresh: bool, wall: float) -> None:
        self._note({"begin": number, "fresh": fresh, "wall": round(wall, 3)})
        self._segments[number] = Growing(segment_file(self.folder, number))

    def append(self, number: int, data: list[bytes], seconds: float) -> None:
        """Whole transport packets; seconds: of the segment with them."""
        file = self._segments[number]
        file.append(data)
        self._note({"at": file.size, "seconds": round(seconds, 5), "of": number})

    def trim(self, entries: list[Entry]) -> None:
        """These segments are left, the older ones aged out."""
        self._note({"trim": entries[0].number})

    def done(self, number: int, seconds: float) -> tuple[Path, int]:
        """Completes a segment; its file and bytes."""
        file = self._segments.pop(number)
        file.close()
        self._note({"done": number, "seconds": seconds, "bytes": file.size})
        return file.path, file.size

    def compact(self, entries: list[Entry]) -> None:
        """Writes the journal anew where it has grown long: all finished segments, not how they grew."""
        if self._journal.size <= self._most or self._segments:
            return
        earlier, self._journal = self._journal, Growing(self.folder / JOURNAL)  # takes its name, locked
        lines = []
        for e in entries:
            begin = {"begin": e.number, "fresh": e.fresh, "wall": e.wall}
            lines += [begin, {"done": e.number, "seconds": e.seconds, "bytes": e.bytes}]
        self._journal.append([json.dumps(line).encode() + b"\n" for line in lines])
        self._most = 2 * self._journal.size + _LONG_JOURNAL
        earlier.close()

    def write_playlist(self, text: str) -> Path:
        """A file with it, to be brought away."""
        path = self.folder / "playlist"
        with trouble(self.folder):
            path.write_text(text, encoding="utf-8")
        return path

    def close(self) -> None:
        """Gives the lock up; what is open is recovered by who comes next."""
        for file in self._segments.values():
            file.close()
        self._segments = {}
        self._journal.close()

    def remove(self) -> None:
        """All of it was brought away."""
        self.close()
        with trouble(self.folder.parent):
            shutil.rmtree(self.folder)

    def _note(self, line: dict[str, Any]) -> None:
        self._journal.append([json.dumps(line).encode() + b"\n"])


def segment_file(folder: Path, number: int) -> Path:
    return folder / f"{number}.ts"


def folder_name(channel: str, start_ms: int) -> str:
    return f"{channel}~{start_ms}"


def parse_folder_name(name: str) -> tuple[str, int] | None:
    """Channel and start of a session's folder; None for any other."""
    channel, tilde, start = name.rpartition("~")
    if not tilde or len(start) != 13 or not start.isdecimal() or not is_channel_id(channel):
        return None
    return channel, int(start)


def playlist(entries: list[Entry]) -> str:
    """The playlist of these segments, at least one: always whole, as a player needs it that must not reload."""
    lines = []
    for n, entry in enumerate(entries):
        if entry.fresh and n:
            lines.append(media.DISCONTINUITY)
        if entry.fresh or not n:
            lines.append(media.program_date_time(entry.wall))
        lines.append(media.segment(entry.seconds, segment_uri(entry.number)))
    # §4.4.3.1: no EXTINF rounded to whole seconds is greater.
    target = max(1, *(int(e.seconds + 0.5) for e in entries))
    head = media.head(target=target, sequence=entries[0].number, discontinuity_sequence=0, version=_VERSION)
    return media.with_suffix(media.playlist(head, lines, ended=True)).decode()


def ready_of(start_ms: int, entries: list[Entry]) -> dict[str, Any]:
    """The data of the event that a session is complete."""
    seconds = round(sum(e.seconds for e in entries), 3)
    return {"kind": "ondemand", "start": start_ms / 1000, "seconds": seconds, "bytes": sum(e.bytes for e in entries)}


def read_journal(path: Path) -> Told:
    """What a journal tells; a torn or damaged rest tells nothing. Raises OSError."""
    begun: dict[int, tuple[Entry, list[tuple[int, float]]]] = {}
    entries: list[Entry] = []
    with path.open("rb") as file:
        while (line := file.readline(_LONGEST_LINE)).endswith(b"\n") and len(entries) < _MOST_ENTRIES:
            try:
                told = json.loads(line)
                if "begin" in told:
                    number = int(told["begin"])
                    begun[number] = Entry(number, 0.0, 0, bool(told["fresh"]), float(told["wall"])), []
                elif "at" in told:
                    begun[int(told["of"])][1].append((int(told["at"]), float(told["seconds"])))
                elif "trim" in told:
                    entries = [e for e in entries if e.number >= int(told["trim"])]
                else:
                    old, _ = begun.pop(int(told["done"]))
                    entries.append(replace(old, seconds=float(told["seconds"]), bytes=int(told["bytes"])))
            except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
                break
    if not begun:
        return Told(entries, None, [])
    first, points = begun[min(begun)]  # a second one has begun when the first waits for late sound only
    return Told(entries, first, points)
