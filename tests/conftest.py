"""How property tests run: the same examples each time, at whatever speed the machine has, and failures told as found.

`HYPOTHESIS_PROFILE=nightly` looks at more of them. `HYPOTHESIS_PROFILE=search` looks at new examples each time, keeps
what it found, and makes failures small.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import math
import os
import sys
import weakref
from asyncio.base_subprocess import BaseSubprocessTransport
from asyncio.selector_events import BaseSelectorEventLoop
from collections.abc import Generator
from pathlib import Path
from socketserver import TCPServer
from typing import Any

import pytest
import structlog
from hypothesis import HealthCheck, Phase, settings

from gateway.lib.log import levels
from tests.support import bytecode, cpu_times, examples, nightly, time_outs
from tests.support.file_times import add, by_file, over_budget, recorded
from tests.support.ministack import ministack_server, ministack_url
from tests.support.moto import moto_url
from tests.support.postgres import postgres
from tests.support.run_folder import run_folder
from tests.support.versity import store, versity_server

__all__ = [
    "ministack_server",
    "ministack_url",
    "moto_url",
    "postgres",
    "store",
    "versity_server",
]  # fixtures for whoever asks by name

bytecode.allow()

# Making a failing timetable smaller runs it thousands of times: minutes in which nothing is told.
_WITHOUT_SHRINKING = (Phase.explicit, Phase.generate)

# On a busy machine examples are made slowly, and that is no fault.
_AT_ANY_SPEED = (HealthCheck.too_slow,)

settings.register_profile(
    examples.DEFAULT,
    derandomize=True,
    deadline=None,
    database=None,
    phases=_WITHOUT_SHRINKING,
    max_examples=40,
    suppress_health_check=_AT_ANY_SPEED,
)
settings.register_profile(examples.NIGHTLY, settings.get_profile(examples.DEFAULT), max_examples=100)
settings.register_profile(
    "search", deadline=None, print_blob=True, max_examples=500, suppress_health_check=_AT_ANY_SPEED
)
settings.load_profile(examples.profile())

# moto's server tells every request; where a test has switched our log on, that would be what a command says.
logging.getLogger("werkzeug").setLevel(logging.ERROR)

# With a queue of 5, a double loses connections that come together, and the kernel tries again after 1, 3 and 7 s.
TCPServer.request_queue_size = 128

# structlog's own choice, rich, shows all local variables of a traceback: seconds for one.
*_processors, _ = structlog.get_config()["processors"]
_renderer = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
structlog.configure(processors=[*_processors, _renderer])


_close_loop = BaseSelectorEventLoop.close
_start_process = BaseSubprocessTransport.__init__
_started: weakref.WeakSet[BaseSubprocessTransport] = weakref.WeakSet()


def _start_and_remember(process: BaseSubprocessTransport, *arguments: Any, **options: Any) -> None:
    _started.add(process)
    _start_process(process, *arguments, **options)


def _close_without_connections(loop: BaseSelectorEventLoop) -> None:
    """Closes an event loop. What was left open fails its own test, and not the one in which it is collected.

    A connection that its owner has closed is no fault, even if the loop has not told its protocol yet.
    """
    links = [] if loop.is_closed() else [link for link in loop._transports.values() if link._sock is not None]  # type: ignore[attr-defined]
    left = [link.get_protocol() for link in links if not link.is_closing()]
    for link in links:
        link._sock.close()
        link._sock = None
    for process in [one for one in _started if one._loop is loop and not one._closed]:  # type: ignore[attr-defined]
        left.append(process.get_protocol())
        process.close()
    _close_loop(loop)
    assert not left, f"the test left connections or processes open, of {left}"


def pytest_configure(config: pytest.Config) -> None:
    """The workers find the folder of this run, and the factor of time-outs, in their environment."""
    run_folder()
    time_outs.measure()
    if config.getoption("numprocesses", None):
        if not sys.dont_write_bytecode:
            bytecode.write(config, bytecode.folders(config))
        if "TEST_TIMES" in os.environ:
            config.pluginmanager.register(_MeterOfWorkers())
    BaseSelectorEventLoop.close = _close_without_connections  # type: ignore[method-assign]
    BaseSubprocessTransport.__init__ = _start_and_remember  # type: ignore[method-assign]


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What collecting makes, a million objects, stays to the end: no collection of garbage looks through it."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()
        gc.set_threshold(50_000, 50, 50)


def pytest_runtest_setup() -> None:
    """A command that a test ran in this process may have set the level of its log; others read lines of all levels."""
    levels.set_general("info")


_meter = cpu_times.FileMeter()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None, object, object]:
    """Measures the CPU of each test file, with the ends of its fixtures."""
    result = yield
    file = item.nodeid.partition("::")[0]
    if "TEST_TIMES" in os.environ and (nextitem is None or nextitem.nodeid.partition("::")[0] != file):
        _meter.ends(file)
    return result


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Tells the process that collects the results of all workers."""
    if (output := getattr(session.config, "workeroutput", None)) is not None:
        output["cpu"] = dict(_meter.seconds)


class _MeterOfWorkers:
    """Reads what the workers of pytest-xdist measured."""

    def pytest_testnodedown(self, node: Any) -> None:
        cpu_times.add(node.workeroutput["cpu"] if hasattr(node, "workeroutput") else {})


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Each file is one worker's, and only some workers run browsers."""
    if config.getoption("dist") != "loadfile":
        return None
    from tests.support.pool import FilePool

    return FilePool(config, log)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Names the factor of a slow machine, lists failed tests in `FAILED_TESTS`, and adds times to `TEST_TIMES`."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        return
    if listed := os.environ.get("FAILED_TESTS"):
        reports = [*terminalreporter.getreports("failed"), *terminalreporter.getreports("error")]
        with Path(listed).open("a") as file:
            file.writelines(f"{name}\n" for name in dict.fromkeys(report.nodeid for report in reports))
    if time_outs.slowness() > 1:
        terminalreporter.write_line(
            f"time-outs were {time_outs.slowness():g} times as long: the machine is slow or busy"
        )
    if "TEST_TIMES" in os.environ:
        reports = [report for found in terminalreporter.stats.values() for report in found]
        measured = by_file((r.nodeid, r.duration) for r in reports if isinstance(r, pytest.TestReport))
        add(measured)
        for line in over_budget(measured):
            terminalreporter.write_line(f"over its budget: {line}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begins with the files that take longest. If they began last, one worker would be busy alone at the end."""
    known = recorded()
    for item in items:
        # The unit tests of the HTTP server and of the gateway's sockets use both event loops; the program uses uvloop.
        loop = item.callspec.params.get("_asyncio_loop_factory") if hasattr(item, "callspec") else None
        if loop is asyncio.new_event_loop and item.nodeid.startswith(("tests/integration/", "tests/unit/playback/")):
            item.add_marker(pytest.mark.nightly)
    # A file that runs at night only has no recorded time; most of them take minutes. The sort keeps the order of tests.
    seconds = known | dict.fromkeys(nightly.reasons(), math.inf)
    items.sort(key=lambda item: -seconds.get(item.nodeid.partition("::")[0], 0.0))
