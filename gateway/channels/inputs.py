"""The inputs of a channel: the stored list, its checks, and the signatures of backup keys.

The first input that delivers media is on air. A channel without a list has one input: the push with its own key.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Final
from urllib.parse import urlsplit

from gateway.channels.names import is_object_key
from gateway.channels.playlist_items import PlaylistItem
from gateway.channels.relay_urls import MASK
from gateway.channels.schedule import time_zone
from gateway.channels.udp_address import parse_udp_address
from gateway.lib.egress import UDP
from gateway.ports.errors import InvalidField
from gateway.protocols.srt.url import parse_url as parse_srt_url

FIELD: Final = "inputs"  # of the stored channel
MAIN: Final = "main"  # the name of the push with the channel's own key, if the list does not name it
MAX_INPUTS: Final = 8
MAX_ITEMS: Final = 1_000  # films of a playlist
MAX_TEXT: Final = 500  # characters of a card
MAX_ADDRESS: Final = 2_048  # characters
MAX_ZONE: Final = 64  # characters of the name of a time zone
MAX_KBPS: Final = 1_000_000  # of a rule `below`
MAX_SECONDS: Final = 60  # of a rule `below`
_NAME = re.compile(r"[A-Za-z0-9_-]{1,32}", re.ASCII)
_WRITTEN_OTHERWISE: Final = (
    "in the user name and the password of an address, write %23 for #, %3F for ?, %2F for /, %5B for [, %20 for a space"
)
PULL_SCHEMES: Final = frozenset(("rtmp", "rtmps", "http", "https", "rtsp", "rtsps", "srt", *UDP))
# Members that the API computes for each answer. Clients send them back with the list; they are not stored.
COMPUTED: Final = frozenset(("state", "error", "taken", "key", "pushUrl", "pushUrls"))


class InputKind(StrEnum):
    PUSH = "push"  # the push with the channel's own key
    BACKUP = "backup"  # a push with the input's key
    PULL = "pull"  # an address that the gateway fetches
    PLAYLIST = "playlist"  # films and recordings of the object store
    SLATE = "slate"  # a picture, a film or a card


# The kinds that can have a rule `below`: they come over a network that may become slow.
_MEASURED: Final = frozenset((InputKind.PUSH, InputKind.BACKUP, InputKind.PULL))


@dataclass(frozen=True, slots=True)
class Below:
    """The rule for an input that became thin: its mean bit rate of the last `seconds` is below `kbps`."""

    kbps: int
    seconds: int


@dataclass(frozen=True, slots=True)
class InputSpec:
    """One input of a channel, as it is configured.

    url: the address of a pull. items: keys of the object store, of a playlist; with `@HH:MM` or `@HH:MM:SS`, the item
    begins at this time of day. zone: the time zone of these times; "": UTC. loop: whether the playlist repeats.
    picture: the address or the key of a slate's picture or film; "": a card. text: the card's text; "": the standard
    text.
    always: a slate or playlist is on air whenever nothing better delivers; a pull runs without viewers too.
    below: when a push, a backup or a pull is left although it delivers; None: never.
    """

    name: str
    kind: InputKind
    url: str = ""
    items: tuple[str, ...] = ()
    loop: bool = True
    zone: str = ""
    picture: str = ""
    text: str = ""
    always: bool = False
    below: Below | None = None

    def stored(self) -> dict[str, Any]:
        """Returns the members for the store and the API: only those that this kind has."""
        members: dict[str, Any] = {"name": self.name, "kind": str(self.kind)}
        match self.kind:
            case InputKind.PULL:
                members |= {"url": self.url, "always": self.always}
            case InputKind.PLAYLIST:
                members |= {"items": list(self.items), "loop": self.loop, "zone": self.zone, "always": self.always}
            case InputKind.SLATE:
                members |= {"picture": self.picture, "text": self.text, "always": self.always}
        return members if self.below is None else {**members, "below": asdict(self.below)}


MAIN_INPUT: Final = InputSpec(MAIN, InputKind.PUSH)
ONLY_MAIN: Final = (MAIN_INPUT,)


def parse_inputs(value: Any) -> tuple[InputSpec, ...]:
    """Returns the inputs of a list from a client. A list without a push gets one, as its first input.

    Raises InvalidField.
    """
    if not isinstance(value, list):
        raise InvalidField(FIELD, "expected a list of inputs")
    if len(value) > MAX_INPUTS:
        raise InvalidField(FIELD, f"a channel has at most {MAX_INPUTS} inputs")
    specs: list[InputSpec] = []
    for item in value:
        spec = _parse_input(item, len(specs))
        if any(spec.name == other.name for other in specs):
            raise InvalidField(FIELD, f"two inputs are called {spec.name}")
        if spec.kind is InputKind.PUSH and any(other.kind is InputKind.PUSH for other in specs):
            raise InvalidField(FIELD, "a channel has one push; other publishers need a backup")
        specs.append(spec)
    if not any(spec.kind is InputKind.PUSH for spec in specs):
        if any(spec.name == MAIN for spec in specs):
            raise InvalidField(FIELD, f"only the push can be called {MAIN}")
        specs.insert(0, MAIN_INPUT)
    return tuple(specs)


def stored_inputs(item: Mapping[str, Any]) -> tuple[InputSpec, ...]:
    """Returns the inputs of a stored channel; only the push if the list is missing or invalid."""
    value = item.get(FIELD)
    if not value:
        return ONLY_MAIN
    try:
        return parse_inputs(value)
    except InvalidField:
        return ONLY_MAIN


def _parse_input(item: Any, index: int) -> InputSpec:
    if not isinstance(item, Mapping):
        raise InvalidField(FIELD, "expected objects with a kind")
    unknown = (
        set(item) - {"name", "kind", "url", "items", "loop", "zone", "picture", "text", "always", "below"} - COMPUTED
    )
    if unknown:
        raise InvalidField(FIELD, f"an input has no member {min(map(str, unknown))[:64]!r}")
    try:
        kind = InputKind(str(item.get("kind")))
    except ValueError:
        raise InvalidField(FIELD, f"the kind of an input is {', '.join(InputKind)}") from None
    name = item.get("name")
    if name is None or name == "":
        name = MAIN if kind is InputKind.PUSH else f"{kind}{index}"
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidField(FIELD, "the name of an input has 1 to 32 characters of A-Z, a-z, 0-9, - and _")
    spec = InputSpec(
        name,
        kind,
        url=_text(item, "url", MAX_ADDRESS),
        items=_items(item),
        loop=_flag(item, "loop", True),
        zone=_zone(item),
        picture=_text(item, "picture", MAX_ADDRESS),
        text=_text(item, "text", MAX_TEXT, lines=True),
        always=_flag(item, "always", False),
        below=_below(item) if kind in _MEASURED else None,
    )
    if kind is InputKind.PULL:
        check_pull_address(spec.url)
    if kind is InputKind.PLAYLIST and not spec.items:
        raise InvalidField(FIELD, f"the playlist {name} has no items")
    if spec.picture and not is_object_key(spec.picture) and not _is_web_address(spec.picture):
        raise InvalidField("picture", "a picture is a key of the store or an http:// or https:// address")
    return spec


def check_pull_address(url: str) -> None:
    """Raises InvalidField if a pull cannot fetch this address."""
    scheme = url.partition("://")[0].lower()
    try:
        if scheme == "srt":
            parse_srt_url(url)
        elif scheme in UDP:
            parse_udp_address(url)
    except ValueError as error:
        raise InvalidField(FIELD, str(error)) from None
    try:
        parts = urlsplit(url)
        valid = parts.scheme.lower() in PULL_SCHEMES and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid or not url.isprintable() or " " in url:
        if scheme in PULL_SCHEMES and "@" in url:
            raise InvalidField(FIELD, _WRITTEN_OTHERWISE)
        schemes = ", ".join(f"{scheme}://" for scheme in sorted(PULL_SCHEMES))
        raise InvalidField(FIELD, f"the address of a pull begins with {schemes}")


def _is_web_address(text: str) -> bool:
    return text.startswith(("http://", "https://")) and text.isprintable() and " " not in text


def _text(item: Mapping[str, Any], member: str, longest: int, *, lines: bool = False) -> str:
    value = item.get(member)
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > longest:
        raise InvalidField(FIELD, f"{member} is a text of at most {longest} characters")
    if not (value.replace("\n", "") if lines else value).isprintable():
        raise InvalidField(FIELD, f"{member} has characters that cannot be shown")
    return value


def _flag(item: Mapping[str, Any], member: str, default: bool) -> bool:
    value = item.get(member)
    if value is None:
        return default
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    if not isinstance(value, bool):
        raise InvalidField(FIELD, f"{member} is true or false")
    return value


def _below(item: Mapping[str, Any]) -> Below | None:
    value = item.get("below")
    if value is None:
        return None
    if not isinstance(value, Mapping) or set(value) != {"kbps", "seconds"}:
        raise InvalidField(FIELD, "below has kbps and seconds")
    for member, most in (("kbps", MAX_KBPS), ("seconds", MAX_SECONDS)):
        number = value[member]
        if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= most:
            raise InvalidField(FIELD, f"below.{member} is a whole number from 1 to {most}")
    return Below(value["kbps"], value["seconds"])


def _items(item: Mapping[str, Any]) -> tuple[str, ...]:
    value = item.get("items")
    if value is None:
        return ()
    is_list = isinstance(value, Sequence) and not isinstance(value, str)
    if not is_list or len(value) > MAX_ITEMS or not all(isinstance(text, str) for text in value):
        raise InvalidField(FIELD, f"items is a list of at most {MAX_ITEMS} keys of the store")
    begins: set[int] = set()
    for text in value:
        try:
            begin = PlaylistItem.parse(text).begins
        except ValueError as error:
            raise InvalidField(FIELD, f"items: {error}") from None
        if begin in begins:
            raise InvalidField(FIELD, f"items: two of them begin at {text.rpartition('@')[2]}")
        if begin is not None:
            begins.add(begin)
    return tuple(value)


def _zone(item: Mapping[str, Any]) -> str:
    name = _text(item, "zone", MAX_ZONE)
    if name:
        try:
            time_zone(name)
        except ValueError as error:
            raise InvalidField(FIELD, f"zone: {error}") from None
    return name


def masked_address(url: str) -> str:
    """Returns the address of a pull for display: its user and its query are masked. Those of UDP have no secrets."""
    scheme, separator, rest = url.partition("://")
    if scheme.lower() in UDP:
        return url
    address, question, _ = rest.partition("?")
    authority, slash, path = address.partition("/")
    user, at, host = authority.rpartition("@")
    return f"{scheme}{separator}{MASK + at if user else ''}{host}{slash}{path}{question}{MASK if question else ''}"


def masked_list(value: Any, *, pictures: bool = False) -> Any:
    """Returns a stored list for display: the addresses of its pulls are masked. pictures: those of slates too."""
    if not isinstance(value, list):
        return value
    masked = ("url", "picture") if pictures else ("url",)
    return [
        {**item, **{name: masked_address(item[name]) for name in masked if isinstance(item.get(name), str)}}
        if isinstance(item, Mapping)
        else item
        for item in value
    ]


def to_store(sent: Any, stored: Any = None) -> Any:
    """Returns a list from a client as it is stored. This is the same for all ways to change a channel.

    stored: the present list. If the client sends it back, it is returned, even if it is invalid. Masked addresses are
    replaced by the stored ones, and members that the API computes are left out. Raises InvalidField.
    """
    if sent is None:
        return None
    if sent == masked_list(stored):
        return stored
    return [spec.stored() for spec in parse_inputs(restore_addresses(sent, stored_inputs({FIELD: stored})))]


def restore_addresses(value: Any, stored: Sequence[InputSpec]) -> Any:
    """Returns a list from a client with each masked address replaced by the stored one. Raises InvalidField."""
    if not isinstance(value, list):
        return value
    return [_restore_address(item, stored) if isinstance(item, Mapping) else item for item in value]


def _restore_address(item: Mapping[str, Any], stored: Sequence[InputSpec]) -> Mapping[str, Any]:
    url = item.get("url")
    if not isinstance(url, str) or MASK not in url:
        return item
    matches = [spec for spec in stored if spec.url and masked_address(spec.url) == url]
    if not matches:
        raise InvalidField(FIELD, "the masked address matches no stored address")
    match = next((spec for spec in matches if spec.name == item.get("name")), matches[0])
    return {**item, "url": match.url}


def push_input(item: Mapping[str, Any], name: str) -> InputSpec | None:
    """Returns the input of a stored channel for a push; None if no push may go there. name: "" for the main push."""
    for spec in stored_inputs(item):
        is_main_push = spec.kind is InputKind.PUSH and name in ("", spec.name)
        if is_main_push or (spec.kind is InputKind.BACKUP and name == spec.name):
            return spec
    return None


def backup_subject(id: str, name: str) -> str:
    """Returns the text that the key of a backup signs in place of the channel's id. No channel has such an id."""
    return f"{id}/{name}"
