"""How long a thread was ready to run and had no processor: what a busy machine adds to a wait."""

from pathlib import Path


def run_delay(process: int | None = None) -> float:
    """Seconds for which the main thread of a process has waited for a processor; None: this thread.

    The second field of `schedstat` (Linux, Documentation/scheduler/sched-stats.rst), in nanoseconds.
    """
    path = "/proc/thread-self/schedstat" if process is None else f"/proc/{process}/schedstat"
    return int(Path(path).read_text().split()[1]) / 1e9
