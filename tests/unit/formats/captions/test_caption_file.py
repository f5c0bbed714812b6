"""Files with captions that are read, and files that are written, read by ffmpeg."""

from __future__ import annotations

import subprocess
from itertools import pairwise
from pathlib import Path

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.formats.captions.caption_file import MAX_BYTES, read_caption_file
from gateway.formats.captions.charsets import is_charset
from gateway.formats.captions.cue_lines import MAX_CUES, MAX_TEXT, shown_text
from gateway.formats.captions.webvtt import webvtt
from gateway.media.caption_cue import CaptionCue
from gateway.media.errors import InvalidData
from tests.support.time_outs import at_most

SECOND = 90_000

WEBVTT = b"""WEBVTT - a title
X-TIMESTAMP-MAP=MPEGTS:1,LOCAL:00:00:00.000

NOTE a note
with lines

STYLE
::cue { color: red }

REGION
id:fred

second
00:02.000 --> 00:03.500 align:start line:10.5%,end
<v Ann>Hello &amp; <i>you</i>
<00:02.500>again <c.x

1:00:00.000 --> 1:00:01.000
&lt;b&gt; 5 &gt; 4
00:00:01.000 --> 00:00:02.000 line:0
first

00:61 --> never
lost
"""

SUBRIP = """1
00:00:01,000 --> 00:00:02,500
<i>Café</i> <font color="red">x</font> <3

after an empty line
3

2
00:00:03,5 --> 00:00:04,000 X1:0 X2:9
{\\an8}שלום 🎬 &amp;
"""


def test_webvtt_has_the_texts_of_its_cues_in_the_order_of_time() -> None:
    assert read_caption_file(WEBVTT) == [
        CaptionCue(SECOND, 2 * SECOND, "first", 0),
        CaptionCue(2 * SECOND, 315_000, "Hello & you\nagain", 10),
        CaptionCue(3600 * SECOND, 3601 * SECOND, "<b> 5 > 4"),
    ]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("1\n\n00:01,0 --> 00:02,0\nfirst\n\n2\n\n00:03,0 --> 00:04,0\nsecond\n", ["first", "second"]),
        ("00:01,0 --> 00:02,0\n3\n\n00:02,0 --> 00:03,0\n2\n\n00:03,0 --> 00:04,0\n1\n", ["3", "2", "1"]),
    ],
)
def test_an_empty_line_may_follow_the_number_of_a_cue(text: str, shown: list[str]) -> None:
    """A text that is a number has no empty line before it."""
    assert [cue.text for cue in read_caption_file(text.encode())] == shown


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_subrip_is_read_in_all_line_ends_and_encodings(ends: str, encoding: str) -> None:
    assert read_caption_file(SUBRIP.replace("\n", ends).encode(encoding)) == [
        CaptionCue(SECOND, 225_000, "Café x <3\nafter an empty line\n3"),
        CaptionCue(315_000, 4 * SECOND, "שלום 🎬 &amp;", 10),
    ]


def test_text_that_is_not_utf8_is_latin_1() -> None:
    [cue] = read_caption_file("1\n00:00:01,000 --> 00:00:02,000\nCafé\n".encode("latin-1"))
    assert cue.text == "Café"


@pytest.mark.parametrize(
    ("language", "encoding", "text"),
    [
        ("ru", "cp1251", "Привет, мир"),
        ("zh", "gb18030", "你好，世界"),
        ("zh-Hant-TW", "big5", "你好，世界"),
        ("ja-JP", "shift_jis", "こんにちは"),
        ("ko", "euc-kr", "안녕하세요"),
        ("el", "cp1253", "Γειά σου"),
        ("fr", "cp1252", "Où êtes-vous né ?"),
    ],
)
def test_text_that_is_not_unicode_is_in_the_character_set_of_its_language(
    language: str, encoding: str, text: str
) -> None:
    data = f"1\n00:00:01,000 --> 00:00:02,000\n{text}\n".encode(encoding)
    assert [cue.text for cue in read_caption_file(data, language=language)] == [text]
    assert [cue.text for cue in read_caption_file(data, charset=encoding)] == [text]


@pytest.mark.parametrize(("language", "charset"), [("en", ""), ("", ""), ("en", "utf-8")])
def test_text_in_an_unknown_character_set_is_refused(language: str, charset: str) -> None:
    data = "1\n00:00:01,000 --> 00:00:02,000\nПривет, мир, это титры\n".encode("koi8-r")
    with pytest.raises(InvalidData, match=r"charset|not in utf-8"):
        read_caption_file(data, language=language, charset=charset)


def test_japanese_in_another_character_set_than_the_usual_one_is_refused() -> None:
    """Read as Shift-JIS, EUC-JP has characters without a meaning, which Shift-JIS leaves to its users."""
    data = "1\n00:00:01,000 --> 00:00:02,000\nこんにちは\n".encode("euc-jp")
    with pytest.raises(InvalidData, match="charset"):
        read_caption_file(data, language="ja")
    assert [cue.text for cue in read_caption_file(data, language="ja", charset="euc-jp")] == ["こんにちは"]


def test_only_encodings_of_texts_are_character_sets() -> None:
    assert all(map(is_charset, ["windows-1251", "GB18030", "Shift_JIS", "euc-kr", "utf-8", "ISO-8859-15", "koi8-u"]))
    assert not any(map(is_charset, ["", "hex", "idna", "punycode", "rot13", "unicode_escape", "x" * 99, "../utf8"]))


@pytest.mark.parametrize(
    ("settings", "line"),
    [("line:84%", 84), ("line:-1", 95), ("line:5", 27), ("line:-90", 0), ("line:999%", 100), ("xline:3", None)],
)
def test_the_line_becomes_a_part_of_the_picture(settings: str, line: int | None) -> None:
    [cue] = read_caption_file(f"WEBVTT\n\n00:01.000 --> 00:02.000 {settings}\nx\n".encode())
    assert cue.line == line


@pytest.mark.parametrize("data", [b"", b"\x00\x01\xff", b"WEBVTTX\n", b"1\n\ntext", b"a --> b\nc", b"\x1aE\xdf\xa3"])
def test_other_files_are_refused(data: bytes) -> None:
    with pytest.raises(InvalidData):
        read_caption_file(data)


def test_a_file_is_bounded_in_bytes_cues_and_characters() -> None:
    with pytest.raises(InvalidData):
        read_caption_file(b"WEBVTT\n" + bytes(MAX_BYTES))
    cue = "00:01.000 --> 00:02.000\n%s\n\n"
    assert len(read_caption_file(("WEBVTT\n\n" + cue % "x" * (MAX_CUES + 9)).encode())) == MAX_CUES
    [long] = read_caption_file(("WEBVTT\n\n" + cue % ("x" * 9_000)).encode())
    assert len(long.text) == MAX_TEXT


def test_a_file_that_ends_anywhere_has_the_cues_before() -> None:
    cut = [read_caption_file(WEBVTT[:n]) for n in range(6, len(WEBVTT))]
    assert all(len(a) <= len(b) + 1 for a, b in pairwise(cut))
    assert cut[-1] == read_caption_file(WEBVTT)


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40) | st.sampled_from(
    [
        "<b>x</b>",
        "a --> b",
        "&lt;",
        "WEBVTT",
        "NOTE\n\nx",
        "00:00:01.000 --> 00:00:02.000",
        "\u202eשלום\u202c",
        "1\n\n2",
    ]
)
cues = st.builds(
    lambda start, length, text, line: CaptionCue(start * 90, (start + length) * 90, text, line),
    st.integers(0, 10**9), st.integers(1, 10**6), texts, st.none() | st.integers(0, 100),
)  # fmt: skip


@given(st.lists(cues, max_size=8))
def test_written_cues_are_read_back(given_cues: list[CaptionCue]) -> None:
    shown = [CaptionCue(c.start, c.end, text, c.line) for c in given_cues if (text := shown_text(c.text))]
    assert read_caption_file(webvtt(given_cues)) == sorted(shown, key=lambda cue: cue.start)


def test_ffmpeg_reads_what_was_written(tmp_path: Path) -> None:
    written = tmp_path / "written.vtt"
    spoken = [
        CaptionCue(SECOND, 2 * SECOND, "<b>1 & 2</b>\n\nשלום 🎬"),
        CaptionCue(2 * SECOND, 3 * SECOND, "a --> b", 10),
    ]
    written.write_bytes(webvtt(spoken))
    with av.open(str(written)) as file:
        packets = [p for p in file.demux() if p.pts is not None]
    assert [(p.pts, p.duration) for p in packets] == [(1000, 1000), (2000, 1000)]
    made = tmp_path / "made.srt"
    subprocess.run(["ffmpeg", "-v", "error", "-i", written, made], check=True, timeout=at_most(30))
    assert [cue.text.replace("\\h", " ") for cue in read_caption_file(made.read_bytes())] == [
        "1 & 2\nשלום 🎬",  # ffmpeg writes <b> as it is, which is markup in SubRip
        "a --> b",
    ]
