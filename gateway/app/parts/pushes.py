"""Creates the services that admit pushes and put the inputs of channels on air."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.app.node_parts import NodeParts
from gateway.app.parts.backends import Backends
from gateway.app.parts.live import Live
from gateway.app.viewer_parts import ViewerParts
from gateway.channels.channel import Channel
from gateway.channels.stores import ChannelReader
from gateway.diagnosis.refusal_log import RefusalLog
from gateway.ingest.admission import Admission
from gateway.inputs.channel_inputs import ChannelInputs
from gateway.inputs.descriptor import InputServices
from gateway.inputs.previews import InputPreviews
from gateway.lib.refusals import Refusals
from gateway.live.hub import Hub
from gateway.live.publisher import AcquirePublisher
from gateway.ports.errors import StoreUnavailable

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

    So a publisher can return to its stream. Its channel may have been changed meanwhile.
    """

    store: ChannelReader
    hub: Hub

    async def get(self, id: str) -> Channel:
        try:
            return await self.store.get(id)
        except StoreUnavailable:
            stream = self.hub.held(id)
            if stream is None:
                raise
            return stream.channel


def build_pushes(
    parts: NodeParts, backends: Backends, viewers: ViewerParts, live: Live, member: ClusterMember | None
) -> Pushes:
    """Returns the services. member: claims streams for this node; None: a single node."""
    settings, hub, outputs = parts.settings, live.hub, live.outputs
    admission = Admission(
        _HeldChannels(backends.stores.channels, hub),
        parts.secrets,
        parts.events,
        publishers_per_address=settings.limits.publishers_per_address,
        refusals=Refusals(settings.limits.refusals_per_minute),
    )
    inputs = ChannelInputs(
        hub,
        settings.inputs,
        InputServices(settings, outputs.workers, outputs.egress, outputs.tls, backends.stores.objects),
        live.viewers_of,
        viewers.channels.cached,
        None if member is None else member.claims.hold,
    )
    parts.metrics.read_from(inputs.samples)
    refusals = RefusalLog()
    parts.events.listen(refusals.listen)
    acquire: AcquirePublisher = hub.acquire_publisher if member is None else member.claims.acquire
    return Pushes(admission, acquire, inputs, InputPreviews(hub, inputs, outputs.jpegs), refusals)
