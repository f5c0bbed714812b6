"""The events of changed channels and settings. They name the changed fields, but have none of their values."""

from collections.abc import Collection, Mapping
from typing import Final, Literal, TypeAlias

from gateway.channels.channel import Channel
from gateway.ports.events import Event, EventType

What: TypeAlias = Literal[
    "user", "token", "alarms", "domains", "site", "channel",
    "push", "input", "inputs", "output", "recording", "film", "bin",
]  # fmt: skip
Change: TypeAlias = Literal[
    "created", "changed", "deleted", "deleted_for_good", "restored", "ended", "taken", "released", "on", "off"
]

MAX_FIELDS: Final = 50  # names in an event; a client may send any names
MAX_TEXT: Final = 100  # characters of a name


def channel_created(channel: Channel, time: float, author: Mapping[str, str]) -> Event:
    """Returns the event of a new channel. author: `by` and, over the network, `peer`."""
    return Event(EventType.CHANNEL_CREATED, time, channel.id, {"name": channel.name[:MAX_TEXT], **author})


def channel_changed(channel: Channel, time: float, author: Mapping[str, str], fields: Collection[str]) -> Event:
    """Returns the event of changed fields. fields: their names."""
    names = [name[:MAX_TEXT] for name in sorted(fields)[:MAX_FIELDS]]
    data = {"name": channel.name[:MAX_TEXT], "fields": names, **author}
    return Event(EventType.CHANNEL_CHANGED, time, channel.id, data)


def channel_deleted(id: str, time: float, author: Mapping[str, str], media: str) -> Event:
    """Returns the event of a deleted channel. media: "keep" or "delete"."""
    return Event(EventType.CHANNEL_DELETED, time, id, {"media": media, **author})


def settings_changed(
    what: What,
    change: Change,
    time: float,
    author: Mapping[str, str],
    *,
    name: str = "",
    fields: Collection[str] = (),
    channel: str = "",
) -> Event:
    """Returns the event of a change that is not one of a channel's fields, or of an act on a live channel.

    name: of the user, token, input or output, or the key of a recording or film. channel: "" if it belongs to none.
    """
    data = {"what": what, "change": change, "name": name[:MAX_TEXT], "fields": list(fields)[:MAX_FIELDS], **author}
    return Event(EventType.SETTINGS_CHANGED, time, channel, data)
