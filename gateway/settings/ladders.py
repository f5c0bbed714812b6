"""The ladders that channels choose from: config/ladders.toml, or the operator's own file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field, TypeAdapter, ValidationError

from gateway.settings.errors import SettingsError, nearest
from gateway.settings.folder import config_folder
from gateway.settings.layers import read_toml
from gateway.settings.models import Section
from gateway.settings.option_types import Expected

STANDARD: Final = "standard"
MAX_RUNGS: Final = 8


def _no_truth(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("a truth value is no number")
    return value


def _even(value: int) -> int:
    if value % 2:
        raise ValueError("odd")
    return value


_Name = Annotated[str, Field(pattern=r"^[a-z0-9]{1,32}$"), Expected("1 to 32 of a-z and 0-9")]
_Side = Annotated[
    int,
    BeforeValidator(_no_truth),
    Field(ge=16, le=8192),
    AfterValidator(_even),
    Expected("an even number from 16 to 8192"),
]
_Bits = Annotated[
    int, BeforeValidator(_no_truth), Field(ge=16_000, le=200_000_000), Expected("bits a second from 16000 to 200000000")
]
_Audio = Annotated[
    Annotated[int, Field(ge=16_000, le=512_000)] | Literal["copy"],
    BeforeValidator(_no_truth),
    Expected('bits a second from 16000 to 512000, or "copy"'),
]


class RungSettings(Section):
    """One rung of the ladder file."""

    name: _Name
    flag: Annotated[Literal["", "ld", "sd", "hd", "ud"], Expected('ld, sd, hd, ud or ""')]
    width: _Side
    height: _Side
    bitrate: _Bits
    audio: _Audio


class LadderSettings(Section):
    """One ladder of the ladder file. rungs: from the smallest to the largest."""

    vbv: Annotated[float, BeforeValidator(_no_truth), Field(ge=1, le=10), Expected("a number from 1 to 10")]
    rungs: Annotated[
        tuple[RungSettings, ...],
        Field(min_length=1, max_length=MAX_RUNGS),
        Expected(f"a list of 1 to {MAX_RUNGS} rungs"),
    ]


_FILE: Final = TypeAdapter(dict[str, LadderSettings])


def load_ladders(file: Path | None = None) -> Mapping[str, LadderSettings]:
    """Returns the ladders by name. file: the operator's own; None for config/ladders.toml.

    Raises SettingsError with one line for each problem.
    """
    path = file or config_folder() / "ladders.toml"
    try:
        ladders = _FILE.validate_python(read_toml(path))
    except ValidationError as refused:
        faults = [(tuple(e["loc"]), e["type"]) for e in refused.errors(include_url=False)]
        # For a list with a wrong entry, pydantic also reports that the list is too short. Only the entry is reported.
        inner = [
            (at, kind) for at, kind in faults if not any(len(o) > len(at) and o[: len(at)] == at for o, _ in faults)
        ]
        raise SettingsError(dict.fromkeys(_say(path, at, kind) for at, kind in inner)) from None
    problems = []
    if STANDARD not in ladders:
        problems.append(f"{path}: there is no ladder [{STANDARD}], which channels that name none have")
    for name, ladder in ladders.items():
        names = [rung.name for rung in ladder.rungs]
        problems += [f"{path}: {name} has two rungs {n}" for n in dict.fromkeys(names) if names.count(n) > 1]
        if list(ladder.rungs) != sorted(ladder.rungs, key=lambda rung: rung.width * rung.height):
            problems.append(f"{path}: the rungs of {name} do not stand from the smallest to the largest")
    if problems:
        raise SettingsError(problems)
    return ladders


def _say(path: Path, loc: tuple[int | str, ...], kind: str) -> str:
    """Returns a line such as `ladders.toml: standard.rungs.2.width: expected an even number …`."""
    fields = {**LadderSettings.model_fields, **RungSettings.model_fields}
    names = [str(part) for part in loc]
    option = next((n for n in reversed(names) if n in fields), None)
    if kind == "extra_forbidden":
        return f"{path}: {'.'.join(names)}: no such option{nearest(names[-1], fields)}"
    if option is None:
        return f"{path}: {names[0] if names else 'the file'}: expected a ladder, that is vbv and rungs"
    shown = ".".join(names[: len(names) - names[::-1].index(option)])
    if kind == "missing":
        return f"{path}: {shown} is missing"
    expected = next((m.words for m in fields[option].metadata if isinstance(m, Expected)), "another value")
    return f"{path}: {shown}: expected {expected}"
