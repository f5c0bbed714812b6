"""The CPU of test files counts what their processes used, running and ended."""

import subprocess
import sys

from tests.support import cpu_times

_BUSY = "import time\nwhile time.process_time() < 0.3: pass\nprint('used', flush=True)\ninput()"


def test_the_cpu_of_a_running_and_of_an_ended_child_belongs_to_the_file() -> None:
    meter = cpu_times.FileMeter()
    with subprocess.Popen([sys.executable, "-c", _BUSY], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"used\n"
        meter.ends("running.py")
        child.communicate(b"\n")
    meter.ends("ended.py")
    assert meter.seconds["running.py"] >= 0.25  # the system counts in ticks of 10 ms
    # The child is counted once: it has ended without work.
    assert 0 <= meter.seconds["ended.py"] < 0.25
