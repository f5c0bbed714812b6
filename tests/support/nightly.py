"""The reasons for which tests run at night only, in `tests/nightly.toml`."""

import functools
import tomllib
from pathlib import Path

LIST = Path(__file__).resolve().parents[1] / "nightly.toml"


@functools.cache
def reasons() -> dict[str, str]:
    """The reason of each row."""
    return dict(tomllib.loads(LIST.read_text())["reasons"])


def place_of(row: str) -> tuple[str, str]:
    """The test, file or folder of a row, and the parameter that it names, or nothing."""
    place, _, parameter = row.partition(" [")
    return place, parameter.removesuffix("]")


def covers(row: str, test: str) -> bool:
    """Whether a row is about a test. test: its identifier with parameters."""
    place, parameter = place_of(row)
    name, _, parameters = test.partition("[")
    within = name == place or name.startswith((f"{place}/", f"{place}::"))
    return within and (not parameter or parameter in parameters.removesuffix("]").split("-"))


def without_reason(tests: list[str]) -> list[str]:
    """Those of some nightly tests that no row is about."""
    return [test for test in tests if not any(covers(row, test) for row in reasons())]
