"""Inputs found by fuzzing, each named after its fault. Targets must handle them after any change."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.api import body
from gateway.api.answers import BadRequest
from gateway.formats import amf0
from gateway.settings import SettingsError, load
from tests.fuzz.targets import target

FOUND = [
    ("amf0", "an array with an empty name was written with one item too many in its count",
     bytes.fromhex("080000000000000a00000000")),
    ("settings", "a value with a line break made two lines of one problem",
     b'[log]\nlevel = "\\u202e\\n"\n---\n---\n'),
    ("settings", "a home of nobody was a traceback", b'data = "~nobody-here/x"\n---\n---\n'),
    ("settings", "a certificate in the home of nobody was a traceback",
     b'[tls]\ncert = "~nobody-here/x"\nkey = "k"\n---\n---\n'),
    ("captions", "a delay ended after the time in which the target waited for the end of the text",
     bytes.fromhex("014e010426b50031474139340349ffff09eefe0998fe2080fe3271fe1f11fe7465fe7874fe8d89fe0100ff80")),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "data"), [(name, data) for name, _, data in FOUND], ids=[what for _, what, _ in FOUND]
)
def test_earlier_findings_give_documented_results(name: str, data: bytes) -> None:
    target(name).fuzz(data)


def test_the_count_of_an_encoded_array_is_the_number_of_written_entries() -> None:
    assert amf0.encode(amf0.EcmaArray({"": 1.0, "a": None})) == b"\x08\0\0\0\x01\0\x01a\x05\0\0\x09"


def test_problems_of_the_configuration_are_printable_lines() -> None:
    assert SettingsError(['x is "a\nb\x1b[31m\u202e é"']).problems == ('x is "a\\nb\\x1b[31m\\u202e é"',)


def test_a_number_is_not_accepted_as_a_network(tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text("[rtmp]\nproxy_from = [1]\n")
    with pytest.raises(SettingsError, match=r"rtmp\.proxy_from is \[1\]"):
        load(config=file, environ={})


def test_a_duplicate_name_is_found_in_one_pass() -> None:
    compared = 0

    class Name(str):
        __hash__ = str.__hash__

        def __eq__(self, other: object) -> bool:
            nonlocal compared
            compared += 1
            return str.__eq__(self, other)

    names = [Name(f"n{number}") for number in range(300)]
    with pytest.raises(BadRequest) as refused:
        body._unique([(name, None) for name in (*names, Name("n299"))])
    assert refused.value.field == "n299"
    assert compared < 10 * len(names)
