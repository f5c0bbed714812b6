"""All streams that a node pulls from other nodes: unchanged, and in the form for WebRTC viewers.

The node with the stream converts it once.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from itertools import chain
from typing import Final

import structlog

from gateway.cluster.members.node_address import StreamLocator
from gateway.cluster.members.peers import Peers
from gateway.cluster.streams.pull import RENDITIONS, UnitSource
from gateway.cluster.streams.replicas import Replicas
from gateway.lib.metric_table import PULLED, PULLS, MetricSample
from gateway.lib.tasks import Tasks
from gateway.lib.traffic import TrafficCounts
from gateway.live.output import OutputSpec
from gateway.live.shelf import StreamLimits, StreamShelf
from gateway.live.stream import Stream
from gateway.media.track import Codec
from gateway.outputs.browser.picture_sizes import PictureSize, next_size
from gateway.packaging.rtp.output import KIND as WHEP
from gateway.playback.playable_streams import BrowserMedia, TakePictures
from gateway.ports.errors import AtCapacity, NoSuchStream, OutputError
from gateway.protocols.nodes import PullForm

log = structlog.get_logger(__name__)

_START_SECONDS: Final = 15.0  # limit from the first request for H.264 to its first picture


class BrowserReplicas:
    """Implements BrowserMedia for the viewers of this node. `replicas`: the replicas for them.

    The replicas have separate shelves, so no other protocol finds them. A second replica has H.264, for viewers that
    cannot play the codec of the first one. Replicas of renditions have only pictures, for viewers with slow links.

    shelf: of the first replicas.
    h264: the replicas with H.264. tasks: change the pictures of viewers.
    """

    def __init__(self, shelf: StreamShelf, locator: StreamLocator, peers: Peers) -> None:
        self.replicas = Replicas(shelf, locator, peers, form=PullForm.WEBRTC)
        self.h264 = Replicas(StreamShelf(shelf.limits), locator, peers, form=PullForm.WEBRTC_H264)
        self._uses: dict[Stream, list[Callable[[], None]]] = {}  # by replica with H.264: ends the use of each viewer
        self.tasks = Tasks("renditions for browsers")

    async def pull_source(self, name: str, form: str, seconds: float) -> UnitSource:
        """Returns a replica as the source of another node's pull. Raises NoSuchStream, AtCapacity."""
        for replicas in (self.replicas, self.h264):
            if replicas.form == form:
                return await replicas.pull_source(name, seconds)
        raise NoSuchStream(name)

    # ---- BrowserMedia ----

    async def acquire(self, stream: Stream, playable: Collection[Codec]) -> Stream:
        """Returns the replica itself, or one with H.264. Raises OutputError, NoSuchStream, AtCapacity."""
        video = None if stream.tracks is None else stream.tracks.video
        if video is None:
            return stream
        if video.codec in playable:
            return stream
        if Codec.H264 not in playable:
            raise OutputError("the viewer supports neither the codec of the stream nor H.264")
        try:
            pictures, release = await self.h264.use(stream.name, _START_SECONDS)
        except NoSuchStream:
            raise OutputError(f"the pictures cannot be made for browsers within {_START_SECONDS:.0f} s") from None
        self._uses.setdefault(pictures, []).append(release)
        return pictures

    def change(self, stream: Stream, pictures: Stream, shown: Stream, step: int, take: TakePictures) -> None:
        """Implements BrowserMedia. A rendition is pulled while it has viewers here."""
        items = stream.channel.item.get(RENDITIONS)
        sizes = [size for item in (items if isinstance(items, list) else ()) if (size := PictureSize.from_json(item))]
        name = next_size(PictureSize.of(pictures), sizes, shown.name, step)
        if name == pictures.name:
            take(pictures)
        elif name is not None:
            self.tasks.start(self._pull_rendition(name, take), name)

    async def _pull_rendition(self, name: str, take: TakePictures) -> None:
        try:
            take(await self.h264.wait(name, _START_SECONDS))
        except (NoSuchStream, AtCapacity) as error:
            log.info("a rendition cannot be pulled", stream=name, reason=str(error))

    def release(self, stream: Stream, pictures: Stream) -> None:
        uses = self._uses.get(pictures)
        if uses:
            uses.pop()()
            if not uses:
                del self._uses[pictures]


class BrowserMediaOfNodes:
    """The BrowserMedia of a gateway in a cluster, for its own streams and for replicas."""

    def __init__(self, own: BrowserMedia, replicas: BrowserReplicas) -> None:
        self._own = own
        self._replicas = replicas

    async def acquire(self, stream: Stream, playable: Collection[Codec]) -> Stream:
        return await self._media_of(stream).acquire(stream, playable)

    def change(self, stream: Stream, pictures: Stream, shown: Stream, step: int, take: TakePictures) -> None:
        self._media_of(stream).change(stream, pictures, shown, step, take)

    def release(self, stream: Stream, pictures: Stream) -> None:
        self._own.release(stream, pictures)  # does nothing for pictures of replicas
        self._replicas.release(stream, pictures)

    def _media_of(self, stream: Stream) -> BrowserMedia:
        return self._replicas if self._replicas.replicas.shelf.held(stream.name) is stream else self._own


class PulledStreams(AbstractAsyncContextManager["PulledStreams"]):
    """The replicas for players, and the replicas for viewers by WebRTC. Use as `async with`.

    specs: of their outputs. traffic: counts the bytes to viewers.
    """

    def __init__(
        self,
        limits: StreamLimits,
        specs: Sequence[OutputSpec],
        locator: StreamLocator,
        peers: Peers,
        traffic: TrafficCounts,
    ) -> None:
        whep = [spec for spec in specs if spec.name == WHEP]
        self.shelf = StreamShelf(limits, [spec for spec in specs if spec not in whep], None, traffic)
        self.replicas = Replicas(self.shelf, locator, peers)
        self.browsers = BrowserReplicas(StreamShelf(limits, whep, None, traffic), locator, peers)
        self._replicas = self.replicas, self.browsers.replicas, self.browsers.h264

    async def __aexit__(self, *error: object) -> None:
        await self.browsers.tasks.close()
        for replicas in reversed(self._replicas):
            await replicas.__aexit__()

    def __iter__(self) -> Iterator[Stream]:
        return chain(self.shelf, self.browsers.replicas.shelf)

    def start(self, tasks: Tasks) -> None:
        """Starts the tasks of the shelves."""
        for replicas in self._replicas:
            tasks.keep(replicas.shelf.run, "replicas")

    def drain(self) -> None:
        """Accepts no new streams. Ends all viewers."""
        for replicas in self._replicas:
            replicas.shelf.drain()

    @property
    def readers(self) -> int:
        """The number of pulls by other nodes, and of viewers with H.264."""
        return sum(replicas.readers for replicas in self._replicas)

    def viewers(self) -> tuple[Mapping[str, Counter[str]], Mapping[str, Counter[str]]]:
        """Returns the viewers by stream and protocol: of players, and by WebRTC."""
        return {s.name: s.viewers for s in self.shelf}, {s.name: s.viewers for s in self.browsers.replicas.shelf}

    def samples(self) -> Iterator[MetricSample]:
        """Yields the number of replicas, and of opened connections."""
        yield MetricSample(PULLED, sum(map(len, self._replicas)))
        yield MetricSample(PULLS, sum(replicas.pulls for replicas in self._replicas))
