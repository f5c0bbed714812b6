"""Closed captions: ours, ffmpeg's and go-608's decoder find the same texts at the same times."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support.caption_judges import Cue, ffmpeg_cues, go608_cues, go608_injected, our_changes, our_cues
from tests.support.caption_writer import code, painted_on, place, popped_on, rolled_up, typed, with_pairs
from tests.support.media import Film
from tests.support.time_outs import at_most
from tests.support.tools import need

FILM = Film("captions", seconds=16, audio=None)
PICTURE = 1 / 30
EDM = 0x2C

POP_ON = {10: popped_on(1, "FIRST ROW", "SECOND ROW"), 60: popped_on(1, "NEXT"), 120: code(1, EDM)} | {
    140: popped_on(1, "CAF{ _^~ +=", "'QUOTED'"),
    200: code(1, EDM),
    # Characters of two bytes are sent once: go-608 does not expect them twice.
    210: [*code(1, 0x20), *code(1, 0x2E), *place(1, 2, 8), *code(1, 0x22, 0x17), *typed("TOP "), *code(1, 0x2E, 0x11)],
    230: [*typed("NOTES "), *code(1, 0x37, 0x11)[:1], *typed(" AeAo"), *code(1, 0x31, 0x13)[:1], *code(1, 0x2F)],
    300: code(1, EDM),
}
ROLLED = ["ROLL ONE", "ROLL TWO", "ROLL THREE", "ROLL FOUR"]
ROLL_UP = {10 + 50 * number: rolled_up(1, text) for number, text in enumerate(ROLLED)} | {220: code(1, EDM)}
PAINT_ON = {10: painted_on(1, 3, "PAINTED") + place(1, 4) + typed("SECOND ROW"), 60: code(1, EDM)}


@pytest.fixture(scope="module", autouse=True)
def _tools() -> None:
    need("ffmpeg")


def film(content: dict[int, list[bytes]]) -> Path:
    pairs: dict[int, bytes] = {}
    for first, some in content.items():
        pairs |= dict(enumerate(some, first))
    return with_pairs(FILM, pairs)


def assert_same(ours: list[Cue], theirs: list[Cue]) -> None:
    """Fails unless the texts are equal, and each time within one picture."""
    assert [text for _, text in ours] == [text for _, text in theirs]
    for (our_time, text), (their_time, _) in zip(ours, theirs, strict=True):
        assert our_time == pytest.approx(their_time, abs=PICTURE), text


def test_ffmpeg_finds_the_same_pop_on_captions() -> None:
    path = film(POP_ON)
    assert [text for _, text in our_cues(path)] == [
        "FIRST ROW\nSECOND ROW",
        "NEXT",
        "CAFç óíñ +=\n’QUOTED’",
        "TOP NOTES ♪ AeAä",
    ]
    assert_same(our_cues(path), ffmpeg_cues(path))


@pytest.mark.nightly
def test_go608_finds_the_same_pop_on_captions() -> None:
    """It shows another apostrophe, and in 0.6.0 keeps the character that an extended one replaces."""
    path = film(POP_ON)
    ours = [(time, text.replace("’", "'").replace("ä", "oä")) for time, text in our_cues(path)]
    assert_same(ours, go608_cues(path))


def test_pictures_in_decode_order_are_sorted(tmp_path: Path) -> None:
    out = tmp_path / "b-frames.ts"
    encode = ["-c:v", "libx264", "-bf", "3", "-b_strategy", "0", "-preset", "ultrafast", "-f", "mpegts", str(out)]
    subprocess.run(
        ["ffmpeg", "-nostdin", "-v", "error", "-i", str(film(POP_ON)), *encode], check=True, timeout=at_most(60)
    )
    assert_same(our_cues(out), ffmpeg_cues(out))
    assert_same(our_cues(out), our_cues(film(POP_ON)))


def test_ffmpeg_finds_the_same_roll_up_texts() -> None:
    """It counts a line from its first code on, and we count it from its last character on."""
    path = film(ROLL_UP)
    ours, theirs = our_cues(path), ffmpeg_cues(path)
    assert (
        [text for _, text in ours]
        == [text for _, text in theirs]
        == ["\n".join(ROLLED[max(number - 1, 0) : number + 1]) for number in range(4)]
    )
    for (ours_at, _), (theirs_at, _), text in zip(ours, theirs, ROLLED, strict=True):
        assert ours_at - theirs_at == pytest.approx((2 + len(text) // 2) * PICTURE, abs=5 * PICTURE)


@pytest.mark.nightly
@pytest.mark.parametrize("content", [ROLL_UP, PAINT_ON], ids=["roll-up", "paint-on"])
def test_go608_finds_a_row_complete_at_the_same_time(content: dict[int, list[bytes]]) -> None:
    path = film(content)
    theirs = [(time, text.split("\n")[-1]) for time, text in go608_cues(path)]
    for time, text in our_cues(path):
        last = text.split("\n")[-1]
        assert min(at for at, row in theirs if row == last) == pytest.approx(time, abs=PICTURE)


def test_ffmpeg_finds_the_same_painted_text() -> None:
    path = film(PAINT_ON)
    assert our_cues(path)[-1][1] == ffmpeg_cues(path)[-1][1] == "PAINTED\nSECOND ROW"


@pytest.mark.nightly
def test_captions_of_go608_are_read(tmp_path: Path) -> None:
    subtitles = "1\n00:00:02,000 --> 00:00:04,000\nHello, café and Ñandú\n\n"
    subtitles += "2\n00:00:05,500 --> 00:00:07,000\nTwo lines of text\nwith ♪ and ½\n\n"
    subtitles += "3\n00:00:09,000 --> 00:00:11,000\nAnd the end\n"
    path = go608_injected(FILM.path(), subtitles, tmp_path)
    assert [change.text for change in our_changes(path)] == [
        *("Hello, café and Ñandú", ""),
        *("Two lines of text\nwith ♪ and ½", ""),
        *("And the end", ""),
    ]
    assert_same(our_cues(path), ffmpeg_cues(path))
    assert_same(our_cues(path), go608_cues(path))
