"""Test files go to workers so that only some of them run browsers."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support import pool

FILES = ("tests/browser/test_a.py", "tests/browser/test_b.py", "tests/fuzz/test_c.py", "tests/browser/test_d.py")
SHARED = ("tests/architecture/test_e.py", "tests/architecture/test_f.py", "tests/unit/test_g.py")
TESTS = [f"{file}::test_{number}" for file in FILES for number in range(4)]


class Worker:
    """What the scheduler sees of a worker of pytest-xdist."""

    def __init__(self) -> None:
        self.gateway = SimpleNamespace(id="gw")
        self.given: list[int] = []
        self.shutting_down = False

    def send_runtest_some(self, indices: Sequence[int]) -> None:
        self.given += indices

    def shutdown(self) -> None:
        self.shutting_down = True

    @property
    def files(self) -> list[str]:
        """The files that it was given, in order."""
        return list(dict.fromkeys(TESTS[index].partition("::")[0] for index in self.given))


def scheduled(
    workers: int, browsers: int, monkeypatch: pytest.MonkeyPatch, tests: Sequence[str] = TESTS
) -> tuple[Any, list[Worker]]:
    """A scheduler that has given the first files to its workers."""
    monkeypatch.setenv("TESTS_BROWSERS", str(browsers))
    option = SimpleNamespace(loadscopereorder=False)
    config: Any = SimpleNamespace(option=option, getvalue=lambda name: ["popen"] * workers)
    scheduler, made = pool.FilePool(config), [Worker() for _ in range(workers)]
    for worker in made:
        scheduler.add_node(worker)
        scheduler.add_node_collection(worker, tests)
    scheduler.schedule()
    return scheduler, made


def test_a_second_worker_gets_a_file_without_browsers(monkeypatch: pytest.MonkeyPatch) -> None:
    _, (one, other) = scheduled(2, 1, monkeypatch)
    assert (one.files, other.files) == ([FILES[0]], [FILES[2]])


def test_with_two_browsers_the_longest_files_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    _, (one, other) = scheduled(2, 2, monkeypatch)
    assert (one.files, other.files) == ([FILES[0]], [FILES[1]])


def test_the_worker_with_the_browser_runs_the_other_files_with_browsers(monkeypatch: pytest.MonkeyPatch) -> None:
    scheduler, (one, other) = scheduled(2, 1, monkeypatch)
    for worker in (other, one, one):
        for index in list(worker.given):
            if not scheduler.assigned_work[worker][TESTS[index].partition("::")[0]][TESTS[index]]:
                scheduler.mark_test_complete(worker, index)
    assert other.shutting_down and other.files == [FILES[2]]
    assert one.files == [FILES[0], FILES[1], FILES[3]]


def test_one_worker_runs_all_files_that_read_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    tests = [f"{file}::test_{number}" for file in SHARED for number in range(4)]
    _, (one, other) = scheduled(2, 1, monkeypatch, tests)
    assert ([tests[n] for n in one.given], [tests[n] for n in other.given]) == (tests[:8], tests[8:])


def test_every_second_worker_of_fast_tests_takes_the_shortest_file(monkeypatch: pytest.MonkeyPatch) -> None:
    tests = [f"tests/unit/test_{file}.py::test_{number}" for file in "abcd" for number in range(4)]
    _, workers = scheduled(3, 1, monkeypatch, tests)
    first = [tests[worker.given[0]].partition("::")[0] for worker in workers]
    assert first == [f"tests/unit/test_{file}.py" for file in "adb"]


def test_tests_that_compute_for_minutes_go_to_several_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    tests = [f"tests/integration/packaging/test_week.py::test_{number}" for number in range(4)]
    _, workers = scheduled(2, 1, monkeypatch, tests)
    assert [worker.given for worker in workers] == [[0, 2], [1, 3]]
