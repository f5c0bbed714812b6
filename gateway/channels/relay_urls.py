"""The relay targets of a channel: checks them, masks their secrets, and restores targets that come back masked."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from gateway.ports.errors import InvalidField

MASK: Final = "********"

_IVS_CHANNEL = re.compile(r"arn:aws[a-z-]*:ivs:[a-z0-9-]{1,32}:[0-9]{12}:channel/[A-Za-z0-9]{1,64}", re.ASCII)
_LONGEST = 2_048


def targets(value: Any) -> tuple[str, ...] | None:
    """Returns the single targets of a stored `relayURL`: text with commas, or a list. Returns None if it is neither."""
    entries = value.split(",") if isinstance(value, str) else value
    if not isinstance(entries, Sequence) or not all(isinstance(e, str) for e in entries):
        return None
    return tuple(e.strip() for e in entries if e.strip())


def is_ivs_channel(target: str) -> bool:
    """Whether a target is the ARN of an IVS channel. Its address and key must be requested from AWS."""
    return _IVS_CHANNEL.fullmatch(target) is not None


def is_target(target: str) -> bool:
    """Whether it is an RTMP(S) address with a host, or the ARN of an IVS channel."""
    if is_ivs_channel(target):
        return True
    if len(target) > _LONGEST or not target.isprintable() or " " in target:
        return False
    try:
        parts = urlsplit(target)
        return parts.scheme in ("rtmp", "rtmps") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def masked(value: Any) -> Any:
    """Returns `relayURL` in its form for display: user, last path part and query of each address are masked."""
    if isinstance(value, str):
        return ",".join(_masked(t) for t in value.split(","))
    if isinstance(value, Sequence):
        return [_masked(t) if isinstance(t, str) else t for t in value]
    return value


def _masked(target: str) -> str:
    """Masks one target. The last path part may contain a stream key, the query a signature. An ARN is not secret."""
    text = target.strip()
    if not text or is_ivs_channel(text):
        return target
    scheme, separator, rest = text.partition("://")
    if not separator:
        return MASK
    address = re.split(r"[?#]", rest, maxsplit=1)
    host, slash, path = address[0].partition("/")
    user, at, host = host.rpartition("@")
    head, inner, _last = path.rpartition("/")
    shown = f"{scheme}://{MASK + at if user else ''}{host}"
    if slash and path:
        shown += f"/{head}{inner}{MASK}"
    return shown + (f"?{MASK}" if len(address) > 1 else "")


def unmasked(sent: Any, stored: Any) -> Any:
    """Returns `sent` with each masked target replaced by the stored target that it stands for.

    If all targets are unchanged, returns `stored` itself. Raises InvalidField if a mask matches no stored target.
    """
    if sent == masked(stored):
        return stored
    entries = targets(sent)
    if entries is None or not any(MASK in e for e in entries):
        return sent
    kept = list(targets(stored) or ())
    result = []
    for entry in entries:
        if MASK in entry:
            match = next((k for k in kept if _masked(k) == entry), None)
            if match is None:
                raise InvalidField("relayURL", "a masked address that shows none of the stored ones")
            kept.remove(match)  # two keys of one server look alike when masked: each is used once, in order
            entry = match
        result.append(entry)
    return ",".join(result) if isinstance(sent, str) else result
