"""Creates the services that admit pushes and put the inputs of channels on air."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

import structlog

from gateway.app.node_parts import NodeParts
from gateway.app.parts.live import Live
from gateway.app.viewer_parts import ViewerParts
from gateway.channels.channel import Channel, item_of_template
from gateway.channels.channel_changes import ChannelChanges
from gateway.channels.inputs import stored_inputs
from gateway.channels.stores import ChannelReader
from gateway.diagnosis.refusal_log import RefusalLog
from gateway.ingest.admission import Admission, PublishHook
from gateway.inputs.channel_inputs import ChannelInputs
from gateway.inputs.descriptor import InputServices
from gateway.inputs.previews import InputPreviews
from gateway.lib.refusals import Refusals
from gateway.live.hub import Hub
from gateway.live.publisher import AcquirePublisher, Evict, PushOrigin, StreamPublisher
from gateway.ports.auth_hook import HookAction, HookMode
from gateway.ports.errors import ChannelExists, InvalidField, NameInUse, NoSuchChannel, StoreUnavailable

log = structlog.get_logger(__name__)

_RETURN_SECONDS: Final = 2.0  # in which the store must answer for a stream that is held here
_IN_USE_SECONDS: Final = 0.5  # for which a push waits for the end of another one
_RETRY_SECONDS: Final = 0.05

if TYPE_CHECKING:
    from gateway.cluster.cluster_member import ClusterMember


@dataclass(frozen=True, slots=True)
class Pushes:
    """The services for publishers. refusals: the refused pushes of this process."""

    admission: Admission
    acquire: AcquirePublisher
    inputs: ChannelInputs
    previews: InputPreviews
    refusals: RefusalLog


@dataclass(frozen=True, slots=True)
class _HeldChannels:
    """A ChannelReader for pushes. While the store is unavailable, the channels of streams held here stay readable.

    So a publisher can return to its stream, also if the store is connected and does not answer: the stream must not end
    before that is known. Its channel may have been changed meanwhile.
    """

    store: ChannelReader
    hub: Hub

    async def get(self, id: str) -> Channel:
        stream = self.hub.held(id)
        if stream is None:
            return await self.store.get(id)
        try:
            async with asyncio.timeout(_RETURN_SECONDS):
                return await self.store.get(id)
        except (StoreUnavailable, TimeoutError):
            return stream.channel


def build_pushes(
    parts: NodeParts, changes: ChannelChanges, viewers: ViewerParts, live: Live, member: ClusterMember | None
) -> Pushes:
    """Returns the services. member: claims streams for this node; None: a single node."""
    settings, hub, outputs = parts.settings, live.hub, live.outputs
    admission = Admission(
        _HeldChannels(changes.store, hub),
        parts.secrets,
        parts.events,
        publishers_per_address=settings.limits.publishers_per_address,
        refusals=Refusals(settings.limits.refusals_per_minute),
        hook=_publish_hook(parts, viewers, changes),
    )
    inputs = ChannelInputs(
        hub,
        settings.inputs,
        InputServices(settings, outputs.workers, outputs.egress, outputs.tls, changes.objects),
        live.viewers_of,
        viewers.channels.cached,
        None if member is None else member.claims.hold,
    )
    parts.metrics.read_from(inputs.samples)
    refusals = RefusalLog()
    parts.events.listen(refusals.listen)
    acquire_any: AcquirePublisher = hub.acquire_publisher if member is None else member.claims.acquire

    async def acquire(channel: Channel, origin: PushOrigin, evict: Evict, input: str = "") -> StreamPublisher:
        """Implements AcquirePublisher. Raises BitRateTooHigh if a push has just been ended for its bit rate."""
        hub.check_bit_rate(channel)
        return await _acquire_soon(partial(acquire_any, channel, origin, evict, input))

    return Pushes(admission, acquire, inputs, InputPreviews(hub, inputs, outputs.jpegs), refusals)


async def _acquire_soon(acquire: Callable[[], Awaitable[StreamPublisher]]) -> StreamPublisher:
    """Tries again for _IN_USE_SECONDS while another push has the name. Raises what `acquire` raises.

    An encoder that was cut returns at once, perhaps before this node or another one notices the end of its old
    connection.
    """
    until = time.monotonic() + _IN_USE_SECONDS
    while True:
        try:
            return await acquire()
        except NameInUse:
            if time.monotonic() >= until:
                raise
        await asyncio.sleep(_RETRY_SECONDS)


def _publish_hook(parts: NodeParts, viewers: ViewerParts, changes: ChannelChanges) -> PublishHook | None:
    settings, store, hook = parts.settings.auth, changes.store, viewers.hook
    if hook is None or not hook.asks(HookAction.PUBLISH):
        return None

    async def make_channel(id: str) -> Channel:
        """Stores a channel with the fields of the template. Raises StoreUnavailable."""
        try:
            template = await store.get(settings.template)
            item = item_of_template(template, id, time.time(), parts.secrets)
            return await changes.create(item, {"by": "auth hook"}, known=stored_inputs(template.item))
        except ChannelExists:  # another publisher of this name was faster
            return await store.get(id)
        except (NoSuchChannel, InvalidField) as error:
            log.error("auth.template makes no channel", template=settings.template, reason=str(error))
            raise StoreUnavailable("auth.template makes no channel") from None

    return PublishHook(hook, HookMode(settings.mode), make_channel if settings.template else None)
