"""Masks the secrets in addresses of relays and pulls. Servers repeat stream keys in error messages."""

import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

from gateway.lib import redact

_MAX_LENGTH: Final = 200
_MIN_SECRET_LENGTH: Final = 4  # shorter texts are not masked, because ordinary words would match
_TOKEN: Final = re.compile(r"[A-Za-z0-9_%~+=.:-]{8,}")  # a part of a secret with at least 8 characters is masked too


def target_secrets(target: str, stream: str = "", app: str = "") -> tuple[str, ...]:
    """Returns the secret parts of a relay URL: stream name, query, user and password.

    stream, app: the names in an address of RTMP, which may have queries too.
    """
    name, _, query = stream.partition("?")
    parts = urlsplit(target, allow_fragments=False)
    found = [stream, name, query, app.partition("?")[2], parts.query, parts.username or "", parts.password or ""]
    for text in (query, parts.query):
        found += [value for _, value in parse_qsl(text[:4096], max_num_fields=None)]
    found += [unquote(secret) for secret in found]
    return tuple(sorted({s for s in found if len(s) >= _MIN_SECRET_LENGTH}, key=len, reverse=True))


def redact_text(text: str, secrets: Iterable[str]) -> str:
    """Returns `text` on one line, at most 200 characters, with secrets and their longer parts masked."""
    secrets = tuple(secrets)
    for secret in secrets:
        text = text.replace(secret, redact.MASK)

    def mask_token(found: re.Match[str]) -> str:
        token = found[0].rstrip(".:")
        return redact.MASK if any(token in secret for secret in secrets) else found[0]

    text = redact.mask("".join(c if c.isprintable() else " " for c in _TOKEN.sub(mask_token, text))).strip()
    return text if len(text) <= _MAX_LENGTH else text[: _MAX_LENGTH - 1] + "…"
