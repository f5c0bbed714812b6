"""The text form of times in answers, playlists and logs."""

from datetime import UTC, datetime


def milliseconds(seconds: float) -> int:
    """Returns seconds as the whole milliseconds that `rfc3339` shows."""
    return round(round(seconds, 3) * 1000)


def rfc3339(seconds: float, to: str = "milliseconds") -> str:
    """Returns seconds since 1970 as 2030-01-31T18:00:00.123Z. to: the last part that is shown."""
    return datetime.fromtimestamp(milliseconds(seconds) / 1000, UTC).isoformat(timespec=to).replace("+00:00", "Z")
