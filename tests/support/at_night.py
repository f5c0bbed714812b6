"""Parameters that run only at night: they repeat a path that the other parameters of their test prove."""

from typing import Any

import pytest


def at_night(*values: Any) -> list[Any]:
    """These values as parameters of nightly tests. A tuple has the values of several names."""
    return [pytest.param(*(v if isinstance(v, tuple) else (v,)), marks=pytest.mark.nightly) for v in values]
