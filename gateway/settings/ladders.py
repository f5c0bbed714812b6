"""The ladders that a channel can use: config/ladders.toml, or the operator's own file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError

from gateway.settings.layers import SettingsError, config_folder, nearest, read_toml
from gateway.settings.models import Section
from gateway.settings.option_types import Expected, not_boolean

STANDARD: Final = "standard"
MAX_RUNGS: Final = 8


_Name = Annotated[str, Field(pattern=r"^[a-z0-9]{1,32}$"), Expected("1 to 32 of a-z and 0-9")]
_Side = Annotated[
    int, BeforeValidator(not_boolean), Field(ge=16, le=8192, multiple_of=2), Expected("an even number from 16 to 8192")
]
_Bits = Annotated[
    int,
    BeforeValidator(not_boolean),
    Field(ge=16_000, le=200_000_000),
    Expected("bits a second from 16000 to 200000000"),
]
_Audio = Annotated[
    Annotated[int, Field(ge=16_000, le=512_000)] | Literal["copy"],
    BeforeValidator(not_boolean),
    Expected('bits a second from 16000 to 512000, or "copy"'),
]


class RungSettings(Section):
    """One rendition of a ladder. config/ladders.toml describes the options."""

    name: _Name
    flag: Annotated[Literal["", "ld", "sd", "hd", "ud"], Expected('ld, sd, hd, ud or ""')]
    width: _Side
    height: _Side
    bitrate: _Bits
    audio: _Audio


class LadderSettings(Section):
    """One ladder of the ladder file. rungs: from the smallest to the largest."""

    vbv: Annotated[float, BeforeValidator(not_boolean), Field(ge=1, le=10), Expected("a number from 1 to 10")]
    rungs: Annotated[
        tuple[RungSettings, ...],
        Field(min_length=1, max_length=MAX_RUNGS),
        Expected(f"a list of 1 to {MAX_RUNGS} rungs"),
    ]


_FILE: Final = TypeAdapter(dict[str, LadderSettings])


def load_ladders(file: Path | None = None) -> Mapping[str, LadderSettings]:
    """Returns the ladders by name: those of config/ladders.toml, and those of `file`, which may replace them.

    file: the operator's own file; None: there is none.

    Raises SettingsError with one line for each problem.
    """
    path = file or config_folder() / "ladders.toml"
    try:
        ladders = _FILE.validate_python(read_toml(path))
    except ValidationError as error:
        problems = [(tuple(e["loc"]), e["type"]) for e in error.errors(include_url=False)]
        # For a list with a wrong entry, pydantic also reports a too short list. Only the entry is reported here.
        innermost = [
            _describe(path, location, reason)
            for location, reason in problems
            if not any(len(other) > len(location) and other[: len(location)] == location for other, _ in problems)
        ]
        raise SettingsError(dict.fromkeys(innermost)) from None
    lines = []
    if file is None and STANDARD not in ladders:
        lines.append(f"{path}: there is no ladder [{STANDARD}], which is the default of channels")
    for name, ladder in ladders.items():
        names = [rung.name for rung in ladder.rungs]
        lines += [f"{path}: two rungs of {name} have the name {n}" for n in dict.fromkeys(names) if names.count(n) > 1]
        if list(ladder.rungs) != sorted(ladder.rungs, key=lambda rung: rung.width * rung.height):
            lines.append(f"{path}: the rungs of {name} are not in order from the smallest to the largest")
    if lines:
        raise SettingsError(lines)
    return ladders if file is None else {**load_ladders(), **ladders}


def _describe(path: Path, loc: tuple[int | str, ...], reason: str) -> str:
    """Returns a line such as `ladders.toml: standard.rungs.2.width: expected an even number …`."""
    fields = {**LadderSettings.model_fields, **RungSettings.model_fields}
    names = [str(part) for part in loc]
    option = next((n for n in reversed(names) if n in fields), None)
    if reason == "extra_forbidden":
        return f"{path}: {'.'.join(names)}: no such option{nearest(names[-1], fields)}"
    if option is None:
        return f"{path}: {names[0] if names else 'the file'}: expected a ladder, that is vbv and rungs"
    name = ".".join(names[: len(names) - names[::-1].index(option)])
    if reason == "missing":
        return f"{path}: {name} is missing"
    expected = next((m.text for m in fields[option].metadata if isinstance(m, Expected)), "another value")
    return f"{path}: {name}: expected {expected}"
