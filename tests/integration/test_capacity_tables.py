"""The long tables of docs/capacity.md are what the simulation prints."""

from __future__ import annotations

import pytest

from tests.support.capacity import SLOW, shown
from tools.capacity.tables import TABLES


@pytest.mark.parametrize("name", SLOW)
def test_a_table_of_the_page_is_what_is_printed(name: str) -> None:
    assert shown()[name] == TABLES[name](), f"`make capacity-page` writes the page's tables anew ({name})"
