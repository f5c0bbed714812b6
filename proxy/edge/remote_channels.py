"""Reads from gateways what an edge shows: channels, their rules for players, their names, their list, and the site."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, TypeVar
from urllib.parse import urlencode

import structlog

from gateway.channels.channel import Channel
from gateway.channels.names import is_channel_id
from gateway.channels.site import Site
from gateway.channels.slugs import SLUG, is_slug
from gateway.channels.stores import ChannelReader
from gateway.cluster.members.node_address import NodeAddress, PeerRefused, PeerUnavailable, StreamLocator
from gateway.cluster.members.peers import Peers
from gateway.lib import bounded_json
from gateway.lib.places import Places
from gateway.playback.public_channels import MAX_CHANNELS, Entries, first_entries
from gateway.playback.slugs import MAX_NAMES, NamedChannel, NameTable
from gateway.ports.errors import NoSuchChannel, StoreUnavailable
from proxy.edge.gateways import Gateways

log = structlog.get_logger(__name__)

_TIMEOUT_SECONDS: Final = 3.0  # for the answer of one gateway
_MAX_CONCURRENT: Final = 256  # requests; limited, because viewers can request any id
_SHOW: Final = {"id", "title", "start", "end"}
T = TypeVar("T")

_MAX_NAMES_BYTES: Final = 400 * MAX_NAMES
_TYPES: Final = {"id": str, "name": str, "description": str, "live": bool, "viewers": int}  # of a public channel


class RemoteChannels:
    """Reads channels from the gateways, which may have separate stores. A ChannelReader; use it behind CachedChannels.

    A channel counts as missing only if all gateways answer this. If one gateway sends no answer, StoreUnavailable is
    raised, because anyone may play a missing channel.

    operation: "channel", or "deleted" for the remaining data of deleted channels.
    """

    def __init__(self, gateways: Gateways, locator: StreamLocator, peers: Peers, operation: str = "channel") -> None:
        self._gateways, self._locator, self._peers, self._operation = gateways, locator, peers, operation
        self._running = Places(_MAX_CONCURRENT, lambda: StoreUnavailable("too many channels are requested", 1))

    async def get(self, id: str) -> Channel:
        """Returns the channel with its public fields. Raises NoSuchChannel, StoreUnavailable."""
        if not is_channel_id(id):
            raise NoSuchChannel(id)
        with self._running:
            return await self._ask(id)

    async def _ask(self, id: str) -> Channel:
        failure = "no gateway is available"
        gateways = await self._gateways.in_order(self._locator.known(id))
        unknown = 0
        for gateway in gateways:
            try:
                return await _read(self._peers, gateway, id, self._operation)
            except PeerRefused as refused:
                unknown += refused.status == 404
                failure = str(refused)
            except PeerUnavailable as error:
                self._gateways.mark_failed(gateway)
                failure = str(error)
            except ValueError as error:
                failure = f"node {gateway.id} at {gateway.address}: {error}"
        if gateways and unknown == len(gateways):
            raise NoSuchChannel(id)
        raise StoreUnavailable(failure)


class HolderFirstChannels:
    """Reads the channel of a live stream from the node that holds the stream, else from the shared store.

    A ChannelReader. It avoids that every edge reads the store for every stream.
    """

    def __init__(self, store: ChannelReader, locator: StreamLocator, peers: Peers) -> None:
        self._store, self._locator, self._peers = store, locator, peers

    async def get(self, id: str) -> Channel:
        """Returns the channel. Raises NoSuchChannel, StoreUnavailable."""
        node = self._locator.known(id) if is_channel_id(id) else None
        if node is not None:
            try:
                return await _read(self._peers, node, id)
            except (PeerUnavailable, PeerRefused, ValueError) as error:
                log.debug("the channel cannot be read from the node with its stream", channel=id, reason=str(error))
        return await self._store.get(id)


async def _read(peers: Peers, node: NodeAddress, id: str, operation: str = "channel") -> Channel:
    """Returns a channel's public fields from one node.

    Raises PeerUnavailable, PeerRefused, and ValueError for an invalid answer.
    """
    item = bounded_json.loads(await peers.ask(node, "GET", f"/_node/.node/{operation}/{id}", seconds=_TIMEOUT_SECONDS))
    if not isinstance(item, dict) or item.get("id") != id:
        raise ValueError("the answer has another channel")
    return Channel(item)


class RemoteSite:
    """Reads the table of names, the site and the list of public channels.

    separate_stores: whether the gateways may have separate stores. If so, all gateways are asked. Otherwise the first
    that answers is enough.
    """

    def __init__(self, gateways: Gateways, peers: Peers, *, separate_stores: bool) -> None:
        self._gateways, self._peers, self._separate_stores = gateways, peers, separate_stores

    async def table(self) -> NameTable:
        """Returns the table. Raises StoreUnavailable if no gateway has one."""
        table: dict[str, NamedChannel] = {}
        for names in await self._answers("slugs", lambda body: dict(_names(body.splitlines())), _MAX_NAMES_BYTES):
            table = {**names, **table}
        return table

    async def site(self) -> Site:
        """Returns the site of the first gateway that has one. Raises StoreUnavailable."""
        return (await self._answers("site", _site, is_enough=lambda site: site != Site()))[-1]

    async def public_channels(self) -> Entries:
        """Returns the entries of `channels.json`, live channels first. Raises StoreUnavailable if no gateway has it."""
        found: dict[str, Mapping[str, Any]] = {}
        for entries in await self._answers("public", _entries):
            for entry in entries:
                if entry["id"] not in found or entry["live"]:
                    found[entry["id"]] = entry
        return first_entries(found.values())

    async def shows(self, channel: str) -> Sequence[Mapping[str, Any]]:
        """Returns the newest shows of a channel, see `SharedReports.listed`. Raises StoreUnavailable."""
        return (await self._answers(f"shows/{channel}", _shows, is_enough=bool))[-1]

    async def report(self, channel: str, show: str, sign: str) -> Mapping[str, Any] | None:
        """Returns the report of a show, see `SharedReports.report`. Raises StoreUnavailable."""
        query = urlencode({"show": show, "sign": sign})
        return (await self._answers(f"show/{channel}?{query}", _report, is_enough=bool))[-1]

    async def _answers(
        self,
        operation: str,
        read: Callable[[bytes], T],
        max_bytes: int = 1_000_000,
        is_enough: Callable[[T], bool] | None = None,
    ) -> list[T]:
        """Returns the answers of the gateways, up to the first that is enough. Raises StoreUnavailable without answers.

        read: reads the body of an answer; raises ValueError if it is invalid. is_enough: by default see above.
        """
        answers: list[T] = []
        for gateway in await self._gateways.in_order():
            target = f"/_node/.node/{operation}"
            try:
                body = await self._peers.ask(gateway, "GET", target, seconds=_TIMEOUT_SECONDS, max_bytes=max_bytes)
                answers.append(read(body))
            except (PeerUnavailable, PeerRefused, ValueError) as error:
                if isinstance(error, PeerUnavailable):
                    self._gateways.mark_failed(gateway)
                log.debug("a gateway has no answer", operation=operation, node=gateway.id, reason=str(error))
                continue
            if is_enough(answers[-1]) if is_enough is not None else not self._separate_stores:
                break
        if not answers:
            raise StoreUnavailable(f"no gateway answers: {operation}")
        return answers


def _names(lines: Iterable[bytes]) -> Iterable[tuple[str, NamedChannel]]:
    """Yields the valid entries of a gateway's answer. Raises ValueError."""
    for line, _ in zip(lines, range(MAX_NAMES), strict=False):
        entry = bounded_json.loads(line)
        slug, id, name = (entry.get(key) if isinstance(entry, dict) else None for key in (SLUG, "id", "name"))
        if not isinstance(slug, str) or not isinstance(id, str) or not isinstance(name, str):
            continue
        if is_slug(slug) and is_channel_id(id) and is_channel_id(name):
            yield slug, NamedChannel(id, name)


def _shows(body: bytes) -> list[Mapping[str, Any]]:
    """Returns the valid shows in a gateway's answer."""
    answer = bounded_json.loads(body)
    shows = answer.get("shows") if isinstance(answer, dict) else None
    return [one for one in shows if isinstance(one, dict) and one.keys() >= _SHOW] if isinstance(shows, list) else []


def _report(body: bytes) -> Mapping[str, Any] | None:
    answer = bounded_json.loads(body)
    found = answer.get("report") if isinstance(answer, dict) else None
    return found if isinstance(found, dict) else None


def _site(body: bytes) -> Site:
    found = bounded_json.loads(body)
    return Site.from_json(found) if isinstance(found, dict) else Site()


def _entries(body: bytes) -> list[Mapping[str, Any]]:
    """Returns the valid entries of a gateway's list of public channels. Raises ValueError for no list."""
    answer = bounded_json.loads(body)
    entries = answer.get("channels") if isinstance(answer, dict) else None
    if not isinstance(entries, list):
        raise ValueError("the answer has no list")
    return [entry for entry in entries[:MAX_CHANNELS] if _is_valid(entry)]


def _is_valid(entry: object) -> bool:
    return (
        isinstance(entry, dict)
        and all(isinstance(entry.get(name), type) for name, type in _TYPES.items())
        and is_channel_id(entry["id"])
    )
