"""`outdate` in any form: seconds that a date can show again, or InvalidField."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from gateway.channels.expiry import parse_outdate
from gateway.ports.errors import InvalidField

SEEDS = [
    b"2030-01-31", b"2030/1/31", b"2030-01-31T18:00:00Z", b"2030-01-31 18:00", b"2030-01-31T18:00:00.123+08:00",
    b"1893456000", b"1893456000000", b"9999-12-31T23:59:59Z", b"0001-01-01T00:00:00+23:59",
    b"9999-12-31T23:59:59-23:59", b"1e400", b"-1", b"true", b"null", b'{"a": 1}', b"2030-02-30",
    b"2030-01-31T24:00:00Z", b"1893456000.5", b"NaN",
]  # fmt: skip


def fuzz(data: bytes) -> None:
    """Oracle: the promise of the module, for the text and for the JSON value that it may be."""
    _judge(data.decode("utf-8", "surrogateescape"))
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return
    _judge(value)


def _judge(value: object) -> None:
    try:
        seconds = parse_outdate(value)
    except InvalidField as error:
        assert error.field == "outdate"
        assert len(str(error)) < 500
        return
    assert type(seconds) is int
    at = datetime.fromtimestamp(seconds, UTC)
    assert parse_outdate(seconds) == parse_outdate(str(seconds)) == seconds
    assert parse_outdate(at.strftime("%Y-%m-%dT%H:%M:%SZ").rjust(20, "0")) == seconds
