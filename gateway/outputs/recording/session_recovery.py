"""Stores what is left of an on-demand session that nobody writes any more, after a crash or an error."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import structlog

from gateway.outputs.recording.on_demand_session import (
    JOURNAL,
    SCRATCH,
    JournalContents,
    RecordedSegment,
    parse_folder_name,
    playlist,
    read_journal,
    ready_of,
    segment_file,
)
from gateway.outputs.storage.archive import Archive
from gateway.outputs.storage.locked_file import disk_errors, take_abandoned
from gateway.ports import media_keys

log = structlog.get_logger(__name__)


def sessions(archive: Archive) -> list[Path]:
    """Returns the folders of all sessions on disk, including running ones. Blocks. Raises OutputError."""
    folder = archive.scratch(SCRATCH)
    with disk_errors(folder):
        return [folder / name for name in sorted(os.listdir(folder)) if parse_folder_name(name) is not None]


async def recover_session(folder: Path, archive: Archive) -> bool:
    """Completes a session: stores its open segment as far as the journal confirms it, then the playlist.

    Returns False if another process writes the session. May be repeated after a failure. Raises OutputError.
    """
    named = parse_folder_name(folder.name)
    assert named is not None  # the caller has checked the name
    channel, start_ms = named
    lock = await archive.threads.run(lambda: take_abandoned(folder / JOURNAL))
    if lock is None:
        if not (folder / JOURNAL).exists():  # the process died while it made the session
            await archive.threads.run(lambda: shutil.rmtree(folder, ignore_errors=True))
        return False
    try:
        with disk_errors(folder):
            told = await archive.threads.run(lambda: read_journal(folder / JOURNAL))
            entries = told.entries
            if (begun := told.open) is not None:
                number = begun.number
                last = await archive.threads.run(lambda: _cut(segment_file(folder, number), told))
                entries = [*entries, last] if last is not None else entries
            for entry in entries:
                path = segment_file(folder, entry.number)
                if path.exists():
                    await archive.keep(media_keys.segment_key(channel, entry.number), path, replace=True)
            if entries:
                path = folder / "playlist"
                text = playlist(entries)
                await archive.threads.run(lambda: path.write_text(text, encoding="utf-8"))
                ready = ready_of(start_ms, entries)
                await archive.keep(media_keys.playlist_key(channel, start_ms), path, replace=True, ready=ready)
                log.info("on-demand recording recovered", stream=channel, segments=len(entries),
                         seconds=ready["seconds"])  # fmt: skip
            await archive.threads.run(lambda: shutil.rmtree(folder))
    finally:
        os.close(lock)
    return True


def _cut(path: Path, told: JournalContents) -> RecordedSegment | None:
    """Shortens the open segment's file to what the journal confirms, and returns the segment."""
    try:
        size = path.stat().st_size
    except FileNotFoundError:  # stored by an earlier try
        return told.saved(1 << 62)
    entry = told.saved(size)
    if entry is not None:
        os.truncate(path, entry.bytes)
    return entry
