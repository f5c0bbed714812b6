"""The recorded seconds of the test files. They give the order in which files begin, and a budget for each file.

`tools/suites` measures them with its variable `TEST_TIMES`; `make test-times` keeps the measured seconds of a good run.
"""

import json
import os
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.support import nightly

ROOT = Path(__file__).resolve().parents[2]
RECORD = ROOT / "tests/file_times.json"
MEASURED = ROOT / "build/test-times.json"
_LEAST = 3.0  # seconds of a file that is worth a line in the record
_USUAL_BUDGET = 30.0  # seconds


def recorded() -> dict[str, float]:
    """The seconds of each file that takes long, by its path from the root."""
    return dict(json.loads(RECORD.read_text()))


def by_file(durations: Iterable[tuple[str, float]]) -> dict[str, float]:
    """Sums the seconds of tests by file. durations: the identifier of a test, and seconds of it."""
    found: defaultdict[str, float] = defaultdict(float)
    for test, seconds in durations:
        found[test.partition("::")[0]] += seconds
    return {file: round(seconds, 1) for file, seconds in found.items()}


def budget(seconds: float) -> float:
    """The seconds that a file with this record may take. Machines differ, so it is half as much again."""
    return max(_USUAL_BUDGET, 1.5 * seconds)


def over_budget(measured: dict[str, float]) -> Iterator[str]:
    """A line for each file that took longer than its budget, the longest first."""
    known = recorded()
    for file, seconds in sorted(measured.items(), key=lambda one: -one[1]):
        if seconds > budget(known.get(file, 0.0)):
            yield f"{file}: {seconds:.0f} s, its budget is {budget(known.get(file, 0.0)):.0f} s"


def add(measured: dict[str, float]) -> None:
    """Adds the seconds of one suite to the file that `TEST_TIMES` names."""
    path = Path(os.environ["TEST_TIMES"])
    path.parent.mkdir(exist_ok=True)
    earlier = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(earlier | measured, indent=1, sort_keys=True))


def keep() -> None:
    """Writes the measured seconds into the record. Files that were not measured keep their seconds.

    Files that are gone, or run at night only, have no line.
    """
    found = recorded() | json.loads(MEASURED.read_text())
    times = {file: s for file, s in found.items() if (ROOT / file).is_file() and file not in nightly.reasons()}
    longest = sorted(((file, s) for file, s in times.items() if s >= _LEAST), key=lambda one: (-one[1], one[0]))
    RECORD.write_text(json.dumps(dict(longest), indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(keep())
