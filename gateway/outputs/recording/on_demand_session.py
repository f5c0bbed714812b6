"""An on-demand recording on disk: the open segments, and a journal from which a crash is recovered."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from gateway.channels.names import is_channel_id
from gateway.formats.hls import media_playlist
from gateway.outputs.storage.locked_file import LockedFile, disk_errors
from gateway.ports.media_keys import segment_uri

SCRATCH: Final = "ondemand"
JOURNAL: Final = "journal"
_VERSION: Final = 3  # EXTINF with fractions
_LONG_JOURNAL: Final = 1_000_000  # bytes
_LONGEST_LINE: Final = 4096
_MAX_ENTRIES: Final = 5_000_000


@dataclass(frozen=True, slots=True)
class RecordedSegment:
    """A segment.

    fresh: it does not continue the previous one. wall: time of its first frame, seconds since the epoch.
    """

    number: int
    seconds: float
    bytes: int
    fresh: bool
    wall: float


@dataclass(slots=True)
class JournalContents:
    """The contents of a journal: finished segments, and the open one (None: there is none) as far as it was written."""

    entries: list[RecordedSegment]
    open: RecordedSegment | None
    points: list[tuple[int, float]]  # of the open segment: pairs of its size in bytes and its duration in seconds

    def saved(self, size: int) -> RecordedSegment | None:
        """Returns the open segment as far as the journal confirms it, if its file has `size` bytes."""
        at = max((p for p in self.points if p[0] <= size), default=None)
        if self.open is None or at is None or not at[0]:
            return None
        return replace(self.open, bytes=at[0], seconds=at[1])


class OnDemandSession:
    """The files of a session in `<scratch>/<channel>~<start ms>/`: `<number>.ts`, and the journal, which holds the
    lock.

    Journal lines are JSON: `begin` starts a segment, `at` gives its bytes and seconds so far, `done` ends it.
    A segment is `done` before it is stored, so a done segment whose file is still here must still be stored.
    `trim` says that the segments before a number are too old to be kept.
    All methods block and must run in a thread; they raise OutputError.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # As in LockedFile: when the folder gets its final name, it is locked already.
        hidden = folder.with_name(f".{folder.name}")
        with disk_errors(folder.parent):
            hidden.mkdir(exist_ok=True)
        self._journal = LockedFile(hidden / JOURNAL)
        with disk_errors(folder.parent):
            hidden.rename(folder)
        self._segments: dict[int, LockedFile] = {}
        self._max_journal = _LONG_JOURNAL

    def begin(self, number: int, fresh: bool, wall: float) -> None:
        self._note({"begin": number, "fresh": fresh, "wall": round(wall, 3)})
        self._segments[number] = LockedFile(segment_file(self.folder, number))

    def append(self, number: int, data: list[bytes], seconds: float) -> None:
        """Appends whole transport packets. seconds: the duration of the segment with them."""
        file = self._segments[number]
        file.append(data)
        self._note({"at": file.size, "seconds": round(seconds, 5), "of": number})

    def trim(self, entries: list[RecordedSegment]) -> None:
        """Notes that only these segments remain, because the older ones passed their retention time."""
        self._note({"trim": entries[0].number})

    def done(self, number: int, seconds: float) -> tuple[Path, int]:
        """Completes a segment and returns its file and its size in bytes."""
        file = self._segments.pop(number)
        file.close()
        self._note({"done": number, "seconds": seconds, "bytes": file.size})
        return file.path, file.size

    def compact(self, entries: list[RecordedSegment]) -> None:
        """Rewrites a long journal with the finished segments only, without the steps of their growth."""
        if self._journal.size <= self._max_journal or self._segments:
            return
        earlier, self._journal = self._journal, LockedFile(self.folder / JOURNAL)  # replaces the old file and is locked
        lines = []
        for e in entries:
            begin = {"begin": e.number, "fresh": e.fresh, "wall": e.wall}
            lines += [begin, {"done": e.number, "seconds": e.seconds, "bytes": e.bytes}]
        self._journal.append([json.dumps(line).encode() + b"\n" for line in lines])
        self._max_journal = 2 * self._journal.size + _LONG_JOURNAL
        earlier.close()

    def write_playlist(self, text: str) -> Path:
        """Writes the playlist to a file that is ready to be stored, and returns its path."""
        path = self.folder / "playlist"
        with disk_errors(self.folder):
            path.write_text(text, encoding="utf-8")
        return path

    def close(self) -> None:
        """Releases the lock; the next process recovers what is open."""
        for file in self._segments.values():
            file.close()
        self._segments = {}
        self._journal.close()

    def remove(self) -> None:
        """Deletes the session's folder, after everything was stored."""
        self.close()
        with disk_errors(self.folder.parent):
            shutil.rmtree(self.folder)

    def _note(self, line: dict[str, Any]) -> None:
        self._journal.append([json.dumps(line).encode() + b"\n"])


def segment_file(folder: Path, number: int) -> Path:
    return folder / f"{number}.ts"


def folder_name(channel: str, start_ms: int) -> str:
    return f"{channel}~{start_ms}"


def parse_folder_name(name: str) -> tuple[str, int] | None:
    """Returns the channel and start (ms) of a session's folder; None for any other name."""
    channel, tilde, start = name.rpartition("~")
    if not tilde or len(start) != 13 or not start.isdecimal() or not is_channel_id(channel):
        return None
    return channel, int(start)


def playlist(entries: list[RecordedSegment]) -> str:
    """Returns the playlist of these segments, at least one. It is always complete, so a player need not reload it."""
    lines = []
    for n, entry in enumerate(entries):
        if entry.fresh and n:
            lines.append(media_playlist.DISCONTINUITY)
        if entry.fresh or not n:
            lines.append(media_playlist.program_date_time(entry.wall))
        lines.append(media_playlist.segment(entry.seconds, segment_uri(entry.number)))
    # §4.4.3.1: the target duration is at least each EXTINF rounded to whole seconds.
    target = max(1, *(int(e.seconds + 0.5) for e in entries))
    head = media_playlist.head(target=target, sequence=entries[0].number, discontinuity_sequence=None, version=_VERSION)
    return media_playlist.with_suffix(media_playlist.playlist(head, lines, ended=True)).decode()


def ready_of(start_ms: int, entries: list[RecordedSegment]) -> dict[str, Any]:
    """Returns the data of the event that a session is complete."""
    seconds = round(sum(e.seconds for e in entries), 3)
    return {"kind": "ondemand", "start": start_ms / 1000, "seconds": seconds, "bytes": sum(e.bytes for e in entries)}


def read_journal(path: Path) -> JournalContents:
    """Reads a journal as far as it is undamaged; the rest is ignored. Raises OSError."""
    begun: dict[int, tuple[RecordedSegment, list[tuple[int, float]]]] = {}
    entries: list[RecordedSegment] = []
    with path.open("rb") as file:
        while (line := file.readline(_LONGEST_LINE)).endswith(b"\n") and len(entries) < _MAX_ENTRIES:
            try:
                told = json.loads(line)
                if "begin" in told:
                    number = int(told["begin"])
                    begun[number] = RecordedSegment(number, 0.0, 0, bool(told["fresh"]), float(told["wall"])), []
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
        return JournalContents(entries, None, [])
    first, points = begun[min(begun)]  # two are open only while the first still waits for late sound
    return JournalContents(entries, first, points)
