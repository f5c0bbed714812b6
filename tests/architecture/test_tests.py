"""The tests: their time-outs have the factor of the machine, nightly ones have a reason, and `make test` runs all."""

from __future__ import annotations

import re

from tests.architecture.sources import ROOT, texts
from tests.support import nightly

# The browser measures in milliseconds. Shorter times than two seconds are pauses, and part of what a test judges.
_WITHOUT_FACTOR = re.compile(
    r"asyncio\.timeout\(\d*[2-9][\d.]*\)|asyncio\.timeout\(\d\d+\)|asyncio\.wait_for\(.+, \d*[2-9]\)"
    r"|subprocess\.run\(.*\btimeout=\d|\btimeout=\d+_000"
)


def test_time_outs_of_tests_have_the_factor_of_the_machine() -> None:
    found = [
        f"{path}: {match[0]}"
        for path, text in texts().items()
        if path.startswith("tests/") and path.endswith(".py") and not path.startswith("tests/browser/")
        for match in _WITHOUT_FACTOR.finditer(text)
    ]
    assert found == [], "use at_most of tests/support/time_outs.py"


def test_the_tests_in_the_list_of_nightly_ones_exist() -> None:
    """Collecting tests fails if a nightly test is not in the list."""
    assert [row for row, reason in nightly.reasons().items() if len(reason.split()) < 3] == []
    assert [row for row in nightly.reasons() if not _is_nightly(row)] == []


def _is_nightly(row: str) -> bool:
    """Whether what a row names exists, and has the marker."""
    place, parameter = nightly.place_of(row)
    path, _, test = place.partition("::")
    if (ROOT / path).is_dir():  # its conftest, or that of all tests, marks a parameter
        return bool(parameter)
    text = texts().get(path, "")
    return "mark.nightly" in text and (not test or f"def {test}(" in text)


def test_every_folder_of_tests_runs_in_make_test_and_in_a_job_of_the_workflow() -> None:
    makefile, workflow = texts()["Makefile"], texts()[".github/workflows/ci.yml"]
    (fast,) = re.findall(r"^fast:.*\n\t(.+)$", makefile, re.M)
    (pool,) = re.findall(r"^POOL .*$", makefile, re.M)
    (jobs,) = re.findall(r"^ +pool: \[(.+)\]$", workflow, re.M)
    folders = {match[0] for path in texts() if (match := re.match(r"tests/\w+(?=/(?:\w+/)*test_\w+\.py$)", path))}
    assert folders == _folders(fast) | _folders(pool)
    assert _folders(jobs) == _folders(pool)


def _folders(text: str) -> set[str]:
    return set(re.findall(r"tests/\w+", text))
