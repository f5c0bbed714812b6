"""The file of ladders: its valid content, and error messages for invalid content."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.settings import SettingsError
from gateway.settings.ladders import load_ladders

RUNG = '{ name = "a", flag = "", width = 640, height = 360, bitrate = 400000, audio = "copy" }'
SMALLER = RUNG.replace("640", "320").replace('"a"', '"b"')
GOOD = f"[standard]\nvbv = 2\nrungs = [{RUNG}]\n"


def problems(file: Path, text: str) -> list[str]:
    """The error messages for a file, without its name."""
    file.write_text(text)
    with pytest.raises(SettingsError) as refused:
        load_ladders(file)
    assert all(line.startswith(str(file)) for line in refused.value.problems)
    return [line.removeprefix(f"{file}: ") for line in refused.value.problems]


def test_the_default_ladder_has_the_four_documented_rungs() -> None:
    rungs = load_ladders()["standard"].rungs
    assert [(r.name, r.flag, r.width, r.height, r.bitrate, r.audio) for r in rungs] == [
        ("360p", "ld", 640, 360, 400_000, 64_000),
        ("480p", "sd", 854, 480, 600_000, 64_000),
        ("720p", "hd", 1280, 720, 1_000_000, 128_000),
        ("1080p", "ud", 1920, 1080, 2_000_000, 128_000),
    ]
    assert load_ladders()["standard"].vbv == 1.5


def test_an_operator_can_configure_own_ladders(tmp_path: Path) -> None:
    file = tmp_path / "ladders.toml"
    file.write_text(GOOD + GOOD.replace("standard", "cheap"))
    assert sorted(load_ladders(file)) == ["cheap", "recommended", "standard"]
    assert load_ladders(file)["standard"] != load_ladders()["standard"]


def test_a_file_with_only_a_new_ladder_leaves_the_others(tmp_path: Path) -> None:
    file = tmp_path / "ladders.toml"
    file.write_text(GOOD.replace("standard", "cheap"))
    ladders = load_ladders(file)
    assert sorted(ladders) == ["cheap", "recommended", "standard"]
    assert ladders["standard"] == load_ladders()["standard"]


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("vbv = 2", "vbv = 0.5", "standard.vbv: expected a number from 1 to 10"),
        ("vbv = 2", "vbv = true", "standard.vbv: expected a number from 1 to 10"),
        ("vbv = 2", "", "standard.vbv is missing"),
        ("vbv = 2", "vbv = 2\nbitrates = 3", "standard.bitrates: no such option; did you mean bitrate?"),
        ('name = "a"', 'name = "A b"', "standard.rungs.0.name: expected 1 to 32 of a-z and 0-9"),
        ('name = "a", ', "", "standard.rungs.0.name is missing"),
        ('flag = ""', 'flag = "xl"', 'standard.rungs.0.flag: expected ld, sd, hd, ud or ""'),
        ("width = 640", "width = 641", "standard.rungs.0.width: expected an even number from 16 to 8192"),
        ("height = 360", "height = 0", "standard.rungs.0.height: expected an even number from 16 to 8192"),
        ("bitrate = 400000", "bitrate = 400", "standard.rungs.0.bitrate: expected bits a second"),
        ('audio = "copy"', 'audio = "none"', "standard.rungs.0.audio: expected bits a second from 16000 to 512000, or"),
        ('audio = "copy"', "audio = true", "standard.rungs.0.audio: expected bits a second"),
        (f"[{RUNG}]", "[]", "standard.rungs: expected a list of 1 to 8 rungs"),
        (f"[{RUNG}]", "3", "standard.rungs: expected a list of 1 to 8 rungs"),
        (f"[{RUNG}]", f"[{RUNG}, {RUNG}]", "two rungs of standard have the name a"),
        (f"[{RUNG}]", f"[{RUNG}, {SMALLER}]",
         "the rungs of standard are not in order from the smallest to the largest"),
        (GOOD, "standard = 1", "standard: expected a ladder, that is vbv and rungs"),
        (GOOD, "[standard", "is not TOML"),
    ],
)  # fmt: skip
def test_each_fault_of_a_ladder_file_gives_a_one_line_error(tmp_path: Path, before: str, after: str, said: str) -> None:
    assert before in GOOD
    (line,) = problems(tmp_path / "ladders.toml", GOOD.replace(before, after, 1))
    assert said in line


def test_a_missing_ladder_file_gives_a_one_line_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        load_ladders(tmp_path / "none.toml")
