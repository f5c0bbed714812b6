"""The console's channel editor and the gateway agree on fields: bounds, values and defaults."""

import re
from pathlib import Path
from typing import Any

import pytest

from gateway.api.channel_fields import described
from gateway.channels import fields
from tests.unit.console.test_words import table

APP = Path(__file__).resolve().parents[3] / "gateway" / "console" / "app"
SECTIONS = (APP / "editor" / "sections.js").read_text()
LAYOUTS = re.search(r"const LAYOUTS = \{\n(.*?)\n\};", SECTIONS, re.S)
assert LAYOUTS is not None
CHANNEL = (APP / "channel.js").read_text()
LISTS = dict(re.findall(r"^(?:export )?const (\w+) = \[(.*?)\];", CHANNEL + SECTIONS, re.M | re.S))
FLAG_OF = dict(re.findall(r'\["(is\w+)", "(\w+)"\]', CHANNEL))
LANGUAGES = ["en", "zh"]


def layouts() -> dict[str, list[str]]:
    """The fields in each layout, by group."""
    assert LAYOUTS is not None
    found = {}
    for group, text in re.findall(r"^  (\w+): \{(.*?)\},?$(?=\n  \w+: \{|\Z)", LAYOUTS[1], re.M | re.S):
        rows = re.sub(r"\b[A-Z]+\b", lambda name: LISTS.get(name[0], name[0]), text.partition("rows:")[2])
        found[group] = re.findall(r'"(\w+)"', rows)
    return found


def description(name: str) -> dict[str, Any]:
    return described(fields.FIELDS[name])


def test_every_field_can_be_edited() -> None:
    grouped = [name for members in fields.GROUPS.values() for name in members]
    own = ["announce", "inputs", "relayOff", "upcoming"]  # they have their own editors
    assert sorted([*grouped, *own]) == sorted(set(fields.FIELDS))


def test_boolean_fields_are_described_as_flags() -> None:
    # isReplay has three values: its default is a setting.
    assert {name for name in fields.FIELDS if description(name)["type"] == "flag"} == {*fields.FLAGS, "isReplay"}


def test_descriptions_of_numbers_have_the_bounds_of_the_fields() -> None:
    for name, field in fields.NUMBERS.items():
        told = description(name)
        assert told["type"] == "number"
        bounds = (told["default"], told["minimum"], told["maximum"])
        assert bounds == (field.default, field.minimum, field.maximum), name
        assert (told["whole"], told["unit"]) == (field.integer, field.unit), name


def test_descriptions_of_texts_have_the_lengths_of_the_fields() -> None:
    for name, field in fields.TEXT_FIELDS.items():
        told = description(name)
        assert (told["type"], told["default"], told["maximum"]) == ("text", field.default, field.max_length), name


def test_descriptions_of_choices_have_the_values_of_the_fields() -> None:
    for name, field in {**fields.SIZES, "codec": fields.CODEC, "playAuth": fields.PLAY_AUTH}.items():
        told = description(name)
        assert (told["type"], told["default"], told["aliases"]) == ("choice", field.default, {}), name
        assert told["values"] == list(field.values), name


def test_log_levels_of_the_original_system_are_described_as_aliases() -> None:
    told = description("logLevel")
    assert told["values"] == ["debug", "info", "warning", "error"]
    assert {**{one: one for one in told["values"]}, **told["aliases"]} == fields.LOG_LEVEL.values


@pytest.mark.parametrize(
    ("name", "longest", "value"),
    [
        ("refererAllow", fields.MAX_REFERERS, lambda n: ["a.example"] * n),
        ("relayURL", fields.MAX_RELAYS, lambda n: ["rtmp://a.example/live/key"] * n),
        ("retentionDays", fields.MAX_DAYS, lambda n: n),
    ],
)
def test_lists_and_days_are_accepted_up_to_the_described_maximum(name: str, longest: int, value: Any) -> None:
    assert description(name)["maximum"] == longest
    fields.FIELDS[name].read(value(longest))
    with pytest.raises(ValueError, match=str(longest)):
        fields.FIELDS[name].read(value(longest + 1))


def test_layouts_contain_only_fields_of_their_group() -> None:
    """The layout only orders the fields of a group. Fields missing in it come last."""
    found = layouts()
    assert set(found) <= set(fields.GROUPS)
    assert sum(map(len, found.values())) > 40
    for group, names in found.items():
        assert len(names) == len(set(names)), group
        assert set(names) <= {*fields.GROUPS[group], *(["outdate"] if group == "basics" else [])}, group


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_section_field_and_value_has_a_text(language: str) -> None:
    words = table(language) | table(language, "edit")
    for group, members in fields.GROUPS.items():
        assert f"section.{group}" in words
        for name in members:
            assert f"field.{name}" in words or f"output.{FLAG_OF[name]}" in words, name
            told = description(name)
            assert told["unit"] in ("", "px", "%", "kbit/s", "Mbit/s") or f"unit.{told['unit']}" in words
            for value in told["values"]:
                assert f"choice.{name}.{value}" in words or f"size.{value}" in words, (name, value)


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_text_belongs_to_a_removed_field(language: str) -> None:
    known = {*fields.FIELDS, "outdate", "default"}
    named = {key.split(".")[1] for key in table(language, "edit") if key.startswith(("field.", "choice."))}
    assert named <= known
