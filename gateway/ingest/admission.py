"""Checks pushes for all protocols: the signature of the key, the stored key, and the limits for each address."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import InitVar, dataclass, field
from typing import Final

import structlog

from gateway.channels.channel import Channel
from gateway.channels.inputs import InputKind, backup_subject, push_input
from gateway.channels.names import is_channel_id
from gateway.channels.stores import ChannelReader, find_channel
from gateway.channels.stream_key import SigningSecrets, StreamKey, Verdict
from gateway.lib.bounded_dict import BoundedDict
from gateway.lib.quota import Quota
from gateway.lib.refusals import Refusals
from gateway.ports.auth_hook import NO_DETAILS, AuthHook, HookAction, HookDetails, HookMode, HookRequest
from gateway.ports.errors import (
    AtCapacity,
    GatewayError,
    MediaUnusable,
    NameInUse,
    NotAuthorized,
    PushesNotAccepted,
    RefusalReason,
    StoreUnavailable,
    TooManyRefusals,
)
from gateway.ports.events import Event, Events, EventType

log = structlog.get_logger(__name__)

_REVOKED_SECONDS: Final = 1.0  # for which a revoked key causes no second read, if its address had many refusals
_MAX_REVOKED: Final = 1_000
STORE_SECONDS: Final = 7.0  # public, must not grow: a push is refused within 8 s if the store is unavailable


@dataclass(frozen=True, slots=True)
class PushRequest:
    """A request to push, from any protocol.

    key: None without one. input: the name of the channel's input; "": the push with the channel's own key.
    exempt: whether the address is that of a trusted proxy, which is not limited. details: for the auth hook.
    """

    id: str
    key: str | None
    address: str
    protocol: str
    exempt: bool = False
    input: str = ""
    details: HookDetails = NO_DETAILS


@dataclass(frozen=True, slots=True)
class PublishHook:
    """How pushes need the permission of the operator's service.

    make_channel: stores a new channel of this id, for a name that the service allows and that is none yet; raises
    StoreUnavailable. None: such pushes are refused.
    """

    service: AuthHook
    mode: HookMode
    make_channel: Callable[[str], Awaitable[Channel]] | None = None


@dataclass(eq=False, repr=False, slots=True)
class Admission:
    """Checks pushes. Refusals are logged, counted and sent as `publish.refused`, never with the key.

    Every key is verified, even after refusals, because the earlier keys may come from other publishers at this address.
    Above the limit of `refusals`, a wrong key raises TooManyRefusals and is only counted.
    channels: None: an edge, which accepts no push and looks up no channel.
    hook: None: pushes need no permission of a service. refused: the number of refusals by the error's name.
    """

    channels: ChannelReader | None
    secrets: SigningSecrets
    events: Events
    publishers_per_address: InitVar[int] = field(kw_only=True)
    refusals: Refusals = field(kw_only=True)
    hook: PublishHook | None = field(default=None, kw_only=True)
    monotonic: Callable[[], float] = field(default=time.monotonic, kw_only=True)
    connections: Quota = field(init=False)
    refused: dict[str, int] = field(default_factory=dict, init=False)
    # By subject and key, for genuine keys that the channel does not have: the time of the read (monotonic), and the
    # verdict REVOKED or WRONG.
    _revoked: BoundedDict[tuple[str, str], tuple[float, Verdict]] = field(
        default_factory=lambda: BoundedDict(_MAX_REVOKED), init=False
    )

    def __post_init__(self, publishers_per_address: int) -> None:
        self.connections = Quota(publishers_per_address)

    async def admit(self, request: PushRequest) -> Channel:
        """Returns the channel to which this client may push now. The hook may choose another one than the request.

        Raises NotAuthorized, TooManyRefusals, AtCapacity, StoreUnavailable, PushesNotAccepted.
        """
        if self.channels is None:
            raise PushesNotAccepted("this is an edge, which only plays")
        hook, channel = self.hook, None
        if hook is None:
            return await self._verify(request)
        if hook.mode is HookMode.BOTH or (hook.mode is HookMode.UNKNOWN and await self._is_channel(request)):
            channel = await self._verify(request)
            if hook.mode is HookMode.UNKNOWN:
                return channel
        question = HookRequest(HookAction.PUBLISH, request.id, request.address, request.details)
        name = await hook.service.ask(question, exempt=request.exempt)
        if name is None:
            raise self._refusal(RefusalReason.HOOK, request)
        if channel is None or name != request.id:
            channel = await self._channel_of_hook(hook, name)
        if channel is None or push_input(channel.item, request.input) is None:
            raise self._refusal(RefusalReason.WRONG, request)
        return channel

    async def _is_channel(self, request: PushRequest) -> bool:
        """Whether the sign decides about a name, in the mode UNKNOWN. A genuine key is read by `_verify`."""
        id = request.id
        if not is_channel_id(id):
            return False
        is_genuine = self.secrets.verify(id, request.key, time.time()) is Verdict.VALID
        return is_genuine or await self._find_channel(id) is not None

    async def _channel_of_hook(self, hook: PublishHook, name: str) -> Channel | None:
        """Returns the channel that the hook allows; None if there is none and the hook makes none."""
        if not is_channel_id(name):
            return None
        channel = await self._find_channel(name)
        return channel if channel is not None or hook.make_channel is None else await hook.make_channel(name)

    async def _verify(self, request: PushRequest) -> Channel:
        """Returns the channel if the key may push to it. Raises as `admit`."""
        id, key, input, now = request.id, request.key, request.input, time.time()
        subject = backup_subject(id, input) if input else id
        # A key with a wrong signature causes no read of the store.
        verdict = self.secrets.verify(subject, key, now) if is_channel_id(id) or not key else Verdict.WRONG
        if verdict is Verdict.WRONG and input and is_channel_id(id):
            verdict = self.secrets.verify(id, key, now)  # `input` may be the name of the push with the channel's key
        if verdict is Verdict.VALID and key is not None:
            earlier = None if request.exempt else self._earlier_verdict(subject, key, request.address)
            if earlier is not None:
                verdict = earlier
            else:
                channel = await self._find_channel(id)
                verdict = self._verify_stored(channel, key, input, now)
                if channel is not None and verdict is Verdict.VALID:
                    return channel
                self._revoked[subject, key] = self.monotonic(), verdict
        parsed = StreamKey.parse(key or "") if verdict is Verdict.EXPIRED else None
        raise self._refusal(RefusalReason(verdict), request, parsed.expires if parsed is not None else None)

    def _refusal(self, reason: RefusalReason, request: PushRequest, expired: int | None = None) -> GatewayError:
        """Returns NotAuthorized, or TooManyRefusals above the limit of the address."""
        if not request.exempt and self.refusals.add(request.address, self.monotonic()):
            return TooManyRefusals("too many refused keys from this address")
        return NotAuthorized(str(reason), reason, expired)

    def _verify_stored(self, channel: Channel | None, key: str, input: str, now: float) -> Verdict:
        """Compares a genuine key with the stored channel."""
        if channel is None:
            return Verdict.WRONG
        spec = push_input(channel.item, input)
        if spec is None:
            return Verdict.WRONG
        if spec.kind is InputKind.PUSH:
            return self.secrets.verify_push(channel.id, channel.key, key, now)
        # A backup's key is not stored: it is revoked with the channel's key, because both have one expiry.
        parsed, verdict = StreamKey.parse(key), self.secrets.verify(backup_subject(channel.id, input), key, now)
        if verdict is Verdict.VALID and (parsed is None or parsed.expires != channel.expires):
            return Verdict.REVOKED
        return verdict

    def _earlier_verdict(self, subject: str, key: str, address: str) -> Verdict | None:
        """Returns the verdict if the key was read as revoked or wrong within _REVOKED_SECONDS; otherwise None.

        The signature of a revoked key is still valid. So without this check, each try would cost a read.
        """
        now = self.monotonic()
        read_at, verdict = self._revoked.get((subject, key), (-math.inf, None))
        return verdict if now - read_at < _REVOKED_SECONDS and self.refusals.wait(address, now) > 0 else None

    async def _find_channel(self, id: str) -> Channel | None:
        assert self.channels is not None, "an edge looks up none"
        try:
            async with asyncio.timeout(STORE_SECONDS):
                return await find_channel(self.channels, id)
        except TimeoutError:
            raise StoreUnavailable("the channel store does not answer") from None

    def refuse(self, id: str, address: str, protocol: str, error: GatewayError) -> None:
        """Counts a refused push. Also logs it and sends its event, up to the limit of its address."""
        reason = f"{type(error).__name__}: {error}"
        kind = type(error).__name__
        self.refused[kind] = self.refused.get(kind, 0) + 1
        if isinstance(error, TooManyRefusals):
            return  # this address was logged often enough
        stream = id if is_channel_id(id) else ""
        log.info("push refused", stream=stream, peer=address, protocol=protocol, reason=reason)
        data: dict[str, object] = {"peer": address, "protocol": protocol, "reason": kind}
        if (refusal := refusal_reason(error)) is not None:
            data["refusal"] = str(refusal)
        if isinstance(error, NotAuthorized) and error.expired is not None:
            data["expired"] = error.expired
        if isinstance(error, MediaUnusable):
            data["text"] = str(error)
        self.events.emit(Event(EventType.PUBLISH_REFUSED, time.time(), stream, data))


def refusal_reason(error: GatewayError) -> RefusalReason | None:
    """Returns the reason that clients see; None if it is not about key, name, load or media."""
    match error:
        case NotAuthorized():
            return error.reason
        case NameInUse():
            return RefusalReason.IN_USE
        case AtCapacity():
            return RefusalReason.FULL
        case MediaUnusable():
            return RefusalReason.UNUSABLE
    return None
