"""Bodies of the admin API: any bytes are a JSON object or refused with BadRequest; log masking takes any text."""

from __future__ import annotations

import json

from gateway.api.answers import BadRequest
from gateway.api.body import parse_object
from gateway.lib.redact import masked

SEEDS = [
    b'{"outdate": "2030-01-01", "isFlv": "true", "hls_time": 2, "relayURL": ["rtmp://a/b/c"], "x": null}',
    b'{"a": {"key": "s", "b": [1.5e300, -0, "\\ud83d\\ude00"]}, "token": "t"}',
    b'{"a": 1, "a": 2}', b"[1]", b'"x"', b"", b'{"a": NaN}', b'{"a": ' + b"9" * 40 + b"}", b"[" * 50,
]  # fmt: skip


def fuzz(data: bytes) -> None:
    """Oracle: BadRequest or an object that JSON can carry on; masking never raises and never grows without bound."""
    shown = masked("text", data.decode("utf-8", "replace"))
    assert len(shown) <= 4 * len(data) + 100
    try:
        value = parse_object(data)
    except BadRequest as refused:
        assert len(refused.message) < 1000
        return
    assert isinstance(value, dict)
    json.dumps(value)
    json.dumps(masked("body", value))
