"""The texts that a pushing page gets: JSON, or the lines for the old system's client."""

from dataclasses import dataclass

from gateway.protocols import push, push_original
from gateway.protocols.push import CloseCode, Stats


@dataclass(frozen=True, slots=True)
class CloseReason:
    """The reason for the end of a push.

    tells_client: whether the client also gets the reason as a text. False if the client itself ended the push.
    """

    code: CloseCode
    reason: str
    tells_client: bool = True


class PushMessages:
    """The texts for one client: the JSON texts of docs/api.md, "WebSocket push"."""

    def accepted(self, name: str, kind: str) -> str:
        """Returns the text for the start of the push. name: the channel. kind: "frames" or "container"."""
        return push.accepted_text(name, kind, None, None)

    def stats(self, stats: Stats, problem: str) -> list[str]:
        """Returns the statistics, which are sent once a second. problem: of the relay target; "": none."""
        return [push.stats_text(stats)]

    def ended(self, closing: CloseReason) -> list[str]:
        """Returns the last texts, which are sent before the close frame."""
        return [push.error_text(closing.code, closing.reason)] if closing.tells_client else []


class CompatiblePushMessages(PushMessages):
    """The lines of the old system: the output of its ffmpeg, between a first and a last line."""

    def __init__(self) -> None:
        self._last_problem = ""

    def accepted(self, name: str, kind: str) -> str:
        return push_original.CONNECTED

    def stats(self, stats: Stats, problem: str) -> list[str]:
        lines = [push_original.stats_line(stats)]
        if problem != self._last_problem:
            self._last_problem = problem
            if problem:
                lines.append(problem)
        return lines

    def ended(self, closing: CloseReason) -> list[str]:
        return [*([closing.reason] if closing.tells_client else []), push_original.CLOSING]
