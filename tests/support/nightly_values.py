"""Values of a parametrized test that only `make nightly` tries."""

from typing import Any

import pytest


def nightly(*values: Any) -> list[Any]:
    """Returns the values with the marker `nightly`."""
    return [pytest.param(value, marks=pytest.mark.nightly) for value in values]
