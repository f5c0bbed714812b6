"""Finds a font for each character. Reads the fonts of this machine from fontconfig, once for each language."""

import subprocess
import time
import unicodedata
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from PIL import ImageFont, features

# Seconds for all calls of one catalog; fontconfig builds its cache at the first call on a machine. A watermark worker
# counts as hung 10 s after its start, and must draw before, with the built-in font.
_TIMEOUT: Final = 4.0
_MAX_FONTS: Final = 400
_MAX_FACES: Final = 64
_EMOJI_SIZE: Final = 109  # the only size of bitmap emoji fonts (Noto Color Emoji)
# Han characters look different in each country. Chinese is the default, because users of the old system write it.
_LANGUAGES: Final = (
    ("ja", ((0x3041, 0x30FF), (0x31F0, 0x31FF), (0xFF66, 0xFF9D))),
    ("ko", ((0x1100, 0x11FF), (0x3131, 0x318E), (0xAC00, 0xD7A3))),
    ("zh-cn", ((0x2E80, 0x2FDF), (0x3400, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF))),
)
_CJK: Final = (*(r for _, ranges in _LANGUAGES for r in ranges), (0x3000, 0x33FF), (0xFE30, 0xFE4F), (0xFF00, 0xFFEF))
_EMOJI: Final = ((0x1F000, 0x1FAFF), (0x2600, 0x27BF), (0x1F1E6, 0x1F1FF))


def _within(code: int, ranges: Iterable[tuple[int, int]]) -> bool:
    return any(first <= code <= last for first, last in ranges)


def language(text: str) -> str:
    """Returns the language that determines the letter forms, by fontconfig's name; "en" if it makes no difference."""
    return next((name for name, ranges in _LANGUAGES if any(_within(ord(c), ranges) for c in text)), "en")


def is_emoji(cluster: str) -> bool:
    """Returns whether a cluster is shown as a colored emoji, if an emoji font exists."""
    return "\ufe0f" in cluster or ("\ufe0e" not in cluster and 0x1F000 <= ord(cluster[0]) <= 0x1FAFF)


def package_with(character: str) -> str:
    """Returns the Debian package with fonts for this character."""
    code = ord(character)
    if _within(code, _CJK):
        return "fonts-noto-cjk"
    if _within(code, _EMOJI):
        return "fonts-noto-color-emoji"
    return "fonts-noto-core"


@dataclass(frozen=True, slots=True)
class Font:
    """A face of a font file.

    path: "" for the font of Pillow, which has Latin letters. index: of the face in the file.
    starts, ends: ranges of its code points, ascending. colored: True for an emoji font.
    """

    path: str
    index: int
    starts: tuple[int, ...]
    ends: tuple[int, ...]
    colored: bool = False

    def has(self, character: str) -> bool:
        code = ord(character)
        at = bisect_right(self.starts, code) - 1
        return at >= 0 and code <= self.ends[at]


BUILT_IN: Final = Font("", 0, (0x20, 0xA0), (0x7E, 0xFF))


def _parse(line: str) -> Font | None:
    starts, ends = [], []
    try:
        path, index, colored, charset = line.split("|", 3)
        for entry in charset.split():
            first, _, last = entry.partition("-")
            starts.append(int(first, 16))
            ends.append(int(last or first, 16))
        # The upper half of the index is the number of a named instance of a variable font.
        face = int(index) & 0xFFFF
    except ValueError:
        return None
    # Bitmap and Type 1 fonts have no outlines to scale.
    usable = starts and path.lower().endswith((".ttf", ".ttc", ".otf", ".otc"))
    return Font(path, face, tuple(starts), tuple(ends), colored == "True") if usable else None


def choose(cluster: str, fonts: tuple[Font, ...]) -> Font | None:
    """Returns the first font that has every character of a cluster, else the first that has its base character.

    A cluster is a character with its marks, see `text_renderer.clusters`.

    Returns None if no font has it. Invisible characters (joiners, variation selectors) need not be in the font.
    """
    characters = [(c, unicodedata.category(c)) for c in cluster if c not in "\ufe0e\ufe0f"]
    visible = [c for c, category in characters if category not in ("Cf", "Mn")] or [cluster[0]]
    marks = [c for c, category in characters if category == "Mn"]
    emoji = is_emoji(cluster)
    ordered = sorted(fonts, key=lambda f: f.colored is not emoji)  # stable: otherwise keeps the order
    for needed in ((*visible, *marks), tuple(visible), (cluster[0],)):
        for font in ordered:
            if all(font.has(c) for c in needed):
                return font
    return None


class FontCatalog:
    """The fonts of this machine.

    family: a font name for fontconfig (`watermark.font`).
    notes: messages about missing packages, for the operator. face: opens a font, see `_open`; keeps the last ones.
    """

    def __init__(self, family: str) -> None:
        self.notes: list[str] = []
        self._family = family
        self._fonts: dict[str, tuple[Font, ...]] = {}
        self._seconds = _TIMEOUT  # that are left for fontconfig
        self.face = lru_cache(_MAX_FACES)(self._open)
        # Shaping joins and reorders letters. Pillow needs raqm for it, and opens raqm's libfribidi at run time.
        self.can_shape = bool(features.check("raqm") and features.check("fribidi"))
        if not self.can_shape:
            self.notes.append("Arabic, Devanagari and similar scripts need libfribidi: install the package libfribidi0")

    def fonts(self, language: str) -> tuple[Font, ...]:
        """Returns the fonts for a language, best first. Fonts that add no characters are omitted; BUILT_IN is last."""
        if language not in self._fonts:
            self._fonts[language] = (*self._find(language), BUILT_IN)
        return self._fonts[language]

    def _find(self, language: str) -> list[Font]:
        # `-s` omits fonts that add no characters to the previous ones.
        pattern = f"{self._family}:lang={language}"
        command = ["fc-match", "-s", pattern, "--format", "%{file}|%{index}|%{color}|%{charset}\n"]
        started = time.monotonic()
        try:
            # A worker may write no file. Where fontconfig's cache is stale, as in an image, `fc-match` writes one: it
            # inherits that SIGXFSZ is ignored, so that this fails and does not kill it.
            result = subprocess.run(  # noqa: S603 (no shell)
                command, capture_output=True, timeout=self._seconds, check=True, restore_signals=False
            )
        except (OSError, subprocess.SubprocessError):
            self.notes.append("fontconfig does not answer: install the package fontconfig")
            return []
        finally:
            self._seconds -= time.monotonic() - started
        fonts = (_parse(line) for line in result.stdout.decode("utf-8", "replace").splitlines()[:_MAX_FONTS])
        return [font for font in fonts if font is not None]

    def _open(self, font: Font, size: int) -> tuple[ImageFont.FreeTypeFont, float]:
        """Returns the font opened at `size` pixels (like ffmpeg's fontsize), and the scale factor for its pictures.

        Returns the built-in font if the file cannot be read.
        """
        engine = ImageFont.Layout.RAQM if self.can_shape else ImageFont.Layout.BASIC
        # Bitmap emoji fonts have one size only; outline fonts have any size.
        sizes = ((_EMOJI_SIZE, size / _EMOJI_SIZE), (size, 1.0)) if font.colored else ((size, 1.0),)
        for pixels, scale in sizes if font.path else ():
            try:
                return ImageFont.truetype(font.path, pixels, font.index, layout_engine=engine), scale
            except OSError:
                note = f"the font {font.path} cannot be used: it is damaged, or cannot be read"[:300]
        if font.path:
            self.notes.append(note)
        built_in = ImageFont.load_default(size)
        assert isinstance(built_in, ImageFont.FreeTypeFont), "Pillow returns this type if the size is set"
        return built_in, 1.0
