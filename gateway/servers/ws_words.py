"""Words: what a page that pushes is told, as JSON, or as the lines that the original client shows."""

from __future__ import annotations

from typing import Protocol

from gateway.protocols import push, push_original
from gateway.protocols.push import Stats
from gateway.servers.ws_entry import Ending


class Words(Protocol):
    """Texts to the client; each method gives those of one moment."""

    def accepted(self, name: str, kind: str) -> str:
        """The push has begun. name: the channel; kind: "frames" or "container"."""

    def stats(self, stats: Stats, trouble: str) -> list[str]:
        """How it goes, once a second. trouble: what hinders it."""

    def ended(self, ending: Ending) -> list[str]:
        """The last ones, before the close frame."""


class JsonWords:
    """docs/api.md, "WebSocket push"."""

    def accepted(self, name: str, kind: str) -> str:
        return push.accepted_text(name, kind, None, None)

    def stats(self, stats: Stats, trouble: str) -> list[str]:
        return [push.stats_text(stats)]

    def ended(self, ending: Ending) -> list[str]:
        return [push.error_text(ending.code, ending.reason)] if ending.told else []


class OriginalWords:
    """The original's lines: what its ffmpeg printed, between the first and the last."""

    def __init__(self) -> None:
        self._told = ""

    def accepted(self, name: str, kind: str) -> str:
        return push_original.CONNECTED

    def stats(self, stats: Stats, trouble: str) -> list[str]:
        lines = [push_original.stats_line(stats)]
        if trouble != self._told:
            self._told = trouble
            if trouble:
                lines.append(trouble)
        return lines

    def ended(self, ending: Ending) -> list[str]:
        return [*([ending.reason] if ending.told else []), push_original.CLOSING]
