"""Readable names of channels in addresses: which texts may be slugs, and which channel each of them leads to."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Protocol

SLUG: Final = "slug"
OLD_SLUGS: Final = "oldSlugs"  # earlier slugs of a channel, with the time of their end in seconds since 1970
MAX_LENGTH: Final = 64
MAX_OLD: Final = 8  # earlier slugs that a channel remembers; with one more, the oldest is forgotten
MAX_NAMES: Final = 20_000  # names in a table
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
        *("fields", "filmcaptions", "filmqr", "films", "healthcheck", "history", "ivs", "jobs"),
        *("live", "log", "login", "logout"),
        *("media", "metrics", "nodes", "oidc", "outputs", "player", "profile", "putitens", "qr", "ready", "rtmps"),
        *("servers", "site", "status", "stream", "time", "tokens", "uploads", "users", "videostream", "videostreams"),
        *("vod", "whep", "whip"),
    )
)


class Named(Protocol):
    """A channel, as far as this file needs it."""

    @property
    def id(self) -> str: ...

    @property
    def slug(self) -> str: ...

    @property
    def old_slugs(self) -> Mapping[str, int]: ...

    @property
    def public_name(self) -> str: ...


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


def with_old_slug(channel: Named, slug: str, now: float) -> dict[str, Any]:
    """Returns the field with the earlier slugs, after a change of the slug. now: seconds since 1970."""
    old: dict[str, int] = {name: ended for name, ended in channel.old_slugs.items() if name != slug}
    if channel.slug:
        old[channel.slug] = int(now)
    return {OLD_SLUGS: dict(sorted(old.items(), key=lambda entry: entry[1])[-MAX_OLD:])}


@dataclass(frozen=True, slots=True)
class NamedChannel:
    """The channel that a name leads to. name: the one to show now: its slug, else its id."""

    id: str
    name: str


def name_table(channels: Iterable[Named]) -> dict[str, NamedChannel]:
    """Returns the channel of each name: of ids that look like slugs, slugs, then earlier slugs that are free.

    Of several channels that had a slug, the last one has it. At most MAX_NAMES names.
    """
    table: dict[str, NamedChannel] = {}
    old: dict[str, tuple[int, NamedChannel]] = {}
    for channel in sorted(channels, key=lambda channel: channel.id):
        target = NamedChannel(channel.id, channel.public_name)
        if is_slug(channel.id):
            table[channel.id] = NamedChannel(channel.id, channel.id)
        if channel.slug:
            table.setdefault(channel.slug, target)
        for slug, ended in channel.old_slugs.items():
            if slug not in old or old[slug][0] < ended:
                old[slug] = ended, target
    names = {**{slug: target for slug, (_, target) in old.items()}, **table}
    return dict(list(names.items())[-MAX_NAMES:])


def table_lines(table: Mapping[str, NamedChannel]) -> Iterator[dict[str, str]]:
    """Yields the entries of a table for other nodes."""
    return ({SLUG: slug, "id": target.id, "name": target.name} for slug, target in table.items())
