"""Masking: a secret planted into any text is not in what is shown."""

from __future__ import annotations

import hashlib
import json

from gateway.lib.redact import mask, masked

_KEY = hashlib.sha256(b"planted").hexdigest()
_MD5 = hashlib.md5(b"planted", usedforsecurity=False).hexdigest()
_TOKEN = "PlantedToken-q7Z_x9"

# How a secret stands in a line: each form with the secret in it. None can be the tail of another word.
_FORMS: tuple[tuple[str, str], ...] = (
    (f"1670371200-{_KEY}", _KEY),
    (f"1670371200-{_MD5}", _MD5),
    (f"1670371200%2d{_KEY.upper()}", _KEY.upper()),
    (f"?sign=1670371200-{_KEY}", _KEY),
    (f"&sign%3D1670371200-{_KEY}&", _KEY),
    (f"rtmp://a.example/app/{_TOKEN}", _TOKEN),
    (f"rtmps://a.example:443/app/{_TOKEN}?x=1", _TOKEN),
    (f"rtmp://a.example/app?key={_TOKEN}", _TOKEN),
    (f"https://user:{_TOKEN}@a.example/x", _TOKEN),
    (f"&Signature={_TOKEN}&Key-Pair-Id=K", _TOKEN),
    (f" Authorization: Bearer {_TOKEN}\n", _TOKEN),
    (f"\nCookie: a=b; session={_TOKEN}\r\n", _TOKEN),
    (f' {{"token": "{_TOKEN}"}}', _TOKEN),
    (f"?X-Amz-Security-Token={_TOKEN}&", _TOKEN),
)
SEEDS = [
    b"\x00\x05GET /c1/live.flv?sign=1670371200-abc HTTP/1.1",
    b"\x05\x00cannot reach rtmp://user:pw@host/app/key now",
    b"\x08\x07https://a:b@c/ https://d/e?password=f",
    b'\x0c\x09{"key": "x", "token":"y"} Authorization: Basic z',
    b"\x03\x0fCookie: CloudFront-Policy=a; CloudFront-Signature=b\r\nHost: c",
    b"\x02\x01sk_us-west-2_abc rtmp rtmp:// rtmp:/// =%3D=",
    b"\x06\x14" + b"word " * 1700,
]


def fuzz(data: bytes) -> None:
    """The first byte chooses the form, the second the place; the rest is the text around it."""
    if len(data) < 2:
        return
    form, secret = _FORMS[data[0] % len(_FORMS)]
    text = data[2:].decode("utf-8", "replace")
    at = data[1] * (len(text) + 1) // 256
    line = text[:at] + form + text[at:]
    shown = mask(line)
    assert secret not in shown, line
    assert secret not in str(masked("event", line))
    assert secret not in json.dumps(masked("event", {"a": [line], text: {"b": (line,)}}), default=str)
    assert masked("streamKey", line) != line
    assert len(shown) <= 3 * len(line) + 10
    assert mask(shown).count(secret) == 0
