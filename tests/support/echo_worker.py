"""A media worker for tests that returns its input and obeys special frames."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from gateway.workers.programs import program
from gateway.workers.programs.program import ParentLink

LEAVE, STUCK, SHOUT, SHOW, HOARD, WRITE, NONSENSE, FAIL, SLOW = range(100, 109)


def work(link: ParentLink) -> None:
    """Echoes frames. These kinds of frames have effects:

    LEAVE: exits with the status in the body. STUCK: hangs without reading the link, as native code may. SHOUT: writes
    the body to stderr and fails. SHOW: sends its environment, limits and priorities. HOARD: allocates more memory than
    allowed. WRITE: tries to write the given file. NONSENSE: sends bytes that are not a frame. FAIL: has a fault.
    SLOW: reads the number of bytes in the body without haste, 16 KiB at a time. It answers before and after it.
    """
    while (received := link.receive()) is not None:
        kind, body = received
        if kind == LEAVE:
            program.exit_now(int(body))
        elif kind == STUCK:
            link.send(kind, b"")
            while True:
                time.sleep(60)
        elif kind == SHOUT:
            sys.stderr.write(body.decode())
            program.exit_now(7)
        elif kind == SHOW:
            limits = Path("/proc/self/limits").read_text()
            ignored = {s.name for s in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(s) is signal.SIG_IGN}
            told = [
                *(f"{k}={v}" for k, v in os.environ.items()),
                limits,
                f"nice={os.nice(0)}",
                f"oom={Path('/proc/self/oom_score_adj').read_text().strip()}",
                f"ignored={sorted(ignored)}",
            ]
            link.send(kind, "\n".join(told).encode())
        elif kind == HOARD:
            hoard = []
            while True:
                hoard.append(bytearray(10_000_000))
        elif kind == WRITE:
            try:
                with open(body, "wb") as file:
                    file.write(b"something")
                link.send(kind, b"written")
            except OSError as error:
                link.send(kind, str(error).encode())
        elif kind == FAIL:
            raise ValueError("29 is not a valid Type")
        elif kind == SLOW:
            link.send(kind, b"")
            left = int(body)
            while left:
                left -= len(os.read(link._socket.fileno(), min(left, 1 << 14)))
                time.sleep(0.1)
            link.send(kind, b"")
        elif kind == NONSENSE:
            os.write(link._socket.fileno(), b"\xff" * 100)
            time.sleep(5)
        else:
            link.send(kind, body)


if __name__ == "__main__":
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    sys.exit(program.run(work))
