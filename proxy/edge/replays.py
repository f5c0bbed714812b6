"""Asks the gateways for the sessions that watch pages play while nobody pushes."""

from collections.abc import Mapping
from typing import Any, Final

from gateway.channels.channel import Channel
from gateway.lib import bounded_json
from gateway.lib.tasks import Tasks
from gateway.playback.channel_searches import ChannelSearches
from gateway.playback.internal_playback import REPLAY
from gateway.ports.errors import GatewayError
from proxy.edge.gateways import GatewayFiles

_SECONDS: Final = 10.0  # for which an answer is used
_MAX_BYTES: Final = 100_000  # of an answer


class EdgeReplays:
    """The replays of channels as a gateway knows them, see `ChannelSearches`. A playback.status.ReplayFinder."""

    def __init__(self, files: GatewayFiles, tasks: Tasks) -> None:
        self._files = files
        self._searches = ChannelSearches(self._find, _SECONDS, tasks)

    async def of(self, channel: Channel) -> Mapping[str, Any] | None:
        """Returns the last session of a channel as `status.json` has it; None if nothing is replayed."""
        return await self._searches.latest(channel.id)

    def forget(self, channel: str) -> None:
        """Lets the next request ask again."""
        self._searches.forget(channel)

    async def _find(self, channel: str, now: float) -> Mapping[str, Any] | None:
        body = bytearray()
        try:
            async with self._files.request(f"/_node/{channel}/{REPLAY}", channel) as upstream:
                async for chunk in upstream.chunks():
                    body += chunk
                    if len(body) > _MAX_BYTES:
                        return None
                replay = bounded_json.loads(bytes(body)) if upstream.head.status == 200 else None
        except (GatewayError, ValueError):  # the page waits for a stream without it
            return None
        return replay if isinstance(replay, dict) else None
