"""The parent of the workers: a process that imports the program once, and forks each worker.

Workers share the memory of what it has imported, and start without importing it again. It has one thread and no event
loop, and opens no files: a fork copies only the thread that calls it, and all workers would share what is open.

In this folder, a worker is one process of the node; see `gateway.processes.master`.
"""

import gc
import os
import selectors
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

_MAX_REQUEST: Final = 1  # bytes; a request is its two descriptors


def serve_forks(requests: int) -> int | None:
    """Forks a worker for each request. Returns in the worker: the descriptor of its link to the master.

    Returns None in the parent, when the master has closed `requests` and all workers have ended.

    requests: a socket's descriptor. Each request has the worker's link and a pipe. The parent writes to the pipe a line
    with the worker's number, and at its end a line with its exit code (-n: signal n ended it).
    """
    gc.collect()
    gc.freeze()  # else the first collection of each worker would write to all objects, and so copy their memory
    reports: dict[int, int] = {}
    with socket.socket(fileno=requests) as master, _ended_children() as ended, selectors.DefaultSelector() as selector:
        selector.register(ended, selectors.EVENT_READ, "ended")
        selector.register(master, selectors.EVENT_READ, "request")
        asked = True
        while asked or reports:
            for key, _ in selector.select():
                if key.data == "ended":
                    os.read(ended, 4096)
                    _report_ended(reports)
                    continue
                _, descriptors, _, _ = socket.recv_fds(master, _MAX_REQUEST, 2)
                if len(descriptors) != 2:
                    selector.unregister(master)
                    asked = False
                    continue
                link, report = descriptors
                pid = os.fork()
                if pid == 0:
                    for other in (report, *reports.values()):
                        os.close(other)
                    return link
                os.close(link)
                reports[pid] = report
                _write(report, pid)
    return None


@contextmanager
def _ended_children() -> Iterator[int]:
    """Yields a pipe that can be read when a child has ended. Workers return from here too, without the pipe."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before = signal.signal(signal.SIGCHLD, lambda *_: None)  # with the default action, nothing would be written
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    try:
        yield reader
    finally:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, before)
        os.close(reader)
        os.close(writer)


def _report_ended(reports: dict[int, int]) -> None:
    with suppress(ChildProcessError):  # no child is left
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            pid, status = ended
            report = reports.pop(pid)
            _write(report, os.waitstatus_to_exitcode(status))
            os.close(report)


def _write(report: int, number: int) -> None:
    with suppress(BrokenPipeError):  # the master is gone
        os.write(report, b"%d\n" % number)
