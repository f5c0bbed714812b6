"""Hides a relay target's secrets in all texts about it. Servers repeat stream keys in their error messages."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

from gateway.lib import redact
from gateway.protocols.rtmp.url import RtmpUrl

_LONGEST: Final = 200
_SHORTEST: Final = 4  # a shorter text protects nothing, and hiding it would hide ordinary words
_TOKEN: Final = re.compile(r"[A-Za-z0-9_%~+=.:-]{8,}")  # a piece of a secret this long is hidden too


def target_secrets(target: str, url: RtmpUrl) -> tuple[str, ...]:
    """Returns the secret parts of a relay address: its stream name, its query, and the credentials before an @."""
    name, _, query = url.name.partition("?")
    parts = urlsplit(target, allow_fragments=False)
    found = [url.name, name, query, url.app.partition("?")[2], parts.query, parts.username or "", parts.password or ""]
    for text in (query, parts.query):
        found += [value for _, value in parse_qsl(text[:4096], max_num_fields=None)]
    found += [unquote(secret) for secret in found]
    return tuple(sorted({s for s in found if len(s) >= _SHORTEST}, key=len, reverse=True))


def redact_text(text: str, secrets: Iterable[str]) -> str:
    """Returns `text` on one line, at most 200 characters, with each secret and each longer piece of one masked."""
    secrets = tuple(secrets)
    for secret in secrets:
        text = text.replace(secret, redact.MASK)

    def piece(found: re.Match[str]) -> str:
        bare = found[0].rstrip(".:")
        return redact.MASK if any(bare in secret for secret in secrets) else found[0]

    text = redact.mask("".join(c if c.isprintable() else " " for c in _TOKEN.sub(piece, text))).strip()
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
