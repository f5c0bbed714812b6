"""The list of channels for people: search, order and pages. All stores give equal results."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from gateway.channels.channel import Channel
from gateway.lib.texts import storable

LIVE, IDLE, EXPIRED = range(3)  # states of channels; a live channel may be expired too
_DIGITS: Final = re.compile("0*([0-9]+)")


class ChannelOrder(StrEnum):
    """The value that orders the list. Channels without the value come last; equal ones are ordered by name."""

    NAME = "name"
    STATE = "state"
    VIEWERS = "viewers"
    EXPIRY = "expiry"


@dataclass(frozen=True, slots=True)
class ChannelQuery:
    """A wanted page of the list.

    now: seconds since 1970. live: by id of each live channel, its number in the order STATE (less than 4) or VIEWERS.
    ids: only these channels; None: all. words: of the search, see `search_words`. states: of the found channels.
    """

    now: int
    live: Mapping[str, float]
    ids: Sequence[str] | None = None
    words: Sequence[str] = ()
    states: Sequence[int] = (LIVE, IDLE, EXPIRED)
    order: ChannelOrder = ChannelOrder.NAME
    descending: bool = False
    limit: int = 50
    offset: int = 0


@dataclass(frozen=True, slots=True)
class ChannelPage:
    """A page. found: the number of channels on all pages. states: the number of channels in each state, also others."""

    channels: Sequence[Channel]
    found: int
    states: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class ListEntry:
    """The fields of a channel for the list: the name by which it is ordered, the text of searches.

    name: "" for none. expires: seconds since 1970; 0: unknown.
    """

    name: str
    search: str
    expires: int

    @classmethod
    def of(cls, channel: Channel) -> "ListEntry":
        """Returns the entry of a channel."""
        name, about = (str(channel.item.get(field) or "") for field in ("videoname", "description"))
        return cls(_name_form(name), _search_form(f"{name} {about} {channel.id}"), channel.expires)


def search_words(text: str) -> list[str]:
    """Returns the words of a search. All of them must be in the name, the description or the id."""
    return list(dict.fromkeys(_search_form(text).split()))


def page_of(channels: Iterable[Channel], query: ChannelQuery) -> ChannelPage:
    """Returns a page from all channels of a store without SQL."""
    states, found = Counter[int](), []
    for channel in channels:
        entry, rank = ListEntry.of(channel), query.live.get(channel.id)
        if query.ids is not None and channel.id not in query.ids:
            continue
        state = LIVE if rank is not None else EXPIRED if entry.expires < query.now else IDLE
        states[state] += 1
        if state in query.states and all(word in entry.search for word in query.words):
            found.append((_value(query.order, entry, rank, state), entry.name, channel.id, channel))
    found.sort(key=lambda one: one[1:3])
    valued = sorted((one for one in found if one[0] is not None), key=lambda one: one[0], reverse=query.descending)
    found = valued + [one for one in found if one[0] is None]
    page = found[query.offset : query.offset + query.limit]
    return ChannelPage([channel for *_, channel in page], len(found), states)


def _value(order: ChannelOrder, entry: ListEntry, rank: float | None, state: int) -> Any:
    """Returns the value that orders a channel; None: it has none."""
    values = {
        ChannelOrder.NAME: entry.name or None,
        ChannelOrder.STATE: 3 + state if rank is None else rank,
        ChannelOrder.VIEWERS: rank,
        ChannelOrder.EXPIRY: entry.expires or None,
    }
    return values[order]


def _search_form(text: str) -> str:
    """Returns the text without upper and lower case, and without characters that no database can store."""
    return storable(text.casefold().replace("\0", " "))


def _name_form(name: str) -> str:
    """Returns the name without case and accents. Numbers have their length before them: 10 comes after 9."""
    letters = unicodedata.normalize("NFKD", _search_form(name).strip())
    plain = "".join(letter for letter in letters if not unicodedata.combining(letter))
    return _DIGITS.sub(lambda number: f"{len(number[1]):04}{number[1]}", plain)
