"""The outputs of a stream, as far as the stream knows them."""

from __future__ import annotations

from typing import Protocol


class OutputSwitch(Protocol):
    """`Stream.outputs`; implemented by `Outputs`."""

    def names(self) -> list[str]: ...

    def enabled(self, name: str) -> bool: ...

    def get(self, name: str) -> object | None:
        """The output of this name while it is on; starts one that waits for demand."""

    def switch(self, name: str, enabled: bool) -> None:
        """Turns an output on or off. KeyError for a name that no output has."""

    def channel_changed(self) -> None:
        """The stored channel was changed: outputs follow its flags."""

    def status(self) -> list[dict[str, object]]:
        """Returns `[{"name", "enabled", "state", "error", and the output's report}]` for the API."""
        ...
