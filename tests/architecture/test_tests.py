"""The tests: their time-outs have the factor of the machine, nightly ones have a reason, and `make test` runs all."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from tests.architecture.sources import texts
from tests.support import nightly

# The browser measures in milliseconds. Shorter times than two seconds are pauses, and part of what a test judges.
_WITHOUT_FACTOR = re.compile(
    r"asyncio\.timeout\(\d*[2-9][\d.]*\)|asyncio\.timeout\(\d\d+\)|asyncio\.wait_for\(.+, \d*[2-9]\)"
    r"|subprocess\.run\(.*\btimeout=\d|\btimeout=\d+_000"
)
_MARKS = ("mark." + "nightly", "at_" + "night(")  # in two parts, so that this file is not its own find


def test_time_outs_of_tests_have_the_factor_of_the_machine() -> None:
    found = [
        f"{path}: {match[0]}"
        for path, text in texts().items()
        if path.startswith("tests/") and path.endswith(".py")
        for match in _WITHOUT_FACTOR.finditer(text)
    ]
    assert found == [], "use at_most of tests/support/time_outs.py"


def test_no_test_waits_for_a_promise_instead_of_its_value() -> None:
    """`Page.wait_for_function` takes the promise of an async function for true, so it never waits for one."""
    found = [
        f"{path}: {match[0]}"
        for path, text in texts().items()
        if path.startswith("tests/") and path.endswith(".py")
        for match in re.finditer(r"wait_for_function\(\s*f?[\"']async\b", text)
    ]
    assert found == [], "use Watched.comes_true of tests/support/browser.py"


def test_each_nightly_test_has_a_reason_in_the_list_and_each_row_is_nightly() -> None:
    """The tests, files and folders that are marked, and the rows of `tests/nightly.toml`."""
    marked = {place for path, text in texts().items() for place in _nightly_in(path, text)}
    rows = {row.partition(" [")[0] for row in nightly.reasons()}
    assert (sorted(marked - rows), sorted(rows - marked)) == ([], [])
    assert [row for row, reason in nightly.reasons().items() if len(reason.split()) < 3] == []


def _nightly_in(path: str, text: str) -> Iterator[str]:
    """Yields what a test file marks: itself, or tests of it. A conftest marks tests of its folder."""
    if not re.fullmatch(r"tests/(?:.+/)?(?:test_\w+|conftest)\.py", path) or "night" not in text:
        return
    words = set(_MARKS)
    for node in ast.parse(text).body:
        if isinstance(node, ast.Assign) and any(mark in ast.unparse(node.value) for mark in _MARKS):
            names = {ast.unparse(target) for target in node.targets}
            if "pytestmark" in names:
                yield path
            words |= names - {"pytestmark"}
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.decorator_list if node.name.startswith("test_") else [node]
            if any(word in ast.unparse(part) for part in body for word in words):
                yield path.rpartition("/")[0] if path.endswith("conftest.py") else f"{path}::{node.name}"


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
