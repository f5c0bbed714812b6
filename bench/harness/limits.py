"""The limits of a bench: its time, and the number of files of the processes that it starts."""

import resource
import signal
from types import FrameType

from bench.harness.procs import BenchError


def set_limits(seconds: int) -> None:
    """Lets SIGTERM and the time limit raise BenchError, so that every process started here is stopped.

    seconds: the time limit. It also raises the limit of open files, for the servers and the clients.
    """
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    signal.signal(signal.SIGTERM, _give_up)
    signal.signal(signal.SIGALRM, _give_up)
    signal.alarm(seconds)


def _give_up(signum: int, frame: FrameType | None) -> None:
    raise BenchError("the time limit is over (--limit)" if signum == signal.SIGALRM else "stopped")
