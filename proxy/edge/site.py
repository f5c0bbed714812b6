"""Reads from gateways what the pages of an edge need: the names of channels, the site, and the public channels."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeVar

import structlog

from gateway.channels.names import is_channel_id
from gateway.channels.site import Site
from gateway.channels.slugs import MAX_NAMES, SLUG, NamedChannel, is_slug
from gateway.cluster.members.node_address import PeerRefused, PeerUnavailable
from gateway.cluster.members.peers import Peers
from gateway.lib import bounded_json
from gateway.playback.public_channels import MAX_CHANNELS, Entries, first_entries
from gateway.playback.slugs import NameTable
from gateway.ports.errors import StoreUnavailable
from proxy.edge.gateways import Gateways

log = structlog.get_logger(__name__)

T = TypeVar("T")

_ASK_SECONDS: Final = 3.0  # for the answer of one gateway
_MAX_NAMES_BYTES: Final = 400 * MAX_NAMES
_TYPES: Final = {"id": str, "name": str, "description": str, "live": bool, "viewers": int}  # of a public channel


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
                body = await self._peers.ask(gateway, "GET", target, seconds=_ASK_SECONDS, max_bytes=max_bytes)
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
