"""Amazon IVS channels: where a relay pushes to and with which key, and making, listing and deleting them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from botocore.exceptions import ClientError

from gateway.adapters.aws.session import AwsSession, error_code
from gateway.hub.errors import IvsRefused, OutputTrouble
from gateway.hub.ports import IvsChannel, IvsIngest

_KEEP_SECONDS: Final = 600.0
_MOST_KEPT: Final = 1_000
_MOST_AT_ONCE: Final = 50  # channels of one BatchGetChannel
# What somebody has to put right, and how it is told ("": in IVS's own words); the rest is AWS being away.
_TELLING: Final = {
    "ResourceNotFoundException": ("missing", "there is no such channel"),
    "ConflictException": ("conflict", "the channel is in use: end its stream first"),
    "ServiceQuotaExceededException": ("full", "the account has as many channels as it may have"),
    "PendingVerification": ("denied", "the account is not yet verified"),
    "ValidationException": ("invalid", ""),
    "AccessDeniedException": ("denied", "not allowed for these credentials"),
}


class AwsIvs:
    """An IvsDirectory and IvsChannels, and what the command line does with them. The region is the ARN's own.

    Endpoints and keys are remembered for ten minutes; `fresh` asks again. Raises OutputTrouble (IvsRefused where IVS
    itself says no) for what somebody has to put right, StoreAway where AWS does not answer.
    """

    def __init__(self, session: AwsSession, clock: Callable[[], float] = time.monotonic) -> None:
        self._session, self._clock = session, clock
        self._known: dict[str, tuple[float, IvsIngest]] = {}

    async def ingest(self, arn: str, *, fresh: bool = False) -> IvsIngest:
        """Where the channel takes its push; the first of its stream keys."""
        known = self._known.get(arn)
        now = self._clock()
        if known is not None and not fresh and now - known[0] < _KEEP_SECONDS:
            return known[1]
        channel = await self.show(arn)
        keys = await self._call("list_stream_keys", arn, channelArn=arn, maxResults=1)
        if not keys.get("streamKeys"):
            raise OutputTrouble(f"{arn}: the IVS channel has no stream key")
        key = await self._call("get_stream_key", arn, arn=keys["streamKeys"][0]["arn"])
        found = IvsIngest(channel.endpoint, key["streamKey"]["value"], channel.kind, channel.insecure)
        if len(self._known) >= _MOST_KEPT:
            del self._known[next(iter(self._known))]
        self._known[arn] = (now, found)
        return found

    async def show(self, arn: str) -> IvsChannel:
        """One channel, without its key."""
        return _channel((await self._call("get_channel", arn, arn=arn))["channel"])

    async def channels(self) -> list[IvsChannel]:
        """The channels of the configured region by name, with all but their keys."""
        arns = [channel.arn for channel in await self.list()]
        found: list[IvsChannel] = []
        for first in range(0, len(arns), _MOST_AT_ONCE):
            answer = await self._call("batch_get_channel", "", arns=arns[first : first + _MOST_AT_ONCE])
            found += (_channel(c) for c in answer.get("channels", ()))  # what was deleted meanwhile is left out
        return sorted(found, key=lambda channel: (channel.name, channel.arn))

    async def list(self) -> list[IvsChannel]:
        """The channels of the configured region: of each only arn, name, kind, latency and authorized are told."""
        found: list[IvsChannel] = []
        page: dict[str, Any] = {}
        while True:
            answer = await self._call("list_channels", "", maxResults=100, **page)
            found += (_channel(c) for c in answer["channels"])
            if not (token := answer.get("nextToken")):
                return found
            page = {"nextToken": token}

    async def create(self, name: str, kind: str, latency: str, authorized: bool = False) -> IvsChannel:
        """A new channel in the configured region, with its key. authorized: players need a signed token."""
        answer = await self._call(
            "create_channel", "", name=name, type=kind, latencyMode=latency, authorized=authorized
        )
        return _channel(answer["channel"], str(answer.get("streamKey", {}).get("value", "")))

    async def delete(self, arn: str) -> None:
        """The channel and its keys."""
        await self._call("delete_channel", arn, arn=arn)
        self._known.pop(arn, None)

    async def _call(self, operation: str, arn: str, /, **arguments: Any) -> Any:
        region = arn.split(":")[3] if arn.count(":") >= 5 else None
        async with self._session.calling("ivs", "channel" if arn else "channels", region) as client:
            try:
                return await getattr(client, operation)(**arguments)
            except ClientError as error:
                code = error_code(error)
                if code not in _TELLING:
                    raise
                said = str(error.response.get("message") or error.response.get("Error", {}).get("Message") or code)
                reason, words = _TELLING[code]
                why = " ".join((words or said).split())[:200]
                raise IvsRefused(f"{arn}: IVS: {why}" if arn else f"IVS: {why}", reason) from None


def _channel(told: Mapping[str, Any], key: str = "") -> IvsChannel:
    return IvsChannel(
        arn=str(told.get("arn", "")),
        name=str(told.get("name", "")),
        kind=str(told.get("type", "")),
        latency=str(told.get("latencyMode", "")),
        endpoint=str(told.get("ingestEndpoint", "")),
        playback_url=str(told.get("playbackUrl", "")),
        authorized=bool(told.get("authorized", False)),
        insecure=bool(told.get("insecureIngest", False)),
        key=key,
    )
