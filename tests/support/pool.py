"""How a run gives its test files to its workers: a file to one worker, and few files with browsers at once.

Tests of real processes wait more than they compute, so there are more workers than processors. Browsers compute: with
too many of them pictures stand still. `TESTS_BROWSERS` is the number of workers that may run files of `tests/browser`.
"""

import os
from typing import Any

from xdist.scheduler import LoadFileScheduling

_BROWSER = "tests/browser/"
_FAST = ("tests/unit/", "tests/architecture/")
_TOGETHER = "tests/architecture/"  # its files read the syntax of all modules, which takes seconds
_APART = "tests/integration/packaging/test_week.py"  # each of its tests computes for minutes, and shares nothing


class FilePool(LoadFileScheduling):
    """Gives the first waiting file that may run beside those of the other workers."""

    def __init__(self, config: Any, log: Any = None) -> None:
        super().__init__(config, log)
        self._browsers = max(1, int(os.environ.get("TESTS_BROWSERS", self.numnodes)))

    def _split_scope(self, nodeid: str) -> str:
        if nodeid.startswith(_APART):
            return nodeid
        return _TOGETHER if nodeid.startswith(_TOGETHER) else super()._split_scope(nodeid)

    def _assign_work_unit(self, node: Any) -> None:
        allowed = self._others_with_browsers(node) < self._browsers
        files = reversed(self.workqueue) if self._takes_the_shortest(node) else iter(self.workqueue)
        file = next((file for file in files if allowed or not file.startswith(_BROWSER)), None)
        if file is None:  # those who run files with browsers take the rest
            node.shutdown()
            return
        self.workqueue.move_to_end(file, last=False)
        super()._assign_work_unit(node)

    def _takes_the_shortest(self, node: Any) -> bool:
        """Whether a worker of fast tests begins at the end, with files that compute.

        The longest files wait for timers. While all workers had one of them, the processors were idle.
        """
        return self.nodes.index(node) % 2 == 1 and next(iter(self.workqueue), "").startswith(_FAST)

    def _others_with_browsers(self, node: Any) -> int:
        """The number of other workers with a file of `tests/browser` that is not finished."""
        return sum(
            any(file.startswith(_BROWSER) and not all(tests.values()) for file, tests in files.items())
            for other, files in self.assigned_work.items()
            if other is not node
        )
