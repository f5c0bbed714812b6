"""The texts that a pushing page gets: JSON, or the lines that the original client shows."""

from __future__ import annotations

from typing import Protocol

from gateway.ingest.websocket.push_destination import CloseReason
from gateway.protocols import push, push_original
from gateway.protocols.push import Stats


class PushMessages(Protocol):
    """Texts for the client; each method returns those of one moment."""

    def accepted(self, name: str, kind: str) -> str:
        """Returns the text when the push has begun. name: the channel; kind: "frames" or "container"."""

    def stats(self, stats: Stats, trouble: str) -> list[str]:
        """Returns the figures that are sent once a second. trouble: the present problem."""

    def ended(self, ending: CloseReason) -> list[str]:
        """Returns the last texts, sent before the close frame."""


class JsonPushMessages:
    """The JSON texts of docs/api.md, "WebSocket push"."""

    def accepted(self, name: str, kind: str) -> str:
        return push.accepted_text(name, kind, None, None)

    def stats(self, stats: Stats, trouble: str) -> list[str]:
        return [push.stats_text(stats)]

    def ended(self, ending: CloseReason) -> list[str]:
        return [push.error_text(ending.code, ending.reason)] if ending.announced else []


class OriginalPushMessages:
    """The lines of the original gateway: the output of its ffmpeg, between a first and a last line."""

    def __init__(self) -> None:
        self._last_trouble = ""

    def accepted(self, name: str, kind: str) -> str:
        return push_original.CONNECTED

    def stats(self, stats: Stats, trouble: str) -> list[str]:
        lines = [push_original.stats_line(stats)]
        if trouble != self._last_trouble:
            self._last_trouble = trouble
            if trouble:
                lines.append(trouble)
        return lines

    def ended(self, ending: CloseReason) -> list[str]:
        return [*([ending.reason] if ending.announced else []), push_original.CLOSING]
