"""Holds signals back while a process starts, until it can handle them.

Otherwise SIGTERM during the imports kills the process, or is lost if this is the first process of a container.
"""

import signal
from typing import Final

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def hold() -> None:
    """Holds the signals back. Child processes that start now hold them too."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)


def deliver() -> None:
    """Delivers held signals, and all later ones."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
