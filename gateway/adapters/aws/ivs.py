"""Amazon IVS channels: returns the ingest endpoint and key for a relay. Creates, lists and deletes channels."""

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from botocore.exceptions import ClientError

from gateway.adapters.aws.session import AwsSession, call, error_code, pages
from gateway.lib.bounded_dict import BoundedDict
from gateway.ports.errors import IvsRefused, OutputError
from gateway.ports.stores import IvsChannelInfo, IvsIngest

_CACHE_SECONDS: Final = 600.0
_MAX_CACHED: Final = 1_000
_MAX_BATCH: Final = 50  # channels in one BatchGetChannel
# Errors that an operator must fix, each with a reason and a message ("": the message of IVS). All other errors mean
# that AWS is unavailable.
_ERROR_MESSAGES: Final = {
    "ResourceNotFoundException": ("missing", "there is no such channel"),
    "ConflictException": ("conflict", "the channel is in use: end its stream first"),
    "ServiceQuotaExceededException": ("full", "the account has as many channels as it may have"),
    "PendingVerification": ("denied", "the account is not yet verified"),
    "ValidationException": ("invalid", ""),
    "AccessDeniedException": ("denied", "not allowed for these credentials"),
}


class AwsIvs:
    """An IvsDirectory and IvsChannels. The command line uses it too. A call goes to the region in the ARN.

    Endpoints and keys are cached for ten minutes; `fresh` ignores the cache. Raises OutputError for errors that an
    operator must fix, IvsRefused if IVS rejects the request, and StoreUnavailable if AWS does not answer.
    """

    def __init__(self, session: AwsSession, clock: Callable[[], float] = time.monotonic) -> None:
        self._session, self._clock = session, clock
        self._cached: BoundedDict[str, tuple[float, IvsIngest]] = BoundedDict(_MAX_CACHED)

    async def ingest(self, arn: str, *, fresh: bool = False) -> IvsIngest:
        """Returns the channel's ingest endpoint and its first stream key."""
        cached = self._cached.get(arn)
        now = self._clock()
        if cached is not None and not fresh and now - cached[0] < _CACHE_SECONDS:
            return cached[1]
        channel = await self.show(arn)
        keys = await self._call("list_stream_keys", arn, channelArn=arn, maxResults=1)
        if not keys.get("streamKeys"):
            raise OutputError(f"{arn}: the IVS channel has no stream key")
        key = await self._call("get_stream_key", arn, arn=keys["streamKeys"][0]["arn"])
        ingest = IvsIngest(channel.endpoint, key["streamKey"]["value"], channel.kind, channel.insecure)
        self._cached[arn] = (now, ingest)
        return ingest

    async def show(self, arn: str) -> IvsChannelInfo:
        """Returns one channel, without its key."""
        return _channel((await self._call("get_channel", arn, arn=arn))["channel"])

    async def channels(self) -> list[IvsChannelInfo]:
        """Returns the channels of the configured region, sorted by name, with all fields except their keys."""
        arns = [channel.arn for channel in await self.list()]
        channels: list[IvsChannelInfo] = []
        for first in range(0, len(arns), _MAX_BATCH):
            answer = await self._call("batch_get_channel", "", arns=arns[first : first + _MAX_BATCH])
            channels += map(_channel, answer.get("channels", ()))  # without channels that were deleted since then
        return sorted(channels, key=lambda channel: (channel.name, channel.arn))

    async def list(self) -> list[IvsChannelInfo]:
        """Returns the channels of the configured region. Only arn, name, kind, latency and authorized are filled."""
        answers = pages(partial(self._call, "list_channels", "", maxResults=100), "nextToken")
        return [_channel(channel) async for answer in answers for channel in answer["channels"]]

    async def create(self, name: str, kind: str, latency: str, authorized: bool = False) -> IvsChannelInfo:
        """Creates a channel in the configured region and returns it with its key.

        authorized: whether players need a signed token.
        """
        settings = {"name": name, "type": kind, "latencyMode": latency, "authorized": authorized}
        answer = await self._call("create_channel", "", **settings)
        return _channel(answer["channel"], str(answer.get("streamKey", {}).get("value", "")))

    async def delete(self, arn: str) -> None:
        """Deletes the channel and its keys."""
        await self._call("delete_channel", arn, arn=arn)
        self._cached.pop(arn, None)

    async def _call(self, operation: str, arn: str, /, **arguments: Any) -> Any:
        region = arn.split(":")[3] if arn.count(":") >= 5 else ""
        label = "channel" if arn else "channels"
        client = self._session.client_for("ivs", label, region, errors=partial(_refused, arn))
        return await call(client, operation, **arguments)


def _refused(arn: str, error: ClientError) -> IvsRefused | None:
    """Returns IvsRefused if IVS refused a call for the channel `arn`, otherwise None. See ErrorMap."""
    code = error_code(error)
    if code not in _ERROR_MESSAGES:
        return None
    answer = str(error.response.get("message") or error.response.get("Error", {}).get("Message") or code)
    reason, message = _ERROR_MESSAGES[code]
    message = " ".join((message or answer).split())[:200]
    return IvsRefused(f"{arn}: IVS: {message}" if arn else f"IVS: {message}", reason)


def _channel(item: Mapping[str, Any], key: str = "") -> IvsChannelInfo:
    return IvsChannelInfo(
        arn=str(item.get("arn", "")),
        name=str(item.get("name", "")),
        kind=str(item.get("type", "")),
        latency=str(item.get("latencyMode", "")),
        endpoint=str(item.get("ingestEndpoint", "")),
        playback_url=str(item.get("playbackUrl", "")),
        authorized=bool(item.get("authorized", False)),
        insecure=bool(item.get("insecureIngest", False)),
        key=key,
    )
