"""Recovery: brings away what an on-demand session left that nobody writes any more: after a crash, after trouble."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import structlog

from gateway.sinks import naming
from gateway.sinks.archive import Archive
from gateway.sinks.growing import take_abandoned, trouble
from gateway.sinks.session import (
    JOURNAL,
    SCRATCH,
    Entry,
    Told,
    parse_folder_name,
    playlist,
    read_journal,
    ready_of,
    segment_file,
)

log = structlog.get_logger(__name__)


def sessions(archive: Archive) -> list[Path]:
    """The folders of all sessions that are on disk, of living ones too. Blocks. Raises OutputTrouble."""
    folder = archive.scratch(SCRATCH)
    with trouble(folder):
        return [folder / name for name in sorted(os.listdir(folder)) if parse_folder_name(name) is not None]


async def recover_session(folder: Path, archive: Archive) -> bool:
    """Completes a session: its open segment as far as its journal vouches for it, then the playlist; False where
    somebody writes it. May be repeated after a failure. Raises OutputTrouble."""
    named = parse_folder_name(folder.name)
    assert named is not None  # checked by who brings it
    channel, start_ms = named
    lock = await archive.threads.run(lambda: take_abandoned(folder / JOURNAL))
    if lock is None:
        if not (folder / JOURNAL).exists():  # it died while it began
            await archive.threads.run(lambda: shutil.rmtree(folder, ignore_errors=True))
        return False
    try:
        with trouble(folder):
            told = await archive.threads.run(lambda: read_journal(folder / JOURNAL))
            entries = told.entries
            if (begun := told.open) is not None:
                number = begun.number
                last = await archive.threads.run(lambda: _cut(segment_file(folder, number), told))
                entries = [*entries, last] if last is not None else entries
            for entry in entries:
                path = segment_file(folder, entry.number)
                if path.exists():
                    await archive.keep(naming.segment_key(channel, entry.number), path, replace=True)
            if entries:
                path = folder / "playlist"
                text = playlist(entries)
                await archive.threads.run(lambda: path.write_text(text, encoding="utf-8"))
                ready = ready_of(start_ms, entries)
                await archive.keep(naming.playlist_key(channel, start_ms), path, replace=True, ready=ready)
                log.info("on-demand recording recovered", stream=channel, segments=len(entries),
                         seconds=ready["seconds"])  # fmt: skip
            await archive.threads.run(lambda: shutil.rmtree(folder))
    finally:
        os.close(lock)
    return True


def _cut(path: Path, told: Told) -> Entry | None:
    """The open segment, its file shortened to what the journal vouches for."""
    try:
        size = path.stat().st_size
    except FileNotFoundError:  # brought away by an earlier try
        return told.saved(1 << 62)
    entry = told.saved(size)
    if entry is not None:
        os.truncate(path, entry.bytes)
    return entry
