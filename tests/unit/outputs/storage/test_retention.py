"""Old recordings are deleted as a whole, and nothing else is deleted."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from gateway.adapters.local.objects import LocalObjects
from gateway.channels.channel import Channel
from gateway.channels.deleted_channel import DeletedChannel
from gateway.outputs.recording.on_demand_session import RecordedSegment, playlist
from gateway.outputs.storage.recording_index import RecordingIndex, movie_seconds
from gateway.outputs.storage.retention import Retention
from gateway.ports import media_keys
from gateway.ports.errors import NoSuchObject
from tests.unit.formats.mp4.test_finish import finished, recording

DAY = 86_400
NOW = 1_790_000_000.0


class Channels:
    """A ChannelStore that only lists."""

    def __init__(self, *items: dict[str, Any]) -> None:
        self._items = [item for item in items if "deletedAt" not in item]
        self._deleted = [DeletedChannel(item) for item in items if "deletedAt" in item]

    async def list(self) -> list[Channel]:
        return [Channel(item) for item in self._items]

    async def list_deleted(self) -> Sequence[DeletedChannel]:
        return self._deleted


class Media:
    """A folder with recordings of all ages."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.store = LocalObjects(root)

    def add(self, key: str, days: float, data: bytes = b"x") -> str:
        file = self.root / key
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        os.utime(file, (NOW - days * DAY, NOW - days * DAY))
        return key

    def video(self, channel: str, days: float) -> str:
        return self.add(media_keys.video_key(channel, round((NOW - days * DAY) * 1000)), days)

    def session(self, channel: str, days: float, segments: int, newest: float | None = None) -> list[str]:
        """A playlist with segments, the first so many days old, the last `newest`."""
        start = round((NOW - days * DAY) * 1000)
        newest = days if newest is None else newest
        entries = [RecordedSegment(start + n, 60.0, 188, not n, start / 1000) for n in range(segments)]
        step = (days - newest) / max(segments - 1, 1)
        keys = [self.add(media_keys.segment_key(channel, start + n), days - n * step) for n in range(segments)]
        return [*keys, self.add(media_keys.playlist_key(channel, start), newest, playlist(entries).encode())]

    def retention(self, days: int, *channels: dict[str, Any], clips: int = 0) -> Retention:
        return Retention(self.store, Channels(*channels), days, clips, clock=lambda: NOW)  # type: ignore[arg-type]

    @property
    def keys(self) -> set[str]:
        return {p.relative_to(self.root).as_posix() for p in self.root.rglob("*") if p.is_file()}


@pytest.fixture
def media(tmp_path: Path) -> Media:
    return Media(tmp_path)


async def test_recordings_older_than_the_setting_are_deleted_with_empty_folders(media: Media) -> None:
    old, young = media.video("c1", 31), media.video("c1", 1)
    assert await media.retention(30, {"id": "c1"}).run_once() == 1
    assert media.keys == {young}
    assert not (media.root / old).parent.exists()


async def test_clips_are_deleted_by_the_age_of_their_file(media: Media) -> None:
    at = int((NOW - 31 * DAY) * 1000)
    old = media.add(media_keys.clip_key("c1", at, at + 30_000), 31)
    made_later = media.add(media_keys.clip_key("c1", at, at + 20_000), 1)
    assert await media.retention(30, {"id": "c1"}).run_once() == 1
    assert media.keys == {made_later}
    assert old not in media.keys


@pytest.mark.parametrize(("clips", "recordings", "left"), [(7, 0, {"video"}), (60, 7, {"clip"}), (0, 7, set())])
async def test_clips_can_have_their_own_retention_time(
    media: Media, clips: int, recordings: int, left: set[str]
) -> None:
    at = int((NOW - 31 * DAY) * 1000)
    keys = {"clip": media.add(media_keys.clip_key("c1", at, at + 30_000), 31), "video": media.video("c1", 31)}
    await media.retention(0, {"id": "c1", "retentionDays": recordings}, clips=clips).run_once()
    assert media.keys == {keys[kind] for kind in left}


async def test_a_channel_can_have_its_own_retention_time(media: Media) -> None:
    short, ever, usual = media.video("short", 8), media.video("ever", 400), media.video("usual", 20)
    gone = media.video("usual", 31)
    channels = {"id": "short", "retentionDays": 7}, {"id": "ever", "retentionDays": "0"}, {"id": "usual"}
    assert await media.retention(30, *channels).run_once() == 2
    assert media.keys == {ever, usual}
    assert short not in media.keys
    assert gone not in media.keys


async def test_without_a_setting_only_channels_with_a_retention_time_lose_recordings(media: Media) -> None:
    media.video("short", 8)
    other = media.video("other", 4000)
    assert await media.retention(0, {"id": "short", "retentionDays": 7}, {"id": "other"}).run_once() == 1
    assert media.keys == {other}
    assert await media.retention(0, {"id": "other"}).run_once() == 0


async def test_recordings_of_an_unknown_channel_follow_the_setting(media: Media) -> None:
    media.video("gone", 31)
    young = media.video("gone", 3)
    await media.retention(30).run_once()
    assert media.keys == {young}


async def test_recordings_of_a_deleted_channel_keep_its_retention_time(media: Media) -> None:
    media.video("short", 8)
    ever = media.video("ever", 400)
    channels = (
        {"id": "short", "retentionDays": 7, "deletedAt": NOW - DAY, "media": "keep"},
        {"id": "ever", "retentionDays": 0, "deletedAt": NOW - DAY, "media": "keep"},
    )
    assert await media.retention(0, *channels).run_once() == 1
    assert media.keys == {ever}
    assert await media.retention(30, *channels).run_once() == 0


async def test_a_channel_deleted_during_the_run_keeps_its_retention_time(media: Media) -> None:
    ever = media.video("ever", 400)

    class Moving(Channels):
        """Deletes its channel between the first list and the second."""

        def _move(self) -> None:
            self._deleted = [
                DeletedChannel.of(str(item["id"]), Channel(item), NOW, media=False) for item in self._items
            ]
            self._items = []

        async def list(self) -> list[Channel]:
            found = await super().list()
            self._move()
            return found

        async def list_deleted(self) -> Sequence[DeletedChannel]:
            found = await super().list_deleted()
            self._move()
            return found

    channels = Moving({"id": "ever", "retentionDays": "0"})
    assert await Retention(media.store, channels, 30, clock=lambda: NOW).run_once() == 0  # type: ignore[arg-type]
    assert media.keys == {ever}


async def test_a_session_is_deleted_or_kept_with_all_its_segments(media: Media) -> None:
    media.session("c1", 40, 5)
    young = media.session("c1", 5, 5)
    assert await media.retention(30, {"id": "c1"}).run_once() == 6
    assert media.keys == set(young)


async def test_a_segment_of_any_age_stays_while_a_playlist_names_it(media: Media) -> None:
    keys = media.session("c1", 60, 10, newest=1)
    assert await media.retention(30, {"id": "c1"}).run_once() == 0
    assert media.keys == set(keys)


async def test_an_old_segment_missing_in_its_playlist_is_deleted(media: Media) -> None:
    keys = media.session("c1", 60, 10, newest=1)
    stray = media.add(media_keys.segment_key("c1", round((NOW - 90 * DAY) * 1000)), 90)
    await media.retention(30, {"id": "c1"}).run_once()
    assert media.keys == set(keys)
    assert stray not in media.keys


async def test_files_with_foreign_names_are_not_deleted(media: Media) -> None:
    keys = {
        media.add(key, 4000)
        for key in ("c1/film.mp4", "c1/mp4/2020/1/1/holiday.mp4", "uploads/old.mp4", "c1/720p/5.ts", "notes.txt",
                    ".unfinished/video/c1~1700000000000.fmp4", "c1/mp4/2020/01/01/capture-2020-01-01_00-00-00.mp4")
    }  # fmt: skip
    assert await media.retention(1, {"id": "c1"}).run_once() == 0
    assert media.keys == keys


async def test_old_images_and_motion_clips_are_deleted_too(media: Media) -> None:
    media.add("c1/images/2020/1/1/capture-2020-01-01_00-00-00.jpg", 40)
    media.add("c1/motion/images/2020/1/1/2020-01-01_00-00-00-000_0-50_.jpeg", 40)
    media.add("c1/motion/mp4/2020/1/1/2020-01-01_00-00-00-000_0-50_.mp4", 40)
    assert await media.retention(30, {"id": "c1"}).run_once() == 3


async def test_a_recently_copied_file_is_not_deleted(media: Media) -> None:
    key = media.add("c1/images/2020/1/1/capture-2020-01-01_00-00-00.jpg", 2)
    await media.retention(30, {"id": "c1"}).run_once()
    assert media.keys == {key}


# ---- the shelf ----


async def test_recordings_are_listed_newest_first_page_by_page(media: Media) -> None:
    keys = [media.video("c1", d) for d in (1, 3, 5)]
    session = media.session("c1", 2, 4)[-1]
    media.video("c10", 1)
    media.add("c1/film.mp4", 1)
    shelf = RecordingIndex(media.store)
    assert [k.key for k in await shelf.list("c1", 10)] == [keys[0], session, keys[1], keys[2]]
    first = await shelf.list("c1", 2)
    rest = await shelf.list("c1", 2, first[-1].key)
    assert [k.key for k in (*first, *rest)] == [keys[0], session, keys[1], keys[2]]
    assert await shelf.list("c1", 2, rest[-1].key) == []
    assert await shelf.list("nobody", 5) == []


async def test_a_recording_says_how_long_it_is_where_that_can_be_read(media: Media) -> None:
    session = media.session("c1", 2, 4)[-1]
    movie = media.add(media_keys.video_key("c1", round((NOW - DAY) * 1000)), 1, finished(b"".join(recording()))[0])
    broken = media.video("c1", 3)
    listed = {k.key: k.seconds for k in await RecordingIndex(media.store).list("c1", 10)}
    assert listed == {session: 240.0, movie: pytest.approx(3.0, abs=0.03), broken: None}


async def test_the_files_of_a_session_are_its_playlist_and_its_segments(media: Media) -> None:
    *segments, index = media.session("c1", 2, 3)
    other = media.session("c1", 1, 3)
    files = await RecordingIndex(media.store).files_of(index)
    assert files[0] == index and set(files[1:]) == set(segments)
    assert media.keys == {*segments, index, *other}
    for key in ("c1/vod-1.m3u8", segments[0], "c1/film.mp4", "c1"):
        with pytest.raises(NoSuchObject):
            await RecordingIndex(media.store).files_of(key)


def test_a_movie_header_of_either_version_is_read() -> None:
    assert movie_seconds(b"") is None
    assert movie_seconds(b"....mvhd\1\0\0\0" + bytes(16) + (1000).to_bytes(4, "big") + (5500).to_bytes(8, "big")) == 5.5
    assert movie_seconds(b"....mvhd\0\0\0\0" + bytes(8) + (0).to_bytes(4, "big") + bytes(20)) is None
    fragmented = b"....mvhd\0\0\0\0" + bytes(8) + (1000).to_bytes(4, "big") + bytes(20)
    assert movie_seconds(fragmented) is None


async def test_captions_stay_as_long_as_their_segment_and_session(media: Media) -> None:
    def with_captions(keys: list[str]) -> list[str]:
        """Adds captions to the first segment, and a playlist, that are older than the session."""
        added = [media_keys.segment_captions_key(keys[0], "cc1"), media_keys.multivariant_key(keys[-1])]
        return [*keys, *(media.add(key, 60) for key in added)]

    young = with_captions(media.session("c1", 40, 3, newest=1))
    old = with_captions(media.session("c1", 60, 3, newest=50))
    assert (await RecordingIndex(media.store).files_of(old[-3]))[0] == old[-3]
    assert set(await RecordingIndex(media.store).files_of(old[-3])) == set(old)
    assert {each.key for each in await RecordingIndex(media.store).list("c1", 9)} == {young[-3], old[-3]}
    for key in old[-2:]:
        with pytest.raises(NoSuchObject):
            await RecordingIndex(media.store).files_of(key)
    assert await media.retention(30, {"id": "c1"}).run_once() == len(old)
    assert media.keys == set(young)


async def test_the_record_of_a_session_goes_with_it(media: Media) -> None:
    young, old = media.session("c1", 40, 1, newest=1), media.session("c1", 60, 1, newest=50)
    records = [media.add(media_keys.session_record_key(keys[-1]), 90) for keys in (young, old)]
    assert set(await RecordingIndex(media.store).files_of(old[-1])) == {*old, records[1]}
    assert await media.retention(30, {"id": "c1"}).run_once() == len(old) + 1
    assert media.keys == {*young, records[0]}
