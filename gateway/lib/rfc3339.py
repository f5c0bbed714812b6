"""Times as they stand in answers, playlists and logs."""

from datetime import UTC, datetime


def rfc3339(seconds: float, to: str = "milliseconds") -> str:
    """Returns seconds since the epoch as 2030-01-31T18:00:00.123Z. to: the last part that is shown."""
    return datetime.fromtimestamp(round(seconds, 3), UTC).isoformat(timespec=to).replace("+00:00", "Z")
