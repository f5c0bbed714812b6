"""The console's words: both languages have the same keys, every key that is asked for exists, and every one is used."""

import re
from pathlib import Path

import pytest

APP = Path(__file__).resolve().parents[2] / "gateway" / "console" / "app"
_LINE = re.compile(
    r'  "(?P<key>[\w.\-]+)": (?P<words>"(?:[^"\\]|\\.)+"|\{ one: "(?:[^"\\]|\\.)+", other: "(?:[^"\\]|\\.)+" \}),'
)
_HOLE = re.compile(r"\{(\w+)\}")
_COMMENT = re.compile(r"\s*(//.*)?")
_LITERAL = re.compile(r'\bt\(\s*"([^"]+)"')
_TEMPLATE = re.compile(r"\bt\(\s*`([^`$]*)\$\{")
_CHOSEN = re.compile(r'\bt\(\s*[^"`()]*\?\s*"([^"]+)"\s*:\s*"([^"]+)"')
_CHINESE = re.compile(r"[\u3000-\u303f\u3400-\u9fff\uff00-\uffef]")
TABLES = ["", "-views"]


def table(name: str) -> dict[str, str]:
    """The keys of one file with their words as they stand there; a line that is none is an error."""
    text = (APP / "words" / f"{name}.js").read_text()
    body = re.search(r"export default \{\n(.*)\};\n", text, re.S)
    assert body, f"{name}.js exports no table"
    found: dict[str, str] = {}
    for line in body[1].splitlines():
        if _COMMENT.fullmatch(line):
            continue
        match = _LINE.fullmatch(line)
        assert match, f"{name}.js: not a line of words: {line!r}"
        assert match["key"] not in found, f"{name}.js has {match['key']} twice"
        found[match["key"]] = match["words"]
    return found


def holes(words: str) -> set[str]:
    return set(_HOLE.findall(words))


def scripts() -> dict[str, str]:
    return {str(p.relative_to(APP)): p.read_text() for p in APP.rglob("*.js") if p.parent.name != "words"}


def all_keys() -> set[str]:
    return {key for end in TABLES for key in table(f"en{end}")}


@pytest.mark.parametrize("end", TABLES)
def test_both_languages_say_the_same_things(end: str) -> None:
    english, chinese = table(f"en{end}"), table(f"zh{end}")
    assert english.keys() == chinese.keys()
    for key, words in english.items():
        assert holes(words) == holes(chinese[key]), f"{key} fills other holes in Chinese"


def test_no_key_stands_in_two_tables() -> None:
    assert not set(table("en")) & set(table("en-views"))


def test_every_key_that_is_asked_for_exists() -> None:
    keys = all_keys()
    for name, text in scripts().items():
        asked = set(_LITERAL.findall(text)) | {key for pair in _CHOSEN.findall(text) for key in pair}
        assert asked <= keys, f"{name} asks for {sorted(asked - keys)}"
        for start in _TEMPLATE.findall(text):
            assert start, f"{name} asks for a key that only its running knows"
            assert any(key.startswith(start) for key in keys), f"{name} asks for {start}…, of which there is none"


def test_no_words_are_left_over() -> None:
    text = "\n".join(scripts().values())
    starts = tuple(_TEMPLATE.findall(text))
    left = {key for key in all_keys() if f'"{key}"' not in text and not key.startswith(starts)}
    assert not left


@pytest.mark.parametrize("end", TABLES)
def test_words_without_a_chinese_character_are_names(end: str) -> None:
    english, chinese = table(f"en{end}"), table(f"zh{end}")
    latin = {
        key
        for key, words in chinese.items()
        if re.search("[A-Za-z]", _HOLE.sub("", words)) and not _CHINESE.search(words)
    }
    assert {key for key in latin if english[key] != chinese[key]} == set()
