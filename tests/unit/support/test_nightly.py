"""Rows of the list of nightly tests name a test, a file, or a parameter in a folder."""

import pytest

from tests.support import nightly

TEST = "tests/integration/adapters/test_s3.py::test_an_object_is_read[versity-3]"


@pytest.mark.parametrize(
    "row",
    [
        "tests/integration/adapters/test_s3.py::test_an_object_is_read",
        "tests/integration/adapters/test_s3.py",
        "tests/integration/adapters [versity]",
        "tests/integration [3]",
    ],
)
def test_a_row_is_about_the_tests_below_it(row: str) -> None:
    assert nightly.covers(row, TEST)


@pytest.mark.parametrize(
    "row",
    [
        "tests/integration/adapters/test_s3.py::test_an_object",
        "tests/integration/adapters/test_s3",
        "tests/integration/adapt [versity]",
        "tests/integration/adapters [vers]",
    ],
)
def test_a_row_is_not_about_others(row: str) -> None:
    assert not nightly.covers(row, TEST)


def test_a_nightly_test_without_a_row_is_named() -> None:
    listed = next(row for row in nightly.reasons() if "[" not in row)
    assert nightly.without_reason([f"{listed}::test_one", "tests/new.py::test_one"]) == ["tests/new.py::test_one"]
