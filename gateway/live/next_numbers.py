"""The numbers with which the playlists of a stream would continue at another node."""

from collections.abc import Callable, Mapping
from typing import TypeAlias

# By the name of an output. Each output decides what its numbers mean.
OutputNumbers: TypeAlias = Mapping[str, tuple[int, ...]]


class NextNumbers:
    """Knows the next numbers of each output of one stream, and tells changes to its watchers at once.

    Outputs set them before a player can get what the numbers count. So a watcher is never behind the players.

    has_successor: whether another node can take the next push after a shutdown. `Hub` sets it before the stream ends.
    """

    def __init__(self) -> None:
        self.by_output: dict[str, tuple[int, ...]] = {}
        self.has_successor = False
        self._watchers: list[Callable[[], None]] = []

    def set(self, output: str, numbers: tuple[int, ...]) -> None:
        """Sets the numbers of an output. Calls the watchers if they differ."""
        if self.by_output.get(output) != numbers:
            self.by_output[output] = numbers
            for watcher in self._watchers:
                watcher()

    @property
    def may_go_on(self) -> bool:
        """Whether another node may continue the stream when this node shuts down: at once, or with its next push."""
        return bool(self._watchers) or self.has_successor

    def watch(self, call: Callable[[], None]) -> None:
        """Calls `call` after each change, and now if there are numbers."""
        self._watchers.append(call)
        if self.by_output:
            call()

    def unwatch(self, call: Callable[[], None]) -> None:
        """Ends the calls. It may be called more than once."""
        self._watchers = [watcher for watcher in self._watchers if watcher != call]
