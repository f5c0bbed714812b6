"""Finds the channels of readable names in addresses, in a table that is read seldom."""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from gateway.channels.channel import Channel
from gateway.channels.slugs import SLUG, is_slug
from gateway.channels.stores import ChannelReader
from gateway.lib.clocks import SYSTEM_CLOCKS, Clocks
from gateway.lib.tasks import Tasks
from gateway.playback.public_channels import SharedRead
from gateway.ports.errors import NoSuchChannel

SECONDS: Final = 10.0  # between two reads because of unknown names
_REFRESH_SECONDS: Final = 60.0  # after which a known name causes a read, in the background
_WAIT_SECONDS: Final = 2.0  # longest wait of a request
MAX_NAMES: Final = 20_000  # names in a table


@dataclass(frozen=True, slots=True)
class NamedChannel:
    """The channel that a name leads to. name: the one to show now: its slug, else its id."""

    id: str
    name: str


NameTable = Mapping[str, NamedChannel]


class Slugs:
    """The names of all channels. Viewers can invent names, so an unknown name never causes a request of its own.

    read: returns the table of all names. A change by this node, or one that another node reports, applies at once;
    changes by others within SECONDS for new names, and _REFRESH_SECONDS for known ones.
    """

    def __init__(self, read: Callable[[], Awaitable[NameTable]], tasks: Tasks, clocks: Clocks = SYSTEM_CLOCKS) -> None:
        self._read, self._clocks = read, clocks
        self._table: NameTable = {}
        self._shared: SharedRead[NameTable] = SharedRead(self._update, SECONDS, tasks, clocks)
        self._complete = False  # whether the last read has succeeded
        self._read_at: float | None = None  # monotonic time of the table; None: a channel has changed since then

    def find(self, name: str) -> NamedChannel | None:
        """Returns the channel of a name, of the last table; None if it is unknown. Hot path."""
        return self._table.get(name)

    def must_update(self, name: str) -> bool:
        """Whether `update` must run before `find` of this name. Hot path."""
        if name in self._table:
            if self._read_at is not None and self._clocks.monotonic() - self._read_at >= _REFRESH_SECONDS:
                self._shared.start()
            return self._read_at is None
        return is_slug(name) and self._shared.due

    async def update(self) -> None:
        """Reads the table if it is old. While the store is unavailable, the last one stays."""
        await self._shared.wait(_WAIT_SECONDS)

    async def table(self) -> NameTable:
        """Returns the table, for edges. Raises StoreUnavailable if it has never been read."""
        return await self._shared.get()

    def expire(self) -> None:
        """Lets the next request with a slug read the table, because a channel has changed."""
        self._shared.expire()
        self._read_at = None

    async def id_of(self, name: str) -> str:
        """Returns the id of the channel with this slug; the name itself if there is none."""
        if self.must_update(name):
            await self.update()
        found = self.find(name)
        return name if found is None else found.id

    async def is_unknown(self, name: str) -> bool:
        """Whether no channel has this name as slug or id. It is False if this cannot be said without the store."""
        if not is_slug(name):
            return False
        await self.update()
        return self._complete and not self._shared.due and name not in self._table

    async def _update(self) -> NameTable:
        self._read_at, self._complete = self._clocks.monotonic(), False
        self._table = await self._read()
        self._complete = True
        return self._table


class KnownChannels:
    """A ChannelReader in front of a store, which is not asked for names that no channel has."""

    def __init__(self, store: ChannelReader, slugs: Slugs) -> None:
        self._store, self._slugs = store, slugs

    async def get(self, id: str) -> Channel:
        """Returns the channel. Raises NoSuchChannel, StoreUnavailable."""
        if await self._slugs.is_unknown(id):
            raise NoSuchChannel(id)
        return await self._store.get(id)


def name_table(channels: Iterable[Channel]) -> dict[str, NamedChannel]:
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
