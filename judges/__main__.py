"""`make judges`: every judge over streams of every kind, one line each, and a summary; exit 1 where a rule is broken.

python -m judges [--kinds ordinary,hevc] [--judges llhls-rules,mp4ff] [--at-once 2] [--notes]
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import time
from typing import Any, NoReturn

from judges import tools
from judges.kinds import KINDS
from judges.suite import Suite, Verdict
from judges.table import JUDGES


def main() -> int:
    options = _options()
    if words := tools.missing_ffmpeg():
        print(words, file=sys.stderr)
        return 1
    began, report = time.monotonic(), _Report(notes=options.notes)
    available = []
    for judge in (judge for judge in JUDGES if judge.name in options.judges):
        if words := judge.missing():
            report.missing(judge.name, words)
        else:
            available.append(judge)
    kinds = [kind for kind in KINDS if kind.name in options.kinds]
    suite = Suite(kinds, available, options.at_once, report.verdict, report.progress)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        suite.run()
    except KeyboardInterrupt:
        print("interrupted; everything that was started has ended", file=sys.stderr)
        return 130
    except AssertionError as error:
        print(f"the gateway cannot be judged: {error}", file=sys.stderr)
        return 1
    return report.summary(time.monotonic() - began)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m judges", description=(__doc__ or "").partition("\n")[0])
    for name, known in (("kinds", [kind.name for kind in KINDS]), ("judges", [judge.name for judge in JUDGES])):
        words = f"some of: {', '.join(known)}"
        parser.add_argument(f"--{name}", type=_names(known), default=known, metavar="NAME,…", help=words)
    cores = max(1, os.cpu_count() or 1)
    parser.add_argument("--at-once", type=int, default=min(4, cores), help="streams at a time (the number of cores)")
    parser.add_argument("--notes", action="store_true", help="print the figures that judges noted, too")
    return parser.parse_args()


def _names(known: list[str]) -> Any:
    def read(text: str) -> list[str]:
        names = [name for name in text.split(",") if name]
        if unknown := [name for name in names if name not in known]:
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: unknown; there are {', '.join(known)}")
        return names

    return read


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


class _Report:
    """Prints verdicts as they come, and counts them."""

    def __init__(self, *, notes: bool) -> None:
        self._notes = notes
        self._lock = threading.Lock()
        self._held = self._broken = self._missing = 0

    def progress(self, words: str) -> None:
        if sys.stderr.isatty():
            print(f"{words} …", file=sys.stderr, flush=True)

    def missing(self, judge: str, words: str) -> None:
        self._missing += 1
        print(f"missing  {'-':14} {judge:16} {words}", flush=True)

    def verdict(self, verdict: Verdict) -> None:
        """One line where everything holds, else one line for each broken rule."""
        lines = verdict.findings.lines()
        with self._lock:
            self._broken += bool(lines)
            self._held += not lines
            word = "broken " if lines else "held   "
            for line in lines or [f"{verdict.seconds:.0f} s"]:
                print(f"{word}  {verdict.kind:14} {verdict.judge:16} {line}", flush=True)
            if self._notes:
                for name, value in verdict.findings.notes.items():
                    print(f"note     {verdict.kind:14} {verdict.judge:16} {name}: {value}", flush=True)

    def summary(self, seconds: float) -> int:
        """The last line; the exit code. A missing judge is a failure where CI is set."""
        counts = f"{self._held} held, {self._broken} broken, {self._missing} judges missing"
        print(f"judges: {counts} in {seconds:.0f} s", flush=True)
        return int(self._broken > 0 or (self._missing > 0 and bool(os.environ.get("CI"))))


if __name__ == "__main__":
    sys.exit(main())
