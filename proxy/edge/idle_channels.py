"""Asks the gateways what pages show of a channel while nobody pushes: its last session, and its latest snapshot."""

from collections.abc import Mapping
from typing import Any, Final

from gateway.channels.channel import Channel
from gateway.lib import bounded_json
from gateway.lib.tasks import Tasks
from gateway.playback.channel_searches import ChannelSearches
from gateway.playback.internal_playback import REPLAY, SNAPSHOT_KEY
from gateway.playback.posters import Posters
from gateway.ports.errors import GatewayError
from proxy.edge.gateways import GatewayFiles

_REPLAY_SECONDS: Final = 10.0  # for which an answer is used
_POSTER_SECONDS: Final = 60.0
_MAX_BYTES: Final = 100_000  # of an answer


class EdgeReplays:
    """The replays of channels as a gateway knows them, see `ChannelSearches`. A playback.status.ReplayFinder."""

    def __init__(self, files: GatewayFiles, tasks: Tasks) -> None:
        self._files = files
        self._searches = ChannelSearches(self._find, _REPLAY_SECONDS, tasks)

    async def of(self, channel: Channel) -> Mapping[str, Any] | None:
        """Returns the last session of a channel as `status.json` has it; None if nothing is replayed."""
        return await self._searches.latest(channel.id)

    def forget(self, channel: str) -> None:
        """Lets the next request ask again."""
        self._searches.forget(channel)

    async def _find(self, channel: str, now: float) -> Mapping[str, Any] | None:
        return await _ask(self._files, channel, REPLAY)


def edge_posters(files: GatewayFiles, tasks: Tasks) -> Posters:
    """Returns the posters of channels as a gateway knows them."""

    async def find(channel: str, now: float) -> str | None:
        found = await _ask(files, channel, SNAPSHOT_KEY)
        key = found.get("key") if found is not None else None
        return key if isinstance(key, str) and key.startswith(f"{channel}/") else None

    return Posters(find, tasks, seconds=_POSTER_SECONDS)


async def _ask(files: GatewayFiles, channel: str, path: str) -> Mapping[str, Any] | None:
    """Returns the JSON object of the first gateway that has one; None if pages have to do without it."""
    body = bytearray()
    try:
        async with files.request(f"/_node/{channel}/{path}", channel) as upstream:
            async for chunk in upstream.chunks():
                body += chunk
                if len(body) > _MAX_BYTES:
                    return None
            found = bounded_json.loads(bytes(body)) if upstream.head.status == 200 else None
    except (GatewayError, ValueError):
        return None
    return found if isinstance(found, dict) else None
