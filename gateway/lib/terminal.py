"""The terminal from which a server was started."""

import sys
from dataclasses import dataclass, field


def _is_terminal() -> bool:
    return sys.stdin is not None and sys.stdin.isatty()


@dataclass(slots=True)
class Terminal:
    """Tells a SIGHUP of a terminal that was closed from one that asks for a reload.

    The kernel takes the terminal away before it sends the signal.
    """

    _had_one: bool = field(default_factory=_is_terminal)

    @property
    def is_closed(self) -> bool:
        """Whether the process had a terminal, which is closed now."""
        return self._had_one and not _is_terminal()
