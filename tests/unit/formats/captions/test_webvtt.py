"""WebVTT that is written."""

from gateway.formats.captions.webvtt import join_webvtt, webvtt
from gateway.media.caption_cue import CaptionCue

SECOND = 90_000


def test_a_cue_has_its_times_and_its_place() -> None:
    written = webvtt([CaptionCue(90_045, 360_000_000, "Hello", 10)])
    assert written == b"WEBVTT\n\n00:00:01.001 --> 01:06:40.000 line:10%\nHello\n"


def test_a_segment_says_to_which_moment_of_the_stream_it_belongs() -> None:
    written = webvtt([CaptionCue(SECOND, 2 * SECOND, "Hi")], 0, ((1 << 33) + 900_000, 4 * SECOND))
    assert written.startswith(b"WEBVTT\nX-TIMESTAMP-MAP=MPEGTS:900000,LOCAL:00:00:04.000\n\n00:00:01.000 --> ")


def test_cues_before_the_origin_are_cut() -> None:
    cues = [CaptionCue(SECOND, 3 * SECOND, "half"), CaptionCue(0, 2 * SECOND, "gone")]
    assert webvtt(cues, 2 * SECOND) == b"WEBVTT\n\n00:00:00.000 --> 00:00:01.000\nhalf\n"


def test_cues_with_nothing_to_show_are_left_out() -> None:
    cues = [CaptionCue(0, None, "open"), CaptionCue(0, 90, " \n\x00\n"), CaptionCue(90, 90, "no time")]
    assert webvtt(cues) == b"WEBVTT\n"


def test_markup_and_empty_lines_are_only_text() -> None:
    written = webvtt([CaptionCue(0, SECOND, "a --> b\r\n\n\u2028<i>&\x00\x85\ud800")])
    assert written == b"WEBVTT\n\n00:00:00.000 --> 00:00:01.000\na --&gt; b\n&lt;i&gt;&amp;\n?\n"


def test_a_cue_shorter_than_a_millisecond_still_has_a_duration() -> None:
    assert b"00:00:00.000 --> 00:00:00.001\n" in webvtt([CaptionCue(0, 1, "flash")])


def test_hours_may_have_more_than_two_digits() -> None:
    assert b"100:00:00.000 --> 100:00:01.000\n" in webvtt([CaptionCue(360_000 * SECOND, 360_001 * SECOND, "late")])


def test_files_on_one_clock_are_joined_with_each_cue_once() -> None:
    cues = [CaptionCue(n * SECOND, (n + 1) * SECOND, f"{n}") for n in range(3)]
    files = [webvtt(cues[:2], 0, (0, SECOND)), webvtt((), 0, (SECOND, 2 * SECOND)), webvtt(cues[1:], 0, (0, SECOND))]
    assert join_webvtt(files) == webvtt(cues, 0, (0, SECOND))
    assert join_webvtt(files[1:2]) == files[1]
    assert join_webvtt([]) == b""
