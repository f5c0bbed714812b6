"""Checks the relay targets of a channel, masks their secrets, and restores masked targets."""

import re
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from gateway.ports.errors import InvalidField
from gateway.protocols import moq_url
from gateway.protocols.srt.url import parse_url as parse_srt_url

MASK: Final = "********"

_IVS_CHANNEL = re.compile(r"arn:aws[a-z-]*:ivs:[a-z0-9-]{1,32}:[0-9]{12}:channel/[A-Za-z0-9]{1,64}", re.ASCII)
_MAX_LENGTH = 2_048


def targets(value: Any) -> tuple[str, ...] | None:
    """Returns the targets of a stored `relayURL` (a list, or text with commas); None for other types."""
    entries = value.split(",") if isinstance(value, str) else value
    if not isinstance(entries, Sequence) or not all(isinstance(e, str) for e in entries):
        return None
    return tuple(e.strip() for e in entries if e.strip())


def is_ivs_channel(target: str) -> bool:
    """Whether a target is an IVS channel ARN. AWS provides its address and key."""
    return _IVS_CHANNEL.fullmatch(target) is not None


def is_srt(target: str) -> bool:
    """Whether a target is an address of SRT, valid or not."""
    return target[:6].lower() == "srt://"


def is_rtmp(target: str) -> bool:
    """Whether the target is an RTMP(S) URL with a host."""
    return target.partition("://")[0].lower() in ("rtmp", "rtmps") and problem(target) is None


def problem(target: str) -> str | None:
    """Returns None for a target; else what is wrong with its address, or "" for what is no target at all."""
    if is_ivs_channel(target):
        return None
    if len(target) > _MAX_LENGTH or not target.isprintable() or " " in target:
        return ""
    try:
        if is_srt(target):
            parse_srt_url(target)
            return None
        if moq_url.is_moq(target):
            moq_url.parse_url(target)
            return None
        parts = urlsplit(target)
        return None if parts.scheme in ("rtmp", "rtmps") and parts.hostname and parts.port != 0 else ""
    except ValueError as error:
        return str(error) if is_srt(target) or moq_url.is_moq(target) else ""


def masked(value: Any) -> Any:
    """Returns `relayURL` for display: user, last path part and query of each URL are masked."""
    if isinstance(value, str):
        return ",".join(_mask_target(t) for t in value.split(","))
    if isinstance(value, Sequence):
        return [_mask_target(t) if isinstance(t, str) else t for t in value]
    return value


def _mask_target(target: str) -> str:
    """Masks one target. The last path part may be a stream key, and the query a signature. An ARN is not secret."""
    text = target.strip()
    if not text or is_ivs_channel(text):
        return target
    scheme, separator, rest = text.partition("://")
    if not separator:
        return MASK
    address = re.split(r"[?#]", rest, maxsplit=1)
    host, slash, path = address[0].partition("/")
    user, at, host = host.rpartition("@")
    path = path.rstrip("/")  # servers get the key without it, so the key is the last part before it
    head, slash_before_key, _last = path.rpartition("/")
    masked_url = f"{scheme}://{MASK + at if user else ''}{host}"
    if slash and path:
        masked_url += f"/{head}{slash_before_key}{MASK}"
    return masked_url + (f"?{MASK}" if len(address) > 1 else "")


def moved(off: Sequence[int], before: Any, after: Any) -> list[int]:
    """Returns the new positions of targets that are off, after `relayURL` has changed. Removed targets have none."""
    old, new = targets(before) or (), targets(after) or ()
    stopped = {old[n] for n in off if n < len(old)}
    return [number for number, target in enumerate(new) if target in stopped]


def restore_masked(sent: Any, stored: Any) -> Any:
    """Replaces each masked target in `sent` by its stored target. A number in a list is the position of a stored one.

    Returns `stored` itself if all targets are unchanged. Raises InvalidField if a masked target matches no stored one.
    """
    if sent == masked(stored):
        return stored
    if isinstance(sent, list) and any(type(entry) is int for entry in sent):
        known = targets(stored) or ()
        if not all(type(entry) is not int or 0 <= entry < len(known) for entry in sent):
            raise InvalidField("relayURL", "a position has no stored address")
        sent = [known[entry] if type(entry) is int else entry for entry in sent]
    entries = targets(sent)
    if entries is None or not any(MASK in e for e in entries):
        return sent
    remaining = list(targets(stored) or ())
    result = []
    for entry in entries:
        if MASK in entry:
            match = next((k for k in remaining if _mask_target(k) == entry), None)
            if match is None:
                raise InvalidField("relayURL", "the masked address matches no stored address")
            remaining.remove(match)  # two keys of one server have the same mask: each stored one is used once, in order
            entry = match
        result.append(entry)
    return ",".join(result) if isinstance(sent, str) else result
