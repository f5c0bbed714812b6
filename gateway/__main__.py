"""The entry of `millrace` and `python -m gateway`. Without a command, `python -m gateway` serves, and
`millrace` prints its help.

A signal that arrives while a server starts is held back until the server can handle it.
"""

import gc
import os
import sys
from typing import Final

from gateway.lib import held_signals

_SERVERS: Final = ("serve", "edge", "worker")


def _replace_closed_streams() -> None:
    """Opens the null device in place of closed standard streams: nobody may write to a socket that has their number."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            stream = open(os.devnull, mode)  # noqa: SIM115 for as long as the process
            os.set_inheritable(stream.fileno(), True)  # workers have the same streams
            setattr(sys, name, stream)


def main(arguments: list[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    _replace_closed_streams()
    arguments = sys.argv[1:] if arguments is None else arguments
    gc.set_threshold(100_000)  # imports make much and drop little: collections would take a tenth of the start
    if arguments[:1] and arguments[0] in _SERVERS:
        held_signals.hold()
    try:
        from gateway.program import run  # its imports take half a second

        return run(arguments)
    finally:
        held_signals.deliver()


if __name__ == "__main__":
    argv = sys.argv[1:]
    if not argv or (argv[0].startswith("-") and argv[0] not in ("-h", "--help", "--version")):
        argv = ["serve", *argv]
    sys.exit(main(argv))
