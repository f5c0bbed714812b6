"""Runs a program as on a machine whose processor is idle. Tests share their processors with other tests.

`python -m tests.support.idle_machine gateway serve`
"""

import runpy
import sys

from gateway.reports.free_capacity import FreeProcessor
from tests.support.gateway import Edge, Gateway


class IdleGateway(Gateway):
    program = ("tests.support.idle_machine", *Gateway.program)


class IdleEdge(Edge):
    program = ("tests.support.idle_machine", *Edge.program)


def change_program() -> None:
    """Makes the program in this process see an idle processor."""
    FreeProcessor.percent = lambda self: 100.0  # type: ignore[method-assign]


if __name__ == "__main__":
    change_program()
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
