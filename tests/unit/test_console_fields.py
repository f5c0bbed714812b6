"""The editor of the console knows the fields of channels as the hub does: names, bounds, values, and their defaults."""

import re
from pathlib import Path

from gateway.channels import fields

FILE = Path(__file__).resolve().parents[2] / "gateway" / "console" / "app" / "editor" / "fields.js"
TEXT = FILE.read_text()
TABLE = re.search(r"const FIELDS = \{\n(.*?)\n\};", TEXT, re.S)
assert TABLE is not None
SECTIONS = (FILE.parent / "sections.js").read_text()
ENTRIES = dict(re.findall(r"^  (\w+): (.+),$", TABLE[1], re.M))


def test_every_field_can_be_edited() -> None:
    assert set(ENTRIES) == set(fields.FIELDS) | {"outdate"}


def test_flags_are_flags() -> None:
    assert {name for name, entry in ENTRIES.items() if entry == "flag"} == set(fields.FLAGS)


def test_numbers_have_the_same_bounds() -> None:
    for name, field in fields.NUMBERS.items():
        whole = ", true" if field.whole else ""
        assert ENTRIES[name] == f"number({field.absent:g}, {field.least:g}, {field.most:g}{whole})", name


def test_texts_have_the_same_lengths() -> None:
    for name, field in fields.WORDS.items():
        absent = f', "{field.absent}"' if field.absent else ""
        assert ENTRIES[name] == f"text({field.longest}{absent})", name


def test_choices_offer_the_same_values() -> None:
    sizes = re.search(r"const SIZES = \[(.*)\]", TEXT)
    assert sizes is not None
    assert re.findall(r'"(\w+)"', sizes[1]) == list(next(iter(fields.SIZES.values())).values)
    for name, field in fields.SIZES.items():
        assert ENTRIES[name] == f'choice("{field.absent}", SIZES)', name
    assert ENTRIES["codec"] == 'choice("libx264", ["libx264", "libx265"])' and list(fields.CODEC.values) == [
        "libx264",
        "libx265",
    ]
    offered = re.findall(r'"(\w+)"', ENTRIES["playAuth"])
    assert offered == list(fields.PLAY_AUTH.values)


def test_log_levels_of_the_original_are_shown_as_what_they_mean() -> None:
    levels = re.search(r"const LEVELS = \{(.*)\}", TEXT)
    assert levels is not None
    known = dict(re.findall(r'(\w+): "(\w+)"', levels[1]))
    offered = re.findall(r'"(\w+)"', ENTRIES["logLevel"])
    assert {**{one: one for one in offered}, **known} == fields.LOG_LEVEL.values


def test_every_field_stands_in_one_section() -> None:
    listed = [
        name for fields in re.findall(r"fields: \[(.*?)\]", SECTIONS, re.S) for name in re.findall(r'"(\w+)"', fields)
    ]
    assert sorted(listed) == sorted(ENTRIES)
    shown = SECTIONS.partition("export const SECTIONS")[0]
    assert {name for name in ENTRIES if f'"{name}"' not in shown} == set()
