"""The long tables of docs/capacity.md are the output of the simulation.

They take minutes, so they are computed only if code or tables have changed since they were written.
`CAPACITY=all` computes them in any case.
"""

from __future__ import annotations

import os

import pytest

from tests.support.capacity import SLOW, as_written, shown
from tools.capacity.tables import TABLES


@pytest.mark.parametrize("name", SLOW)
def test_each_table_of_the_page_matches_the_simulation(name: str) -> None:
    if as_written() and os.environ.get("CAPACITY") != "all":
        return
    assert shown()[name] == TABLES[name](), f"`make capacity-page` writes the page's tables anew ({name})"
