"""Sessions for rewinding are deleted when they are too old; nothing else is."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from gateway.adapters.local.objects import LocalObjects
from gateway.channels.channel import Channel
from gateway.outputs.recording.on_demand_session import RecordedSegment, playlist
from gateway.outputs.storage import rewind_deletion
from gateway.outputs.storage.rewind_deletion import RewindDeletion
from gateway.ports import media_keys
from gateway.ports.errors import StoreUnavailable

HOUR = 3_600
NOW = 1_790_000_000.0


class Channels:
    """A ChannelStore that only lists."""

    def __init__(self, *items: dict[str, Any]) -> None:
        self._items = items

    async def list(self) -> list[Channel]:
        return [Channel(item) for item in self._items]


def session(root: Path, channel: str, hours: float, *, kept: bool, seconds: float = 100.0) -> list[str]:
    """Stores a session that began `hours` ago. Returns its keys."""
    start = NOW - hours * HOUR
    number = int(start * 1000)
    entries = [RecordedSegment(number + n, seconds, 1, n == 0, start + n * seconds) for n in range(5)]
    keys = [media_keys.playlist_key(channel, number), *(media_keys.segment_key(channel, e.number) for e in entries)]
    for key in keys:
        file = root / key
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(playlist(entries, kept) if key.endswith(".m3u8") else "x")
        os.utime(file, (start + 5 * seconds, start + 5 * seconds))
    return keys


def with_captions(root: Path, keys: list[str]) -> list[str]:
    """Adds captions to two segments of a session. Returns all keys."""
    added = [media_keys.multivariant_key(keys[0])]
    added += [media_keys.segment_captions_key(key, "cc1") for key in keys[2:4]]
    for key in added:
        (root / key).write_text("x")
    return [*keys, *added]


def stored(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rewind_deletion, "_PAUSE_SECONDS", 0)


def deletion(root: Path, *items: dict[str, Any]) -> RewindDeletion:
    return RewindDeletion(LocalObjects(root), Channels(*items), lambda: NOW)  # type: ignore[arg-type]


async def test_only_old_sessions_for_rewinding_are_deleted(tmp_path: Path) -> None:
    old = with_captions(tmp_path, session(tmp_path, "a", 6, kept=False))
    kept = [
        *with_captions(tmp_path, session(tmp_path, "a", 1, kept=False)),  # not old yet
        *session(tmp_path, "a", 8, kept=True),  # of isOnDemand
        *session(tmp_path, "b", 6, kept=False),  # another channel, which keeps 24 hours
        *session(tmp_path, "c", 6, kept=False),  # isOnDemand is on now
        *session(tmp_path, "d", 6, kept=False),  # the channel never had the field
    ]
    movie = tmp_path / media_keys.video_key("a", int((NOW - 9 * HOUR) * 1000))
    movie.parent.mkdir(parents=True)
    movie.write_text("x")
    channels = (
        {"id": "a", "rewind": 4},
        {"id": "b", "rewind": "24"},
        {"id": "c", "rewind": 4, "isOnDemand": True},
        {"id": "d"},
    )
    one = deletion(tmp_path, *channels)
    assert await one.run_once() == len(old) == 9
    assert stored(tmp_path) == {*kept, movie.relative_to(tmp_path).as_posix()}
    assert await one.run_once() == 0


async def test_a_session_stays_while_rewinding_can_reach_its_end(tmp_path: Path) -> None:
    session(tmp_path, "a", 6, kept=False, seconds=HOUR)  # it lasted five hours
    assert await deletion(tmp_path, {"id": "a", "rewind": 4}).run_once() == 0


async def test_sessions_are_deleted_when_rewind_is_switched_off(tmp_path: Path) -> None:
    session(tmp_path, "a", 1, kept=False)
    assert await deletion(tmp_path, {"id": "a", "rewind": 0}).run_once() == 6
    assert not stored(tmp_path)


@pytest.mark.parametrize("answered", range(1, 9))
async def test_an_interrupted_deletion_of_a_session_continues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answered: int
) -> None:
    with_captions(tmp_path, session(tmp_path, "a", 6, kept=False))
    monkeypatch.setattr(rewind_deletion, "_DELETED_IN_ONE_CALL", 1)
    calls, delete = iter(range(9)), LocalObjects._delete

    def fail(self: LocalObjects, key: str) -> None:
        if next(calls) == answered:
            raise StoreUnavailable("the disk is away")
        delete(self, key)

    monkeypatch.setattr(LocalObjects, "_delete", fail)
    with pytest.raises(StoreUnavailable):
        await deletion(tmp_path, {"id": "a", "rewind": 4}).run_once()
    monkeypatch.setattr(LocalObjects, "_delete", delete)
    await deletion(tmp_path, {"id": "a", "rewind": 4}).run_once()
    assert not stored(tmp_path)
