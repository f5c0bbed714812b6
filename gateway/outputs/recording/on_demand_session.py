"""An on-demand recording on disk: open segments, and a journal for the recovery after a crash.

The § numbers refer to HLS (RFC 8216bis).
"""

import json
import math
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import structlog

from gateway.channels.names import is_channel_id
from gateway.formats.hls import media_playlist
from gateway.lib.numbers import read_integer
from gateway.outputs.storage.archive import Archive
from gateway.outputs.storage.locked_file import LockedFile, disk_errors, release, take_abandoned
from gateway.outputs.storage.stored_pieces import StoredPiece
from gateway.ports import media_keys

log = structlog.get_logger(__name__)

SCRATCH_FOLDER: Final = "ondemand"
JOURNAL: Final = "journal"
# A comment in the playlist of a session that is deleted when it is too old for rewinding (`RewindDeletion`).
REWIND_MARK: Final = "# for rewinding only\n"
_VERSION: Final = 3  # EXT-X-VERSION: EXTINF with fractions
# Seconds. Clips and rewind playlists join segments whose dates are up to 0.5 s apart, so a step is shorter. The media
# between two steps correct a clock that is wrong by 500 ppm. So one segment that came late changes little.
_DATE_STEP: Final = 0.4
_DATE_INTERVAL: Final = 800.0
# Seconds. If segments stay late by more than the first value for the second one, the push has paused, or a clock was
# set: they have right dates at once. A link that only stalled catches up before. If they stay early, as after a jump of
# the publisher's times, dates must still grow: each segment corrects a step.
_MAX_OFF: Final = 1.0
_OFF_FOR: Final = 10.0
_MOST_OFF: Final = 64  # segments that are looked at for that; those of a damaged journal may be short
_COMPACT_BYTES: Final = 1_000_000  # bytes
_MAX_LINE: Final = 4096
_MAX_ENTRIES: Final = 5_000_000


@dataclass(frozen=True, slots=True)
class RecordedSegment:
    """A segment.

    seconds: duration. discontinuity: whether it does not continue the previous segment.
    wall_clock: time of its first frame, seconds since 1970.
    """

    number: int
    seconds: float
    bytes: int
    discontinuity: bool
    wall_clock: float


@dataclass(slots=True)
class JournalContents:
    """The contents of a journal.

    entries: finished segments. open: the unfinished segment; None if there is none.
    sizes: pairs of size (bytes) and duration (seconds) of the open segment, as it grew.
    kept: see `playlist`.
    """

    entries: list[RecordedSegment]
    open: RecordedSegment | None
    sizes: list[tuple[int, float]]
    kept: bool = True

    def confirmed(self, size: int) -> RecordedSegment | None:
        """Returns the part of the open segment that the journal confirms, for a file of `size` bytes."""
        at = max((p for p in self.sizes if p[0] <= size), default=None)
        if self.open is None or at is None or not at[0]:
            return None
        return replace(self.open, bytes=at[0], seconds=at[1])


class OnDemandSession:
    """The files of a session in `<scratch>/<channel>~<start ms>/`: `<number>.ts`, and the journal, which is locked.

    Journal lines are JSON: `begin` starts a segment, `at` contains its bytes and seconds so far, `done` ends it.
    A segment is `done` before it is stored. So a done segment with a file in the folder must still be stored.
    `trim` contains a number: segments before it are older than the retention time. `kept` is that of `playlist`.
    All methods block and must run in a thread; they raise OutputError.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # As in LockedFile: the folder is locked before it gets its final name.
        hidden = folder.with_name(f".{folder.name}")
        with disk_errors(folder.parent):
            hidden.mkdir(exist_ok=True)
        self._journal = LockedFile(hidden / JOURNAL)
        with disk_errors(folder.parent):
            hidden.rename(folder)
        self._segments: dict[int, LockedFile] = {}
        self._max_journal = _COMPACT_BYTES

    def begin(self, number: int, discontinuity: bool, wall_clock: float) -> None:
        self._write_line({"begin": number, "fresh": discontinuity, "wall": round(wall_clock, 3)})
        self._segments[number] = LockedFile(self.folder / f"{number}.ts")

    def append(self, number: int, data: list[bytes], seconds: float) -> None:
        """Appends whole transport packets. seconds: duration of the segment including them."""
        file = self._segments[number]
        file.append(data)
        self._write_line({"at": file.size, "seconds": round(seconds, 5), "of": number})

    def trim(self, entries: list[RecordedSegment]) -> None:
        """Records that only these segments remain, because older ones exceed the retention time."""
        self._write_line({"trim": entries[0].number})

    def set_kept(self, kept: bool) -> None:
        """Records whether the session is kept, for recovery. See `playlist`."""
        self._write_line({"kept": kept})

    def complete(self, number: int, seconds: float) -> tuple[Path, int]:
        """Completes a segment and returns its file and its size in bytes."""
        file = self._segments.pop(number)
        file.close()
        self._write_line({"done": number, "seconds": seconds, "bytes": file.size})
        return file.path, file.size

    def compact(self, entries: list[RecordedSegment], kept: bool = True) -> None:
        """Rewrites a long journal with only the finished segments, without their `at` lines."""
        if self._journal.size <= self._max_journal or self._segments:
            return
        old_journal = self._journal
        self._journal = LockedFile(self.folder / JOURNAL)  # replaces the old file, and is locked before
        lines: list[dict[str, Any]] = [{"kept": kept}]
        for entry in entries:
            begin = {"begin": entry.number, "fresh": entry.discontinuity, "wall": entry.wall_clock}
            lines += [begin, {"done": entry.number, "seconds": entry.seconds, "bytes": entry.bytes}]
        self._journal.append([json.dumps(line).encode() + b"\n" for line in lines])
        self._max_journal = 2 * self._journal.size + _COMPACT_BYTES
        old_journal.close()

    def write_playlist(self, text: str) -> Path:
        """Writes the playlist to a file and returns its path."""
        path = self.folder / "playlist"
        with disk_errors(self.folder):
            path.write_text(text, encoding="utf-8")
        return path

    def close(self) -> None:
        """Releases the lock; recovery then stores the complete segments and the oldest open one."""
        for file in self._segments.values():
            file.close()
        self._segments = {}
        self._journal.close()

    def remove(self) -> None:
        """Deletes the session's folder, after all files were stored."""
        self.close()
        with disk_errors(self.folder.parent):
            shutil.rmtree(self.folder)

    def _write_line(self, line: dict[str, Any]) -> None:
        self._journal.append([json.dumps(line).encode() + b"\n"])


def recording_name(channel: str, start_ms: int) -> str:
    return f"{channel}~{start_ms}"


def parse_recording_name(name: str) -> tuple[str, int] | None:
    """Returns the channel and the start (ms) in the name of a recording; None for any other name."""
    channel, _, start = name.rpartition("~")
    start_ms = read_integer(start, 10**13 - 1, 10**12)
    return (channel, start_ms) if start_ms is not None and is_channel_id(channel) else None


def playlist(entries: list[RecordedSegment], kept: bool = True, ranges: str = "") -> str:
    """Returns the playlist of at least one segment. It has an end, so players do not reload it.

    Its first Media Sequence Number is the number of the first segment's file, as in the original system.

    kept: whether the session stays stored. Otherwise it is only for rewinding, and is deleted when it is too old.
    ranges: the tags of its ad breaks, see `DateRanges.lines`.
    """
    lines = [ranges] if kept else [REWIND_MARK, ranges]
    for n, (entry, start, is_dated) in enumerate(_starts(entries)):
        if entry.discontinuity and n:
            lines.append(media_playlist.DISCONTINUITY)
        if is_dated:
            lines.append(media_playlist.program_date_time(start))
        lines.append(media_playlist.segment(entry.seconds, media_keys.segment_uri(entry.number)))
    # §4.4.3.1: the target duration is at least each EXTINF rounded to whole seconds.
    target = max(1, *(int(entry.seconds + 0.5) for entry in entries))
    head = media_playlist.head(target=target, sequence=entries[0].number, discontinuity_sequence=None, version=_VERSION)
    return media_playlist.with_suffix(media_playlist.playlist(head, lines, ended=True)).decode()


def pieces(channel: str, entries: list[RecordedSegment]) -> list[StoredPiece]:
    """Returns the segments with the times that `playlist` gives them."""
    found: list[StoredPiece] = []
    for entry, start, _ in _starts(entries):
        fresh = entry.discontinuity or not found
        key = media_keys.segment_key(channel, entry.number)
        found.append(StoredPiece(key, media_keys.MediaKind.SEGMENT, start, entry.seconds, fresh))
    return found


def _starts(entries: list[RecordedSegment]) -> Iterator[tuple[RecordedSegment, float, bool]]:
    """Yields each segment with its start (seconds since 1970), and whether the playlist has a date for it.

    Other segments begin where the previous one ends. A publisher's clock is never exact, so after some time a segment
    has a date that is nearer to its arrival. So has one from which on all are off.
    """
    start = since_date = 0.0
    for n, entry in enumerate(entries):
        error = entry.wall_clock - start
        is_dated = True
        if entry.discontinuity or not n:
            start = entry.wall_clock
        elif abs(error) > _MAX_OFF and (lasting := _lasting_error(entries, n, start)):
            start += max(lasting, -min(_DATE_STEP, entries[n - 1].seconds / 2))
        elif since_date >= _DATE_INTERVAL and abs(error) > _DATE_STEP:
            start += math.copysign(_DATE_STEP, error)
        else:
            is_dated = False
        if is_dated:
            start, since_date = round(start, 3), 0.0
        yield entry, start, is_dated
        start += entry.seconds
        since_date += entry.seconds


def _lasting_error(entries: list[RecordedSegment], first: int, start: float) -> float:
    """Returns by how much the segments from `first` on are later than from `start` on, seconds; below 0: earlier.

    Returns 0 if they are not off for long enough by nearly the same, or if this is not known yet.
    """
    at, errors = start, list[float]()
    for entry in entries[first : first + _MOST_OFF]:
        errors.append(entry.wall_clock - at)
        if entry.discontinuity or abs(errors[-1]) <= _MAX_OFF or max(errors) - min(errors) > _MAX_OFF:
            return 0.0
        if at - start >= _OFF_FOR:
            return min(errors)
        at += entry.seconds
    return 0.0


def ready_event(start_ms: int, entries: list[RecordedSegment]) -> dict[str, Any]:
    """Returns the data of the `recording.ready` event of a session."""
    seconds, size = round(sum(entry.seconds for entry in entries), 3), sum(entry.bytes for entry in entries)
    return {"kind": "ondemand", "start": start_ms / 1000, "seconds": seconds, "bytes": size}


def read_journal(path: Path) -> JournalContents:
    """Reads a journal up to the first damaged line. Raises OSError."""
    open_segments: dict[int, tuple[RecordedSegment, list[tuple[int, float]]]] = {}
    entries: list[RecordedSegment] = []
    kept = True
    with path.open("rb") as file:
        while (line := file.readline(_MAX_LINE)).endswith(b"\n") and len(entries) < _MAX_ENTRIES:
            try:
                fields = json.loads(line)
                if "begin" in fields:
                    number = int(fields["begin"])
                    segment = RecordedSegment(number, 0.0, 0, bool(fields["fresh"]), float(fields["wall"]))
                    open_segments[number] = segment, []
                elif "at" in fields:
                    open_segments[int(fields["of"])][1].append((int(fields["at"]), float(fields["seconds"])))
                elif "kept" in fields:
                    kept = bool(fields["kept"])
                elif "trim" in fields:
                    entries = [entry for entry in entries if entry.number >= int(fields["trim"])]
                else:
                    opened, _ = open_segments.pop(int(fields["done"]))
                    entries.append(replace(opened, seconds=float(fields["seconds"]), bytes=int(fields["bytes"])))
            except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
                break
    # Two segments are open only while the first one waits for late sound. The second one is short, and is left out.
    first, sizes = open_segments[min(open_segments)] if open_segments else (None, [])
    return JournalContents(entries, first, sizes, kept)


def session_folders(archive: Archive) -> list[Path]:
    """Returns the folders of all sessions on disk, including running ones. Blocks. Raises OutputError."""
    folder = archive.scratch(SCRATCH_FOLDER)
    with disk_errors(folder):
        return [folder / name for name in sorted(os.listdir(folder)) if parse_recording_name(name) is not None]


async def recover_session(folder: Path, archive: Archive) -> None:
    """Completes the session of a crashed process: stores its segments and its playlist.

    The journal confirms how much of the open segment is valid. Does nothing if another process writes the session.
    May be repeated after a failure. Raises OutputError.
    """
    parsed = parse_recording_name(folder.name)
    assert parsed is not None  # the caller has checked the name
    channel, start_ms = parsed
    lock = await archive.threads.run(lambda: take_abandoned(folder / JOURNAL), release)
    if lock is None:
        if not (folder / JOURNAL).exists():  # the process died while it created the session
            await archive.threads.run(lambda: shutil.rmtree(folder, ignore_errors=True))
        return
    try:
        with disk_errors(folder):
            journal = await archive.threads.run(lambda: read_journal(folder / JOURNAL))
            last = await archive.threads.run(lambda: _truncate(folder, journal))
            entries = [*journal.entries, last] if last is not None else journal.entries
            for entry in entries:
                path = folder / f"{entry.number}.ts"
                if path.exists():
                    await archive.keep(media_keys.segment_key(channel, entry.number), path, replace=True)
            if entries:
                path = folder / "playlist"
                text = playlist(entries, journal.kept)
                await archive.threads.run(lambda: path.write_text(text, encoding="utf-8"))
                ready = ready_event(start_ms, entries)
                await archive.keep(media_keys.playlist_key(channel, start_ms), path, replace=True, ready=ready)
                log.info("on-demand recording recovered", stream=channel, segments=len(entries),
                         seconds=ready["seconds"])  # fmt: skip
            await archive.threads.run(lambda: shutil.rmtree(folder))
    finally:
        os.close(lock)


def _truncate(folder: Path, journal: JournalContents) -> RecordedSegment | None:
    """Cuts the open segment's file to the size that the journal confirms, and returns the segment, if there is one."""
    if journal.open is None:
        return None
    path = folder / f"{journal.open.number}.ts"
    try:
        size = path.stat().st_size
    except FileNotFoundError:  # an earlier recovery stored it
        return journal.confirmed(1 << 62)
    entry = journal.confirmed(size)
    if entry is not None:
        os.truncate(path, entry.bytes)
    return entry
