"""How many examples the longest property tests of `tests/unit` look at: few in each run, more in `make nightly`."""

import os

_NAME = "HYPOTHESIS_PROFILE"
DEFAULT, NIGHTLY = "default", "nightly"  # profiles, see tests/conftest.py


def profile() -> str:
    """The name of this run's profile."""
    return os.environ.get(_NAME, DEFAULT)


def examples(usual: int, more: int) -> int:
    """The number of examples in this run. more: at night, and in a search."""
    return usual if profile() == DEFAULT else more
