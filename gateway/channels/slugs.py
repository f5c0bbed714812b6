"""Readable names of channels in addresses: which texts may be slugs."""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

SLUG: Final = "slug"
OLD_SLUGS: Final = "oldSlugs"  # earlier slugs of a channel, with the time of their end in seconds since 1970
MAX_LENGTH: Final = 64
MAX_OLD: Final = 8  # earlier slugs that a channel remembers; with one more, the oldest is forgotten
_SLUG: Final = re.compile(r"[a-z0-9-]{2,64}", re.ASCII)
_UUID: Final = re.compile(r"[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}", re.ASCII)
# The first parts of paths that some listener answers itself, also those that this version only plans.
RESERVED: Final = frozenset(
    (
        *(
            "account",
            "alarms",
            "api",
            "bin",
            "broadcast",
            "channels",
            "cloudfront",
            "console",
            "docs",
            "domains",
            "events",
        ),
        *("fields", "filmcaptions", "filmqr", "films", "healthcheck", "history", "ivs", "jobs", "ladders"),
        *("live", "log", "login", "logout"),
        *("media", "metrics", "nodes", "oidc", "outputs", "player", "profile", "putitens", "qr", "ready", "rtmps"),
        *("servers", "site", "status", "stream", "time", "tokens", "uploads", "users", "videostream", "videostreams"),
        *("vod", "whep", "whip"),
    )
)


@lru_cache(4_096)
def is_slug(text: str) -> bool:
    """Whether the text has the form of a slug: lower-case letters, digits and hyphens, and no UUID."""
    return _SLUG.fullmatch(text) is not None and _UUID.fullmatch(text) is None


def read_slug(value: Any) -> str:
    """Reads the field `slug`; "": none. Raises ValueError."""
    if value == "":
        return ""
    if not isinstance(value, str) or not _SLUG.fullmatch(value):
        raise ValueError(f"expected 2 to {MAX_LENGTH} lower-case letters, digits and hyphens")
    if _UUID.fullmatch(value):
        raise ValueError("expected no UUID: channels have such ids")
    if value in RESERVED:
        raise ValueError(f"expected another word: addresses that begin with {value} are in use")
    return value


def with_old_slug(ended: str, earlier: Mapping[str, int], slug: str, now: float) -> dict[str, Any]:
    """Returns the field with the earlier slugs, after a change of the slug.

    ended: the slug until now. earlier: those before it. slug: the new one. now: seconds since 1970.
    """
    old: dict[str, int] = {name: until for name, until in earlier.items() if name != slug}
    if ended:
        old[ended] = int(now)
    return {OLD_SLUGS: dict(sorted(old.items(), key=lambda entry: entry[1])[-MAX_OLD:])}
