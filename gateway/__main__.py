"""The entry of `millrace` and `python -m gateway`. Without a command, `python -m gateway` serves, and
`millrace` prints its help.

A signal that arrives while a server starts is held back until the server can handle it.
"""

import gc
import sys
from typing import Final

from gateway.lib import held_signals

_SERVERS: Final = ("serve", "edge", "worker")


def main(arguments: list[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
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
