"""All streams that a node pulls from other nodes: unchanged, and in the form for viewers by WebRTC."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Self

from gateway.cluster.members.node_address import StreamLocator
from gateway.cluster.members.peers import Peers
from gateway.cluster.streams.browser_replicas import BrowserReplicas
from gateway.cluster.streams.replicas import Replicas
from gateway.lib.metric_table import PULLED, PULLS, MetricSample
from gateway.lib.tasks import Tasks
from gateway.live.hub import Hub, StreamLimits
from gateway.live.output import OutputSpec
from gateway.live.stream import Stream
from gateway.packaging.rtp.output import KIND as WHEP
from gateway.ports.events import Events


class PulledStreams:
    """The replicas for players, and the replicas for viewers by WebRTC. Use as `async with`.

    specs: of their outputs.
    """

    def __init__(self, limits: StreamLimits, specs: Sequence[OutputSpec], locator: StreamLocator, peers: Peers) -> None:
        self.hub = Hub(limits, [spec for spec in specs if spec.name != WHEP], Events())
        self.replicas = Replicas(self.hub, locator, peers)
        self.browsers = BrowserReplicas(limits, specs, locator, peers)
        self._replicas = self.replicas, self.browsers.replicas, self.browsers.h264

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.browsers.tasks.close()
        for replicas in reversed(self._replicas):
            await replicas.__aexit__()

    def __iter__(self) -> Iterator[Stream]:
        return chain(self.hub, self.browsers.hub)

    def start(self, tasks: Tasks) -> None:
        """Starts the tasks of the hubs."""
        for replicas in self._replicas:
            tasks.start(replicas.hub.run(), "replicas")

    def drain(self) -> None:
        """Accepts no new streams. Ends all viewers."""
        for replicas in self._replicas:
            replicas.hub.drain()

    @property
    def readers(self) -> int:
        """The number of pulls by other nodes, and of viewers with H.264."""
        return sum(replicas.readers for replicas in self._replicas)

    def viewers(self) -> tuple[Mapping[str, Counter[str]], Mapping[str, Counter[str]]]:
        """Returns the viewers by stream and protocol: of players, and by WebRTC."""
        return {s.name: s.viewers for s in self.hub}, {s.name: s.viewers for s in self.browsers.hub}

    def samples(self) -> Iterator[MetricSample]:
        """Yields the number of replicas, and of opened connections."""
        yield MetricSample(PULLED, sum(map(len, self._replicas)))
        yield MetricSample(PULLS, sum(replicas.pulls for replicas in self._replicas))
