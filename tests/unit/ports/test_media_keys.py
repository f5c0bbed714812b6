"""Storage keys of recordings and pictures."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.channels.names import is_object_key
from gateway.ports import media_keys
from gateway.ports.media_keys import MediaKind, parse

MS = 1_767_323_045_678  # 2026-01-02 03:04:05.678 UTC


def test_keys_follow_the_documented_layout() -> None:
    assert media_keys.video_key("c1", MS) == "c1/mp4/2026/1/2/capture-2026-01-02_03-04-05-1767323045678.mp4"
    assert media_keys.playlist_key("c1", MS) == "c1/vod-1767323045678.m3u8"
    assert media_keys.segment_key("c1", MS + 7) == "c1/720p/1767323045685.ts"


def test_image_keys_contain_utc_in_any_time_zone() -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=9)))
    assert media_keys.image_key("c1", moment) == "c1/images/2026/1/1/capture-2026-01-01_18-04-05.jpg"


@given(st.integers(1_000_000_000_000, 9_999_999_999_999))
def test_the_start_time_can_be_parsed_from_a_key(ms: int) -> None:
    for key, kind in (
        (media_keys.video_key("a.b-c", ms), MediaKind.VIDEO),
        (media_keys.playlist_key("a.b-c", ms), MediaKind.ONDEMAND),
        (media_keys.segment_key("a.b-c", ms), MediaKind.SEGMENT),
    ):
        assert is_object_key(key)
        assert parse(key) == media_keys.MediaKey("a.b-c", kind, ms / 1000)
    image = media_keys.image_key("a.b-c", datetime.fromtimestamp(ms / 1000, UTC))
    assert parse(image) == media_keys.MediaKey("a.b-c", MediaKind.IMAGE, ms // 1000)


@pytest.mark.parametrize(
    "key",
    ["", "c1", "c1/", "c1/film.mp4", "c1/mp4/2026/01/02/capture-2026-01-02_03-04-05-1767323045678.mp4",
     "c1/mp4/2026/1/2/film.mp4", "c1/720p/5.ts", "c1/vod-5.m3u8", "uploads/c1/vod-1767323045678.m3u8",
     "c1/images/2026/1/2/capture-2026-99-99_03-04-05.jpg", "film/film.m3u8", "c1/720p/1767323045678.ts.tmp"],
)  # fmt: skip
def test_foreign_keys_are_not_parsed(key: str) -> None:
    assert parse(key) is None


@pytest.mark.parametrize(
    "key",
    ["c1/mp4/2026/1/2/capture-2026-01-02_03-04-05-1767323045678-2.mp4",
     "c1/images/2026/11/20/capture-2026-11-20_06-54-58-3.jpg",
     "c1/motion/images/2026/11/20/2026-11-20_06-54-58-123_0-31_.jpeg",
     "c1/motion/mp4/2026/11/20/2026-11-20_06-54-58-123_0-31_.mp4"],
)  # fmt: skip
def test_numbered_keys_and_motion_clips_are_parsed(key: str) -> None:
    assert parse(key) is not None


CHINA = timezone(timedelta(hours=8))


@pytest.mark.parametrize(
    ("key", "kind", "start"),
    [
        # The number is the day of the month, `%03d` of strftime.
        ("c1/mp4/2022/12/9/capture-009-2022-12-09_01-02-03.mp4", MediaKind.VIDEO, datetime(2022, 12, 9, 1, 2, 3)),
        ("c1/mp4/2022/12/9/vod-index.m3u8", MediaKind.MP4_LIST, datetime(2022, 12, 9)),
        ("c1/motion/mp4/2022/3/9/2022-3-9_01-02-03-004_all-35_.mp4", MediaKind.MOTION, datetime(2022, 3, 9, 1, 2, 3)),
        ("c1/motion/images/2022/3/9/2022-3-9_01-02-03-004_all-35_.jpeg", MediaKind.MOTION,
         datetime(2022, 3, 9, 1, 2, 3)),
    ],
)  # fmt: skip
def test_keys_of_the_original_system_use_its_time_zone(key: str, kind: MediaKind, start: datetime) -> None:
    assert parse(key) == media_keys.MediaKey("c1", kind, start.replace(tzinfo=CHINA).timestamp())


@pytest.mark.parametrize(
    "key",
    ["c1/mp4/2022/12/9/capture-9-2022-12-09_01-02-03.mp4", "c1/mp4/2022/12/9/capture-009-2022-13-09_01-02-03.mp4",
     "c1/mp4/2022/2/31/vod-index.m3u8", "c1/mp4/vod-index.m3u8", "c1/mp4/0001/1/1/vod-index.m3u8",
     "c1/motion/mp4/2022/3/9/2022-13-9_01-02-03-004_all-35_.mp4"],
)  # fmt: skip
def test_invalid_keys_of_the_original_system_are_not_parsed(key: str) -> None:
    assert parse(key) is None


def test_captions_stand_beside_their_segment_and_session() -> None:
    session, segment = media_keys.playlist_key("c1", MS), media_keys.segment_key("c1", MS)
    keys = {
        media_keys.segment_captions_key(segment, "text-en"): ("c1/720p/1767323045678.text-en.vtt", segment, "text-en"),
        media_keys.playlist_captions_key(session, "cc1"): ("c1/vod-1767323045678.cc1.m3u8", session, "cc1"),
        media_keys.multivariant_key(session): ("c1/vod-1767323045678.master.m3u8", session, media_keys.MULTIVARIANT),
    }
    for key, (expected, owner, track) in keys.items():
        assert key == expected and is_object_key(key)
        assert parse(key) == media_keys.MediaKey("c1", MediaKind.CAPTIONS, MS / 1000)
        assert media_keys.captioned(key) == (owner, track)
    others = (session, segment, "c1/720p/1767323045678.a.b.vtt", "c1/720p/5.cc1.vtt", "a/c1/vod-1767323045678.cc1.m3u8")
    for key in (*others, media_keys.captions_key(media_keys.video_key("c1", MS), "cc1")):
        assert media_keys.captioned(key) is None
