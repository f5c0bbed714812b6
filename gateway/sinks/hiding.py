"""Hiding a relay target's secrets in what is said of it, whoever says it: servers echo keys in their refusals."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

from gateway.lib import redact
from gateway.protocols.rtmp.url import RtmpUrl

_LONGEST: Final = 200
_SHORTEST: Final = 4  # what is shorter protects nothing, and hiding it would hide words
_TOKEN: Final = re.compile(r"[A-Za-z0-9_%~+=.:-]{8,}")  # so much of a secret gives it away


def of_target(target: str, url: RtmpUrl) -> tuple[str, ...]:
    """What has to stay hidden of a relay address: its name, its query, and what stands before an @."""
    name, _, query = url.name.partition("?")
    parts = urlsplit(target, allow_fragments=False)
    found = [url.name, name, query, url.app.partition("?")[2], parts.query, parts.username or "", parts.password or ""]
    for text in (query, parts.query):
        found += [value for _, value in parse_qsl(text[:4096], max_num_fields=None)]
    found += [unquote(secret) for secret in found]
    return tuple(sorted({s for s in found if len(s) >= _SHORTEST}, key=len, reverse=True))


def hide(text: str, secrets: Iterable[str]) -> str:
    """`text` on one line, of bounded length, with each secret, and each longer piece of one, replaced."""
    secrets = tuple(secrets)
    for secret in secrets:
        text = text.replace(secret, redact.MASK)

    def piece(found: re.Match[str]) -> str:
        bare = found[0].rstrip(".:")
        return redact.MASK if any(bare in secret for secret in secrets) else found[0]

    text = redact.mask("".join(c if c.isprintable() else " " for c in _TOKEN.sub(piece, text))).strip()
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
