"""The reasons for which tests run at night only, in `tests/nightly.toml`."""

import functools
import tomllib
from pathlib import Path

LIST = Path(__file__).resolve().parents[1] / "nightly.toml"


@functools.cache
def reasons() -> dict[str, str]:
    """The reason of each row."""
    return dict(tomllib.loads(LIST.read_text())["reasons"])
