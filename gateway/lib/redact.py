"""Redaction: what is secret in a text or a value, and what is shown in its place."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

MASK: Final = "***"

# Names whose values are never shown, as words of a log line, members of an object or parameters of a query.
_NAMES: Final = (
    "sign|signature|x-amz-signature|x-amz-credential|x-amz-security-token|policy|key-pair-id|token|access_token"
    "|admin_token|secret|previous_secret|origin_secret|password|passwd|authorization|cookie|set-cookie|credentials"
    "|key|streamkey|stream_key|obskey|pushurl|x-millrace-origin|x-api-key|api_key|apikey|private_key"
)
_NAME: Final = re.compile(rf"(?:{_NAMES})", re.I)
_PARAMETER: Final = re.compile(rf"(?<![A-Za-z0-9])({_NAMES})([\"']\s?:\s?[\"']?|=[\"']?|%3D)[^\s&\"'<>;,]*", re.I)
# <expiry>-<md5 or sha-256>, wherever it stands; a longer run of digits or hex is taken along.
_STREAM_KEY: Final = re.compile(r"(?<![0-9])[0-9]+(?:-|%2D)[0-9a-f]{32,}", re.I)
_HEADER: Final = re.compile(r"\b((?:proxy-)?authorization|(?:set-)?cookie)(\s*:\s*)[^\r\n]+", re.I)
_SCHEME: Final = re.compile(r"\b(bearer|basic|digest)(\s+)[^\s\"'<>,;]+", re.I)
_USERINFO: Final = re.compile(r"(?<=://)[^\s/@\"'<>]*@")
# rtmp://host/app/<key>: all behind the app is the target's secret; where there is one part only, that part.
_RTMP: Final = re.compile(r"(rtmp[a-z]{0,3}://[^\s/?\"'<>]*(?:/[^\s/?\"'<>]*)?)([/?][^\s\"'<>]*)", re.I)
_IVS: Final = re.compile(r"\bsk_[A-Za-z0-9_-]+")

_DEPTH = 6
_LONGEST = 8000


def mask(text: str) -> str:
    """`text` with every secret in it replaced by MASK, cut at 8,000 characters; the rest stays readable."""
    if len(text) > _LONGEST:
        # Not in the middle of a word: half a secret is no longer recognised as one.
        text = text[:_LONGEST].rpartition(" ")[0] + "…"
    text = _HEADER.sub(rf"\1\2{MASK}", text)
    text = _SCHEME.sub(rf"\1\2{MASK}", text)
    text = _USERINFO.sub(f"{MASK}@", text)
    text = _RTMP.sub(lambda m: m[1] + ("/" if m[2][0] == "/" else "?") + (MASK if len(m[2]) > 1 else ""), text)
    text = _PARAMETER.sub(rf"\1\2{MASK}", text)
    text = _STREAM_KEY.sub(MASK, text)
    return _IVS.sub(MASK, text)


def masked(name: str, value: Any, depth: int = 0) -> Any:
    """A value fit for a log: hidden where its `name` says so, masked inside where it is text, a mapping or a list."""
    if _NAME.fullmatch(name) and value not in (None, "", True, False):
        return MASK
    if isinstance(value, str):
        return mask(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    if depth >= _DEPTH:
        return "…"
    if isinstance(value, Mapping):
        return {mask(str(k)): masked(str(k), v, depth + 1) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [masked("", v, depth + 1) for v in value]
    return mask(str(value))
