"""Texts as pictures: any character literally, at the place of ffmpeg's drawtext, in bounded memory."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageChops

from gateway.outputs.watermark import watermark_output
from gateway.workers.programs.watermark.fonts import BUILT_IN, Font, FontCatalog, choose
from gateway.workers.programs.watermark.text_renderer import TextBlock, clusters, draw
from tests.support.examples import examples
from tests.support.media import quick_ffmpeg
from tests.support.time_outs import at_most
from tests.support.tools import lacking, need

RED = (255, 0, 0, 255)


@pytest.fixture(scope="module")
def book() -> FontCatalog:
    need("fc-match")
    return FontCatalog("sans")


def ink(text: str, book: FontCatalog, *, size: int = 40, left: int = 0, top: int = 0) -> Image.Image:
    picture, notes = draw(TextBlock(text, size, RED, left, top), 800, 400, book)
    assert notes == []
    return picture


def box(picture: Image.Image) -> tuple[int, int, int, int]:
    found = picture.getchannel("A").getbbox()
    assert found is not None, "nothing was drawn"
    return found


def differ(one: Image.Image, other: Image.Image) -> bool:
    return ImageChops.difference(one.getchannel("A"), other.getchannel("A")).getbbox() is not None


@pytest.mark.parametrize("text", ["a:b'c%d", "HEllo, gjy!", "x"])
@pytest.mark.parametrize("size", [12, 24, 73])
def test_the_text_has_the_same_place_as_with_ffmpegs_drawtext(
    text: str, size: int, book: FontCatalog, tmp_path: Path
) -> None:
    need("ffmpeg")
    font = next(f for f in book.fonts("en") if f.path.endswith("/DejaVuSans.ttf"))
    file = tmp_path / "text"
    file.write_text(text)
    out = tmp_path / "out.png"
    graph = f"drawtext=fontfile={font.path}:textfile={file}:expansion=none:fontsize={size}:fontcolor=white:x=61:y=35"
    command = [quick_ffmpeg(), "-nostdin", "-v", "error", "-f", "lavfi", "-i", "color=black:s=800x400"]
    subprocess.run([*command, "-vf", graph, "-frames:v", "1", "-y", str(out)], check=True, timeout=at_most(60))
    with Image.open(out) as theirs:
        wanted = theirs.convert("L").point(lambda v: 255 if v > 100 else 0).getbbox()
    assert wanted is not None
    only = FontCatalog("DejaVu Sans")
    picture, _ = draw(TextBlock(text, size, RED, 61, 35), 800, 400, only)
    got = picture.getchannel("A").point(lambda v: 255 if v > 100 else 0).getbbox()
    assert got is not None
    assert all(abs(a - b) <= 2 for a, b in zip(got, wanted, strict=True)), (got, wanted)


def test_special_characters_of_ffmpeg_are_drawn_literally(book: FontCatalog) -> None:
    plain = ink("a:b'c%d", book)
    for other in ("ab'c%d", "a:bc%d", "a:b'cd", "a:b'c"):
        assert differ(plain, ink(other, book))
    assert box(ink("\\", book))
    assert box(ink("\\n", book))[3] - box(ink("\\n", book))[1] < 60, "a written backslash and n begin no line"


@pytest.mark.parametrize("text", ["直播水印", "こんにちは", "안녕하세요", "Привет", "Γειά", "שלום", "مرحبا", "नमस्ते"])
def test_every_script_has_its_letters(text: str, book: FontCatalog) -> None:
    picture = ink(text, book)
    hollow = Image.new("RGBA", picture.size)
    assert differ(picture, hollow)
    # Not the box that stands for a missing character, over and over.
    font = choose(text[0], book.fonts("en"))
    assert font is not None
    assert font.has(text[0])


def test_arabic_letters_join_and_run_from_the_right(book: FontCatalog) -> None:
    assert box(ink("سلام", book))[2] < box(ink("س ل ا م", book))[2]
    # The tall alef of "أب" stands at the right.
    joined = ink("اب", book).getchannel("A")
    left, _, right, _ = joined.getbbox() or (0, 0, 0, 0)
    middle = (left + right) // 2
    top_left = joined.crop((left, 0, middle, 400)).getbbox()
    top_right = joined.crop((middle, 0, right, 400)).getbbox()
    assert top_left is not None
    assert top_right is not None
    assert top_right[1] < top_left[1]


def test_devanagari_vowels_take_their_place_before_the_consonant(book: FontCatalog) -> None:
    assert book.can_shape
    assert differ(ink("कि", book), ink("क ि", book))


def test_emoji_are_colored_pictures(book: FontCatalog) -> None:
    if not any(f.colored for f in book.fonts("en")):
        lacking("no font of emoji here: fonts-noto-color-emoji has one")
    picture, notes = draw(TextBlock("\U0001f600 ok", 48, RED, 10, 10), 400, 100, book)
    assert notes == []
    pixels = picture.crop((10, 10, 60, 60)).convert("RGB").getcolors(10_000)
    assert pixels is not None
    assert any(r > 200 and g > 150 and b < 120 for _, (r, g, b) in pixels), "a yellow face"


def test_lines_stand_below_each_other(book: FontCatalog) -> None:
    one, two = box(ink("Text", book)), box(ink("Text\r\nText", book))
    assert two[0] == one[0]
    assert two[3] > one[3] + 30
    assert two[1] == one[1]


def test_an_opacity_makes_the_letters_translucent(book: FontCatalog) -> None:
    picture, _ = draw(TextBlock("MM", 60, (0, 255, 0, 128), 0, 0), 200, 100, book)
    assert picture.getchannel("A").getextrema() == (0, 128)


def test_a_character_without_a_font_causes_a_note_with_the_package(book: FontCatalog) -> None:
    latin = FontCatalog("sans")
    latin._fonts = dict.fromkeys(("en", "zh-cn"), (BUILT_IN,))
    assert draw(TextBlock("a中文", 20, RED, 0, 0), 100, 50, latin)[1] == [
        "no font has U+4E2D, U+6587: install the package fonts-noto-cjk"
    ]
    assert draw(TextBlock("\U0001f600", 20, RED, 0, 0), 100, 50, latin)[1] == [
        "no font has U+1F600: install the package fonts-noto-color-emoji"
    ]
    assert draw(TextBlock("नमस्ते", 20, RED, 0, 0), 100, 50, latin)[1][0].endswith("fonts-noto-core")


def test_without_fontconfig_latin_letters_are_drawn_with_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    bare = FontCatalog("sans")
    picture, _ = draw(TextBlock("abc", 40, RED, 0, 0), 200, 100, bare)
    assert box(picture)
    assert any("install the package fontconfig" in note for note in bare.notes)


def test_a_fontconfig_that_hangs_ends_no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    now, waits = 0.0, []

    def hang(command: list[str], *, timeout: float, **options: object) -> None:
        nonlocal now
        waits.append(timeout)
        now += max(0.0, timeout)
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(subprocess, "run", hang)
    monkeypatch.setattr(time, "monotonic", lambda: now)
    bare = FontCatalog("sans")
    assert [bare.fonts(language) for language in ("en", "ja", "ko", "zh-cn")] == [(BUILT_IN,)] * 4
    assert waits[0] > 0
    assert now < watermark_output._HANG_SECONDS / 2, "the worker has started and drawn before it counts as hung"


def test_fonts_are_found_where_fontconfig_may_not_write_its_cache(tmp_path: Path) -> None:
    """The layers of an image make fontconfig's cache stale. A worker may write no file (`RLIMIT_FSIZE`)."""
    need("fc-match")
    configuration = tmp_path / "fonts.conf"
    configuration.write_text(
        f"<fontconfig><dir>/usr/share/fonts</dir><cachedir>{tmp_path / 'cache'}</cachedir></fontconfig>"
    )
    program = (
        "import resource; from gateway.workers.programs.watermark import fonts\n"
        f"fonts._TIMEOUT = {at_most(20)}\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)); fonts = fonts.FontCatalog('sans')\n"
        "print(len(fonts.fonts('en')), fonts.notes)"
    )
    environment = {**os.environ, "FONTCONFIG_FILE": str(configuration)}
    found = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=at_most(30)
    )
    count, _, notes = found.stdout.strip().partition(" ")
    assert int(count) > 1 and notes == "[]", found.stdout + found.stderr


def test_an_unreadable_font_file_is_replaced_by_the_built_in_font(tmp_path: Path) -> None:
    broken = tmp_path / "broken.ttf"
    broken.write_bytes(b"no font")
    bare = FontCatalog("sans")
    bare._fonts = {"en": (Font(str(broken), 0, (0x20,), (0x7E,)), BUILT_IN)}
    assert box(draw(TextBlock("abc", 40, RED, 0, 0), 200, 100, bare)[0])
    assert any("cannot be used" in note for note in bare.notes)


def test_text_beyond_the_picture_is_cut(book: FontCatalog) -> None:
    assert draw(TextBlock("abc", 40, RED, 800, 0), 800, 400, book)[0].getbbox() is None
    assert draw(TextBlock("abc", 40, RED, 0, 16_384), 800, 400, book)[0].getbbox() is None
    assert box(ink("W" * 1_024, book, left=700))[2] == 800
    assert box(ink("ש" * 1_024, book, left=700))[2] == 800


_HOSTILE = """
import resource
from gateway.workers.programs.watermark.fonts import FontCatalog
from gateway.workers.programs.watermark.text_renderer import TextBlock, draw
book = FontCatalog("sans")
draw(TextBlock("warm", 1_000, (255, 0, 0, 255), 0, 0), 1_920, 1_080, book)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for text in ("W" * 1_024, "W\\n" * 512, "\u0915" * 1_024, "a" + "\u0301" * 1_023, "\u0645" * 1_024,
             "".join(map(chr, range(0x4E00, 0x5200))), "\U0001f600" * 1_024):
    draw(TextBlock(text, 1_000, (255, 0, 0, 255), 0, 0), 1_920, 1_080, book)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1_000)
"""


def test_the_largest_texts_take_little_memory() -> None:
    done = subprocess.run([sys.executable, "-c", _HOSTILE], check=True, capture_output=True, timeout=at_most(60))
    assert int(done.stdout) < 150, "megabytes beyond those of a short text"


def test_marks_and_joined_emoji_stay_with_their_character() -> None:
    assert clusters("e\u0301a") == ["e\u0301", "a"]
    assert clusters("\U0001f469\u200d\U0001f467!") == ["\U0001f469\u200d\U0001f467", "!"]
    assert clusters("\U0001f1e9\U0001f1ea\U0001f1eb\U0001f1f7") == ["\U0001f1e9\U0001f1ea", "\U0001f1eb\U0001f1f7"]
    assert clusters("a\tb\x00\x1b\u202ec") == ["a", " ", " ", " ", " ", "b", "c"]
    assert len(clusters("a" + "\u0301" * 500)[0]) < 12


@settings(max_examples=examples(50, 150), deadline=None)
@given(st.text(max_size=60), st.integers(1, 1_000), st.integers(0, 300), st.integers(0, 200))
def test_any_text_can_be_drawn(text: str, size: int, left: int, top: int) -> None:
    book = _BOOK
    picture, notes = draw(TextBlock(text, size, RED, left, top), 320, 180, book)
    assert picture.size == (320, 180)
    assert all(note.isprintable() for note in notes)


_BOOK = FontCatalog("sans")
