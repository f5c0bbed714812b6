"""Texts of the console: both languages have the same keys, every used key exists, and every key is used."""

import re
from pathlib import Path

import pytest

from gateway.live.sink import EndReason
from gateway.ports.errors import RefusalReason

APP = Path(__file__).resolve().parents[3] / "gateway" / "console" / "app"
_LINE = re.compile(
    r'  "(?P<key>[\w.\-]+)": (?P<words>"(?:[^"\\]|\\.)+"|\{ one: "(?:[^"\\]|\\.)+", other: "(?:[^"\\]|\\.)+" \}),'
)
_HOLE = re.compile(r"\{(\w+)\}")
_COMMENT = re.compile(r"\s*(//.*)?")
_LITERAL = re.compile(r'\bt\(\s*"([^"]+)"')
_TEMPLATE = re.compile(r"\bt\(\s*`([^`$]*)\$\{")
_CHOSEN = re.compile(r'\bt\(\s*[^"`()]*\?\s*"([^"]+)"\s*:\s*"([^"]+)"')
_BROUGHT = re.compile(
    r'^import \w+ from "\.\./\.\./words/(\w+)\.js";', re.M
)  # a part of several views has its own texts
_CHINESE = re.compile(r"[\u3000-\u303f\u3400-\u9fff\uff00-\uffef]")
_PLACE = re.compile(r'^  (\w+): \{\s*icon: "\w+", label: \{ en: "([^"]+)", zh: "([^"]+)" \}', re.M)
VIEWS = sorted(file.stem for file in (APP / "words").glob("*.js") if file.stem not in ("en", "zh"))
TABLES = ["", *VIEWS, "navigation"]


def table(language: str, view: str = "") -> dict[str, str]:
    """The texts of one table by key. A malformed line is an error.

    view: the view of the texts; "": the common texts; "navigation": the labels of the views in shell.js.
    """
    if view == "navigation":
        return {
            f"nav.{name}": words[language == "zh"] for name, *words in _PLACE.findall((APP / "shell.js").read_text())
        }
    name, indent = (f"{view}.js", "    ") if view else (f"{language}.js", "  ")
    text = (APP / "words" / name).read_text()
    start = rf"  {language}: \{{\n" if view else r"export default \{\n"
    body = re.search(rf"{start}(.*?)^{indent[2:]}\}}[;,]\n", text, re.M | re.S)
    assert body, f"{name} exports no table"
    found: dict[str, str] = {}
    for line in body[1].splitlines():
        if _COMMENT.fullmatch(line):
            continue
        match = _LINE.fullmatch(line.removeprefix(indent[2:]))
        assert match, f"{name}: not a line of words: {line!r}"
        assert match["key"] not in found, f"{name} has {match['key']} twice"
        found[match["key"]] = match["words"]
    return found


def holes(words: str) -> set[str]:
    return set(_HOLE.findall(words))


def scripts() -> dict[str, str]:
    return {str(p.relative_to(APP)): p.read_text() for p in APP.rglob("*.js") if p.parent.name != "words"}


def all_keys() -> set[str]:
    return {key for view in TABLES for key in table("en", view)}


@pytest.mark.parametrize("view", TABLES)
def test_both_languages_have_the_same_keys_and_placeholders(view: str) -> None:
    english, chinese = table("en", view), table("zh", view)
    assert english
    assert english.keys() == chinese.keys()
    for key, words in english.items():
        assert holes(words) == holes(chinese[key]), f"{key} fills other holes in Chinese"


def test_no_key_is_in_two_tables() -> None:
    found = [key for view in TABLES for key in table("en", view)]
    assert len(found) == len(set(found))


def test_every_navigation_entry_has_a_label() -> None:
    shell = (APP / "shell.js").read_text()
    places = re.search(r"const VIEWS = \{\n(.*?)^\};", shell, re.M | re.S)
    assert places is not None
    assert set(table("en", "navigation")) == {f"nav.{name}" for name in re.findall(r"^  (\w+): \{", places[1], re.M)}


def test_a_view_loads_all_texts_that_it_uses() -> None:
    """The texts of one view are not loaded while another view is shown."""
    for name, text in scripts().items():
        folder, _, rest = name.partition("/")
        view = rest.partition("/")[0].removesuffix(".js")
        if folder == "editor" and rest != "new.js":  # the dialog for a new channel belongs to the list of channels
            folder, view = "views", "edit"
        own = {key for one in ("", "navigation") for key in table("en", one)}
        if folder == "views" and view in VIEWS:
            own |= set(table("en", view))
            assert (
                f'export {{ default as words }} from "../words/{view}.js";'
                in (APP / "views" / f"{view}.js").read_text()
            )
        for brought in _BROUGHT.findall(text):
            own |= set(table("en", brought))
        asked = set(_LITERAL.findall(text)) | {key for pair in _CHOSEN.findall(text) for key in pair}
        assert asked <= own, f"{name} asks for {sorted(asked - own)}"
        for start in _TEMPLATE.findall(text):
            assert any(key.startswith(start) for key in own), f"{name} asks for {start}…"


def test_every_used_key_exists() -> None:
    keys = all_keys()
    for name, text in scripts().items():
        asked = set(_LITERAL.findall(text)) | {key for pair in _CHOSEN.findall(text) for key in pair}
        assert asked <= keys, f"{name} asks for {sorted(asked - keys)}"
        for start in _TEMPLATE.findall(text):
            assert start, f"{name} asks for a key that only its running knows"
            assert any(key.startswith(start) for key in keys), f"{name} asks for {start}…, of which there is none"


def test_every_text_is_used() -> None:
    text = "\n".join(scripts().values())
    starts = tuple(_TEMPLATE.findall(text))
    left = {key for key in all_keys() if f'"{key}"' not in text and not key.startswith(starts)}
    assert not left


@pytest.mark.parametrize("view", TABLES)
def test_chinese_texts_in_latin_letters_equal_the_english_ones(view: str) -> None:
    english, chinese = table("en", view), table("zh", view)
    latin = {
        key
        for key, words in chinese.items()
        if re.search("[A-Za-z]", _HOLE.sub("", words)) and not _CHINESE.search(words)
    }
    assert {key for key in latin if english[key] != chinese[key]} == set()


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_reason_of_a_refusal_and_of_an_end_has_a_text(language):
    common, channel = table(language), table(language, "channel")
    for reason in RefusalReason:
        assert f"refusal.why.{reason}" in common
        assert f"refusal.do.{reason}" in channel
    ends = (APP / "views" / "parts" / "events.js").read_text()
    for reason in EndReason:
        if reason is not EndReason.OUTPUT_OFF:  # it ends no push
            assert re.search(rf'"?{reason}"?: "\w+"', ends), reason


def test_known_errors_are_sentences_of_the_gateway() -> None:
    sources = "\n".join(p.read_text() for p in APP.parents[1].rglob("*.py"))
    elsewhere = {"host", "refused", "timeout", "unreachable", "unreachable.network"}  # of the operating system
    elsewhere |= {"target", "noTarget"}  # the gateway puts them together
    for key, words in table("en", "errors").items():
        if key.removeprefix("error.") not in elsewhere:
            for piece in re.split(r"\{\w+\}", words.strip('"')):
                assert piece.strip() in sources, words
