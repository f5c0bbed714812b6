"""The parts of VoD that use no media library: names, times, playlists, colours."""

from __future__ import annotations

import re
from itertools import pairwise
from urllib.parse import unquote, urljoin

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.channels.names import is_object_key
from gateway.channels.stream_key import SignatureUse, SigningSecrets, Verdict
from gateway.media.clock import VIDEO_CLOCK
from gateway.ports.vod_names import VodNames, names_in, names_of, play_name, reference
from gateway.workers.programs.hdr import SIZE, Transfer, table
from gateway.workers.programs.vod.continuous_timeline import ContinuousTimeline
from gateway.workers.programs.vod.ts_segment_writer import (
    WrittenSegment,
    average,
    master_playlist,
    peak,
    vod_playlist,
)

# ---- names ----


@pytest.mark.parametrize(
    ("key", "prefix", "base"),
    [
        ("a.mp4", "a", "a"),
        ("my.v1.clip.mp4", "my.v1.clip", "my.v1.clip"),
        ("dir.x/a.mp4", "dir.x/a", "a"),
        ("my.v1 phone.mp4", "my.v1 phone", "my.v1 phone"),
        ("clip (1),+it's.mp4", "clip (1),+it's", "clip (1),+it's"),
        ("films/2026/Übung #1.MOV", "films/2026/Übung #1", "Übung #1"),
    ],
)
def test_folder_and_files_have_the_name_of_the_film(key: str, prefix: str, base: str) -> None:
    names = names_of(key)
    assert (names.prefix, names.base) == (prefix, base)


@pytest.mark.parametrize("base", ["a", "my.v1.clip", "Ein_Film-2", "clip(1)", "a~b!c$d'e*f,g;h=i@j+k"])
def test_a_base_name_that_needs_no_escaping_is_not_changed(base: str) -> None:
    assert names_of(f"x/{base}.mp4") == VodNames(f"x/{base}", base)
    assert reference(base) == base


@pytest.mark.parametrize("key", ["a", "dir/a", "dir.x/a", ".mp4", "dir/.mp4", "a.", "x" * 240 + ".mp4"])
def test_a_key_whose_folder_would_be_the_film_itself_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match="name"):
        names_of(key)


def test_files_have_the_names_that_mediaconvert_gives() -> None:
    names = names_of("films/a.mp4")
    assert names.key(names.master) == "films/a/a.m3u8"
    assert names.key(names.playlist) == "films/a/astream.m3u8"
    assert names.key(names.segment(1)) == "films/a/astream_00001.ts"
    assert names.key(names.poster) == "films/a/a.0000000.jpg"
    assert names.key(names.thumbnail) == "films/a/thumbnail.0000000.jpg"


def test_only_files_of_a_film_match_its_names() -> None:
    names = names_in("films/a")
    for file in (
        "a.m3u8",
        "astream.m3u8",
        "astream_00001.ts",
        "astream_123456.ts",
        "a.0000000.jpg",
        "thumbnail.0000000.jpg",
    ):
        assert names.has(file)
    for file in (
        "a.mp4",
        "b.m3u8",
        "a.m3u8.part",
        "astream_1.ts",
        "bstream_00001.ts",
        "1700000000000.ts",
        "a.0000001.jpg",
        "",
    ):
        assert not names.has(file)
    # What channels record.
    assert not names_in("c1/720p").has("1700000000000.ts")
    assert not names_in("c1").has("vod-1700000000000.m3u8")
    assert not names_in("c1/mp4/2026/1/2").has("capture-2026-01-02_03-04-05-1767323045000.mp4")
    assert not names_in("c1/images/2026/1/2").has("capture-2026-01-02_03-04-05.jpg")


@given(st.text(min_size=1, max_size=40))
def test_references_in_playlists_are_relative_uris_of_the_files(base: str) -> None:
    if not is_object_key(base):
        return
    name = VodNames("x", base).segment(99_999)
    written = reference(name)
    assert re.fullmatch(r"(?:[A-Za-z0-9\-._~!$'()*+,;=@]|%[0-9A-F]{2})+", written) and unquote(written) == name
    assert urljoin("http://host/x/y.m3u8", written) == f"http://host/x/{written}"


def test_a_play_sign_for_films_is_not_valid_for_a_channel() -> None:
    secrets = SigningSecrets("s")
    name = play_name("films/a@b c")
    assert name == "vod/films/a%40b%20c"
    key = secrets.sign(name, 2_000_000_000, SignatureUse.PLAY)
    assert secrets.verify_play(name, key, 1e9) is Verdict.VALID
    assert secrets.verify_play("films", key, 1e9) is Verdict.WRONG


# ---- times ----


def place(line: ContinuousTimeline, *times: float, step: float = 0.04) -> list[float | None]:
    placed = [line.place(round(t * VIDEO_CLOCK), round(step * VIDEO_CLOCK)) for t in times]
    return [None if p is None else round(p / VIDEO_CLOCK, 3) for p in placed]


def test_ordinary_times_are_not_changed() -> None:
    assert place(ContinuousTimeline(10 * VIDEO_CLOCK), 5.0, 5.04, 5.08) == [5.0, 5.04, 5.08]


def test_a_pause_is_not_treated_as_a_jump() -> None:
    assert place(ContinuousTimeline(10 * VIDEO_CLOCK), 0.0, 9.0, 9.04) == [0.0, 9.0, 9.04]


def test_after_a_jump_times_continue_without_a_gap() -> None:
    assert place(ContinuousTimeline(10 * VIDEO_CLOCK), 0.0, 0.04, 3600.0, 3600.04, 1.0, 1.04) == [
        0.0,
        0.04,
        0.08,
        0.12,
        0.16,
        0.2,
    ]


def test_frames_at_or_before_the_last_time_are_left_out() -> None:
    assert place(ContinuousTimeline(10 * VIDEO_CLOCK), 0.0, 0.0, 0.04, 0.02, 0.08) == [0.0, None, 0.04, None, 0.08]


def test_sound_gets_the_same_correction_of_a_jump_as_pictures() -> None:
    pictures = ContinuousTimeline(10 * VIDEO_CLOCK)
    place(pictures, 0.0, 0.04, 3600.0)
    sounds = ContinuousTimeline(10 * VIDEO_CLOCK, pictures)
    # Its last frame lay before that of the pictures: by itself it would be moved a little otherwise.
    assert place(sounds, 0.0, 0.02, 3600.03, step=0.02) == [0.0, 0.02, 0.11]


@given(st.lists(st.tuples(st.integers(-(10**12), 10**12), st.integers(0, 10**6)), max_size=60))
def test_times_only_grow(events: list[tuple[int, int]]) -> None:
    line = ContinuousTimeline(10 * VIDEO_CLOCK)
    placed = [p for time, step in events if (p := line.place(time, step)) is not None]
    assert all(a < b for a, b in pairwise(placed))


# ---- playlists ----


def test_a_target_duration_is_the_longest_one_rounded() -> None:
    text = vod_playlist([WrittenSegment("a_1.ts", 10.4, 1), WrittenSegment("a_2.ts", 10.5, 1)]).decode()
    assert "#EXT-X-TARGETDURATION:11\n" in text


def test_names_in_playlists_are_those_of_the_files_escaped() -> None:
    names = names_of("x/Ein #1 Film: 100%.mp4")
    segments = [WrittenSegment(names.segment(1), 10.0, 1_250_000)]
    assert vod_playlist(segments).decode().splitlines()[-2] == "Ein%20%231%20Film%3A%20100%25stream_00001.ts"
    master = master_playlist(names, segments, None, None, None).decode()
    assert master.splitlines()[-1] == "Ein%20%231%20Film%3A%20100%25stream.m3u8"


def test_a_very_short_segment_alone_is_not_the_peak() -> None:
    segments = [
        WrittenSegment("1", 10, 1_000_000),
        WrittenSegment("2", 10, 2_000_000),
        WrittenSegment("3", 0.1, 100_000),
    ]
    assert peak(segments) == 1_663_367  # the second with the third: a tenth of a second alone is no peak
    assert average(segments) == 1_233_831


def test_a_short_film_has_its_average_for_a_peak() -> None:
    assert peak([WrittenSegment("1", 2, 500_000)]) == average([WrittenSegment("1", 2, 500_000)]) == 2_000_000


# ---- colours ----


@pytest.mark.parametrize("transfer", list(Transfer))
def test_a_color_table_does_not_change_black_and_the_hue_of_grey(transfer: Transfer) -> None:
    colours = table(transfer)
    assert len(colours) == SIZE**3
    assert colours[0] == (0, 0, 0) and min(colours[-1]) > 0.99
    greys = [colours[n * (1 + SIZE + SIZE * SIZE)] for n in range(SIZE)]
    for red, green, blue in greys:
        assert max(red, green, blue) - min(red, green, blue) < 0.01
    levels = [grey[1] for grey in greys]
    assert levels == sorted(levels)
    assert all(0 <= v <= 1 for colour in colours for v in colour)
