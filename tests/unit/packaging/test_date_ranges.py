"""Ad breaks in playlists: date ranges, and tags at segments."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.media.timed_data import AdCue, CueType
from gateway.packaging.date_ranges import CueTags, DateRanges
from tests.support import hls_rules
from tests.support.splices import splice_insert, time_signal

OUT, IN, OTHER = CueType.OUT, CueType.IN, CueType.OTHER
SECTION = splice_insert(900_000)
HEX = SECTION.hex().upper()


def cue(kind: CueType, at: float, id: str = "b1", seconds: float | None = None, data: bytes = SECTION) -> AdCue:
    return AdCue(kind, id, round(at * 90_000), seconds, data)


def ranges(*cues: AdCue) -> DateRanges:
    found = DateRanges()
    for each in cues:
        found.add(each, each.at / 90_000)
    return found


def parsed(text: str) -> hls_rules.Playlist:
    head = "#EXTM3U\n#EXT-X-VERSION:9\n#EXT-X-TARGETDURATION:2\n"
    return hls_rules.parse(f"{head}{text}#EXT-X-PROGRAM-DATE-TIME:1970-01-01T00:00:00.000Z\n#EXTINF:2.0,\na.ts\n")


def test_a_break_has_one_tag_for_each_cue() -> None:
    back = splice_insert(1_800_000, out=False)
    assert ranges(cue(OUT, 10, seconds=30), cue(IN, 32.5, data=back)).lines(0) == (
        f'#EXT-X-DATERANGE:ID="b1",START-DATE="1970-01-01T00:00:10.000Z",PLANNED-DURATION=30.000,SCTE35-OUT=0x{HEX}\n'
        '#EXT-X-DATERANGE:ID="b1",START-DATE="1970-01-01T00:00:10.000Z",END-DATE="1970-01-01T00:00:32.500Z",'
        f"DURATION=22.500,SCTE35-IN=0x{back.hex().upper()}\n"
    )


def test_other_cues_are_moments() -> None:
    text = ranges(cue(OTHER, 10, data=time_signal(5))).lines(0)
    assert "SCTE35-CMD=0x" in text and "END-DATE" not in text


def test_a_damaged_section_is_left_out() -> None:
    text = ranges(cue(OUT, 10, data=b"\xfc\0\0")).lines(0)
    assert text == '#EXT-X-DATERANGE:ID="b1",START-DATE="1970-01-01T00:00:10.000Z"\n'


def test_repeated_sections_change_nothing() -> None:
    once = ranges(cue(OUT, 10, seconds=5), cue(IN, 15))
    often = ranges(cue(OUT, 10, seconds=5), cue(OUT, 10, seconds=5), cue(IN, 15), cue(IN, 15), cue(OUT, 10.2))
    assert often.lines(0) == once.lines(0)


def test_many_other_cues_leave_an_open_break_in_the_playlist() -> None:
    others = [cue(OTHER, 20 + n, f"o{n}", data=time_signal(5)) for n in range(100)]
    text = ranges(cue(OUT, 5, "old", seconds=5), cue(OUT, 10), *others).lines(0)
    assert [line for line in text.splitlines() if 'ID="b1"' in line and "SCTE35-OUT" in line]
    assert len(parsed(text).ranges) == 50 and 'ID="old"' not in text and 'ID="o99"' in text
    breaks = parsed(ranges(*(cue(OUT, n, f"b{n}") for n in range(100))).lines(0)).ranges
    assert len(breaks) == 50 and "b99" in breaks


def test_an_id_that_returns_is_another_range() -> None:
    found = parsed(ranges(cue(OUT, 10), cue(IN, 15), cue(OUT, 100), cue(IN, 105)).lines(0)).ranges
    assert list(found) == ["b1", "b1-100000"]
    assert found["b1-100000"]["DURATION"] == "5.000"


def test_ids_cannot_leave_their_quotes() -> None:
    found = parsed(ranges(cue(OUT, 10, id='a"\n#EXT-X-ENDLIST\ud800' + "x" * 300)).lines(0))
    assert [len(name) for name in found.ranges] == [128] and not found.ended


def test_a_break_that_ended_before_its_start_has_no_length() -> None:
    assert "DURATION=0.000" in ranges(cue(OUT, 10), cue(IN, 9)).lines(0)


def test_ranges_stay_while_they_touch_the_list() -> None:
    found = ranges(cue(OUT, 10, "a", 5), cue(OUT, 20, "b"), cue(OTHER, 30, "c"), cue(IN, 40, "d"))
    listed = {first: list(parsed(found.lines(first)).ranges) for first in (15.0, 15.1, 30.1, 41.0)}
    assert listed == {15.0: ["a", "b", "c", "d"], 15.1: ["b", "c", "d"], 30.1: ["b", "d"], 41.0: ["b"]}
    found.add(cue(IN, 60, "b"), 60)
    assert not found.lines(60.1)


def test_fifty_ranges_are_kept() -> None:
    found = parsed(ranges(*(cue(OUT, n, f"b{n}") for n in range(80))).lines(0)).ranges
    assert list(found) == [f"b{n}" for n in range(30, 80)]


KINDS = st.sampled_from(list(CueType))
CUES = st.builds(cue, KINDS, st.integers(0, 60), st.text(max_size=3), st.none() | st.floats(0.1, 100))


@given(st.lists(CUES, max_size=30), st.integers(0, 70))
def test_any_cues_keep_the_rules(cues: list[AdCue], first: int) -> None:
    found, seen = DateRanges(), ""
    for each in cues:
        found.add(each, each.at / 90_000)
        text = found.lines(0)
        assert all(line in text for line in seen.splitlines()), "a tag has changed"
        seen = text
    hls_rules.check(parsed(found.lines(float(first))))


def tags(found: DateRanges, *walls: float) -> list[str]:
    cue_tags = CueTags(found)
    return [cue_tags.before(wall).replace("#EXT-X-CUE-", "").replace("\n", " ").strip() for wall in walls]


def test_tags_stand_at_the_segments_of_a_break() -> None:
    assert tags(ranges(cue(OUT, 10, seconds=6)), 8, 10, 12, 14, 16, 18) == [
        "", "OUT:DURATION=6.000", "OUT-CONT:ElapsedTime=2.000,Duration=6.000",
        "OUT-CONT:ElapsedTime=4.000,Duration=6.000", "IN", "",
    ]  # fmt: skip


def test_a_break_without_a_duration_ends_with_its_cue() -> None:
    assert tags(ranges(cue(OUT, 9.5), cue(IN, 13)), 8, 10, 12, 14) == [
        "", "OUT", "OUT-CONT:ElapsedTime=2.500", "IN",
    ]  # fmt: skip


def test_a_segment_just_before_the_splice_belongs_to_the_break() -> None:
    assert tags(ranges(cue(OUT, 10, seconds=4)), 9.95, 11.95, 13.95) == [
        "OUT:DURATION=4.000", "OUT-CONT:ElapsedTime=1.950,Duration=4.000", "IN",
    ]  # fmt: skip


def test_breaks_may_follow_each_other() -> None:
    assert tags(ranges(cue(OUT, 10, "a"), cue(IN, 12, "a"), cue(OUT, 12, "b", 9)), 10, 12) == [
        "OUT", "IN #EXT-X-CUE-OUT:DURATION=9.000".replace("#EXT-X-CUE-", ""),
    ]  # fmt: skip


def test_a_break_within_one_segment_has_no_tags() -> None:
    assert tags(ranges(cue(OUT, 10.5, seconds=1)), 10, 12) == ["", ""]
