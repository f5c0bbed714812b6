"""Changes the program at random places, one at a time, and runs the tests that should find each change.

    python -m tests.mutants --seed 1 --count 60 --rooms srt playback

A change negates a condition, moves a bound, or exchanges two calls. It is made in a copy of the checkout. First run the
unit tests that import the changed module, then those of its room, then all, then the integration tests of the room.
"""

import argparse
import ast
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_BOUNDS = {ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=", ast.GtE: ">", ast.Eq: "!=", ast.NotEq: "=="}
_LIMIT = 900.0  # seconds for one run of tests: a change may let the program wait without end


@dataclass(frozen=True)
class Mutant:
    """A change of one file: the bytes from `start` to `end` become `text`."""

    file: Path
    kind: str
    line: int
    start: int
    end: int
    text: bytes

    def applied(self, source: bytes) -> bytes:
        return source[: self.start] + self.text + source[self.end :]

    def __str__(self) -> str:
        before = (ROOT / self.file).read_bytes()[self.start : self.end]
        shown = " → ".join(" ".join(text.decode().split()) for text in (before, self.text))
        return f"{self.file}:{self.line} {self.kind}: {shown[:160]}"


class _Source:
    """A file with the byte positions of its syntax tree."""

    def __init__(self, file: Path) -> None:
        self.file, self.data = file, (ROOT / file).read_bytes()
        self._lines = [0]
        for line in self.data.splitlines(keepends=True):
            self._lines.append(self._lines[-1] + len(line))

    def span(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        assert node.end_lineno is not None and node.end_col_offset is not None
        return self._lines[node.lineno - 1] + node.col_offset, self._lines[node.end_lineno - 1] + node.end_col_offset

    def text(self, node: ast.expr | ast.stmt) -> bytes:
        start, end = self.span(node)
        return self.data[start:end]

    def mutants(self) -> Iterator[Mutant]:
        """All changes of this file."""
        for node in ast.walk(ast.parse(self.data)):
            if isinstance(node, ast.If | ast.While | ast.IfExp) and "TYPE_CHECKING" not in ast.dump(node.test):
                yield self._change("condition", node.test, b"(not (" + self.text(node.test) + b"))")
            elif isinstance(node, ast.BoolOp):
                word = b" or " if isinstance(node.op, ast.And) else b" and "
                yield self._change("condition", node, b"(" + word.join(map(self.text, node.values)) + b")")
            elif isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in _BOUNDS:
                word = _BOUNDS[type(node.ops[0])].encode()
                changed = b"(%b %b %b)" % (self.text(node.left), word, self.text(node.comparators[0]))
                yield self._change("bound", node, changed)
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("min", "max"):
                yield self._change("bound", node.func, b"max" if node.func.id == "min" else b"min")
            for block in (getattr(node, name, None) for name in ("body", "orelse", "finalbody")):
                if isinstance(block, list):
                    yield from self._exchanged(block)

    def _exchanged(self, block: list[ast.stmt]) -> Iterator[Mutant]:
        """Exchanges two calls that follow each other, of which neither logs."""
        for first, second in pairwise(block):
            same = self.text(first) == self.text(second)
            if not same and all(_is_call(s) and not self.text(s).startswith(b"log.") for s in (first, second)):
                (start, middle), (begin, end) = self.span(first), self.span(second)
                text = self.text(second) + self.data[middle:begin] + self.text(first)
                yield Mutant(self.file, "order", first.lineno, start, end, text)

    def _change(self, kind: str, node: ast.expr, text: bytes) -> Mutant:
        start, end = self.span(node)
        return Mutant(self.file, kind, node.lineno, start, end, text)


def _is_call(node: ast.stmt) -> bool:
    value = node.value if isinstance(node, ast.Expr) else None
    return isinstance(value.value if isinstance(value, ast.Await) else value, ast.Call)


def chosen(seed: int, count: int, rooms: list[str]) -> list[Mutant]:
    """Returns `count` changes, as many of each kind. Half are in `rooms`, folders below `gateway`, if there are any."""
    pick = random.Random(seed)
    files = [p.relative_to(ROOT) for top in ("gateway", "proxy") for p in sorted((ROOT / top).rglob("*.py"))]
    everything = [mutant for file in files for mutant in _Source(file).mutants()]
    inside = [m for m in everything if any(m.file.is_relative_to(f"gateway/{room}") for room in rooms)]
    found: list[Mutant] = []
    for pool, wanted in ((inside, count // 2 if inside else 0), (everything, count)):
        kinds = {kind: [m for m in pool if m.kind == kind] for kind in ("condition", "bound", "order")}
        while len(found) < wanted:
            found.append(pick.choice(kinds[("condition", "bound", "order")[len(found) % 3]]))
    return found


def stages(mutant: Mutant) -> Iterator[tuple[str, list[str]]]:
    """The name and the arguments of each run of tests, until one finds the change."""
    module = ".".join(mutant.file.with_suffix("").parts)
    parent, _, name = module.rpartition(".")
    imports = (f"from {module} import", f"import {module}", f"from {parent} import {name}")
    room = mutant.file.parts[1] if mutant.file.parts[0] == "gateway" else "proxy"

    def importing(folder: str) -> list[str]:
        texts = ((path, path.read_text()) for path in sorted((ROOT / "tests" / folder).rglob("test_*.py")))
        return [str(path.relative_to(ROOT)) for path, text in texts if any(i in text for i in imports)]

    def of_room(folder: str) -> list[str]:
        path = f"tests/{folder}/{room}"
        return [path] if (ROOT / path).is_dir() else []

    yield "unit tests of the module", importing("unit")
    yield "unit tests of the room", of_room("unit")
    yield "all unit tests", ["tests/unit"]
    yield "integration tests of the room", [*of_room("integration"), *importing("integration")]


def run(tests: list[str], copy: Path, processes: int) -> tuple[int, list[str]]:
    """Runs tests in the copy up to the first failure. Returns the exit code and the failed tests."""
    options = ["-x", "-q", "-n", str(processes), "--dist", "loadfile", "-m", "not nightly"]
    command = [sys.executable, "-m", "pytest", *options, *tests]
    env = {**os.environ, "PYTHONPATH": str(copy)}
    with subprocess.Popen(command, cwd=copy, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          start_new_session=True) as process:  # fmt: skip
        try:
            output, _ = process.communicate(timeout=_LIMIT)
        finally:
            with suppress(ProcessLookupError):  # a change may let a process of pytest-xdist compute without end
                os.killpg(process.pid, signal.SIGKILL)
    lines = output.decode(errors="replace").splitlines()
    return process.returncode, [line.split()[1] for line in lines if line.startswith("FAILED ")]


def finder(mutant: Mutant, copy: Path, processes: int) -> str:
    """Returns the name of the tests that find a change, or "" if all pass. copy: a copy of the checkout."""
    target = copy / mutant.file
    source = target.read_bytes()
    for name, tests in stages(mutant):
        if not tests:
            continue
        target.write_bytes(mutant.applied(source))
        try:
            code, failed = run(tests, copy, processes)
        except subprocess.TimeoutExpired:
            return f"{name}: they did not end"
        finally:
            target.write_bytes(source)
        if code and (not failed or run(failed[:1], copy, 0)[0] == 0):
            return f"{name}: {failed[0] if failed else 'an error'}"
        if code:
            print(f"    without the change, this fails too: {failed[0]}", flush=True)
    return ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--rooms", nargs="*", default=[], help="folders below gateway in which half of the changes are")
    parser.add_argument("--first", type=int, default=1, help="the number of the first change to run")
    parser.add_argument("--processes", type=int, default=2)
    given = parser.parse_args()
    left = []
    with tempfile.TemporaryDirectory(prefix="millrace-mutants-") as folder:
        copy = Path(folder)
        for name in subprocess.check_output(["git", "ls-files"], cwd=ROOT, text=True).splitlines():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)
        (copy / "tools/web/node_modules").symlink_to(ROOT / "tools/web/node_modules")
        changes = chosen(given.seed, given.count, given.rooms)[given.first - 1 :]
        for number, mutant in enumerate(changes, given.first):
            began = time.monotonic()
            found = finder(mutant, copy, given.processes)
            print(f"{number:3} {mutant}\n    {found or 'NOT FOUND'} ({time.monotonic() - began:.0f} s)", flush=True)
            left += [] if found else [mutant]
    print(f"{len(changes) - len(left)} of {len(changes)} changes were found", *left, sep="\n  ")
    return 0


if __name__ == "__main__":
    sys.exit(main())
