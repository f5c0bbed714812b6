"""The tests: their time-outs have the factor of the machine."""

from __future__ import annotations

import re

from tests.architecture.sources import texts

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
