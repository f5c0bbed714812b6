"""Replicas of other nodes' streams in the form of WebRTC viewers, which the holder makes once for all nodes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import AsyncExitStack
from typing import Final, Self

import structlog

from gateway.cluster.node_address import StreamLocator
from gateway.cluster.peers import Peers
from gateway.cluster.pull import RENDITIONS, PullSource
from gateway.cluster.replicas import Replicas
from gateway.lib.tasks import Tasks
from gateway.live.hub import Hub, StreamLimits
from gateway.live.output import OutputSpec
from gateway.live.stream import Stream
from gateway.media.reordering import has_reordering
from gateway.media.track import Codec
from gateway.outputs.browser.picture_sizes import PictureSize, next_size
from gateway.packaging.rtp.output import KIND
from gateway.playback.webrtc.whep import BrowserMedia
from gateway.ports.errors import AtCapacity, NoSuchStream, OutputError
from gateway.ports.events import Events
from gateway.protocols.nodes import PullForm

log = structlog.get_logger(__name__)

_START_SECONDS: Final = 15.0  # from the first request for H.264 to its first picture


class BrowserReplicas:
    """Use as `async with`. Implements PlayableStreams and BrowserMedia for the viewers of this node.

    The replicas have hubs of their own, so no other protocol finds them. A second replica has H.264, for viewers who
    lack the codec of the first one. Replicas of renditions have only pictures, for viewers with thin links.

    outputs: of replicas; only `whep` of them is used.
    """

    def __init__(
        self, limits: StreamLimits, outputs: Sequence[OutputSpec], locator: StreamLocator, peers: Peers
    ) -> None:
        self.hub = Hub(limits, [spec for spec in outputs if spec.name == KIND], Events())
        self._h264_hub = Hub(limits, (), Events())
        self._replicas = Replicas(self.hub, locator, peers, form=PullForm.WEBRTC)
        self._h264 = Replicas(self._h264_hub, locator, peers, form=PullForm.WEBRTC_H264)
        self._uses: dict[Stream, list[Callable[[], None]]] = {}  # of replicas with H.264, by viewer
        self._tasks = Tasks("renditions for browsers", _crashed)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self._replicas)
        await self._stack.enter_async_context(self._h264)
        await self._stack.enter_async_context(self._tasks)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._stack.aclose()

    def start(self, tasks: Tasks) -> None:
        """Starts the tasks of the hubs."""
        tasks.start(self.hub.run(), "replicas for browsers")
        tasks.start(self._h264_hub.run(), "replicas for browsers")

    def drain(self) -> None:
        """Accepts no new streams. Ends all viewers."""
        self.hub.drain()
        self._h264_hub.drain()

    def __len__(self) -> int:
        return len(self._replicas) + len(self._h264)

    @property
    def pulls(self) -> int:
        """The number of opened connections."""
        return self._replicas.pulls + self._h264.pulls

    @property
    def readers(self) -> int:
        """The number of pulls by other nodes, and of viewers with H.264."""
        return self._replicas.readers + self._h264.readers

    async def pull_source(self, name: str, form: str, seconds: float) -> PullSource:
        """Returns a replica as the source of another node's pull. Raises NoSuchStream, AtCapacity."""
        by_form: dict[str, Replicas] = {PullForm.WEBRTC: self._replicas, PullForm.WEBRTC_H264: self._h264}
        if form not in by_form:
            raise NoSuchStream(name)
        return await by_form[form].pull_source(name, seconds)

    # ---- PlayableStreams ----

    def find(self, name: str) -> Stream | None:
        return self._replicas.find(name)

    def find_recent(self, name: str) -> Stream | None:
        return None

    async def wait(self, name: str, seconds: float) -> Stream:
        return await self._replicas.wait(name, seconds)

    # ---- BrowserMedia ----

    async def acquire(self, stream: Stream, playable: Collection[Codec]) -> Stream:
        """Returns the replica itself, or one with H.264. Raises OutputError, NoSuchStream, AtCapacity."""
        video = None if stream.tracks is None else stream.tracks.video
        if video is None:
            return stream
        if video.codec in playable:
            if has_reordering(video, stream.gop.units()):  # the holder is of an earlier version
                raise OutputError("the node that holds the stream cannot convert it for browsers")
            return stream
        if Codec.H264 not in playable:
            raise OutputError("the viewer supports neither the codec of the stream nor H.264")
        try:
            pictures, release = await self._h264.use(stream.name, _START_SECONDS)
        except NoSuchStream:
            raise OutputError(f"the pictures cannot be made for browsers within {_START_SECONDS:.0f} s") from None
        self._uses.setdefault(pictures, []).append(release)
        return pictures

    def change(
        self, stream: Stream, pictures: Stream, shown: Stream, step: int, take: Callable[[Stream], None]
    ) -> None:
        """Implements BrowserMedia. A rendition is pulled while it has viewers here."""
        told = stream.channel.item.get(RENDITIONS)
        sizes = [size for item in (told if isinstance(told, list) else ()) if (size := PictureSize.from_json(item))]
        name = next_size(PictureSize.of(pictures), sizes, shown.name, step)
        if name == pictures.name:
            take(pictures)
        elif name is not None:
            self._tasks.start(self._pull_rendition(name, take), name)

    async def _pull_rendition(self, name: str, take: Callable[[Stream], None]) -> None:
        try:
            take(await self._h264.wait(name, _START_SECONDS))
        except (NoSuchStream, AtCapacity) as error:
            log.info("a rendition cannot be pulled", stream=name, reason=str(error))

    def release(self, stream: Stream, pictures: Stream) -> None:
        uses = self._uses.get(pictures)
        if uses:
            uses.pop()()
            if not uses:
                del self._uses[pictures]


def _crashed(name: str, error: BaseException) -> None:
    log.error("the pull of a rendition failed", stream=name, exc_info=error)


class BrowserMediaOfNodes:
    """The BrowserMedia of a gateway with other nodes: of its own streams, and of replicas."""

    def __init__(self, own: BrowserMedia, replicas: BrowserReplicas) -> None:
        self._own = own
        self._replicas = replicas

    async def acquire(self, stream: Stream, playable: Collection[Codec]) -> Stream:
        return await self._media_of(stream).acquire(stream, playable)

    def change(
        self, stream: Stream, pictures: Stream, shown: Stream, step: int, take: Callable[[Stream], None]
    ) -> None:
        self._media_of(stream).change(stream, pictures, shown, step, take)

    def release(self, stream: Stream, pictures: Stream) -> None:
        self._own.release(stream, pictures)  # does nothing for pictures of replicas
        self._replicas.release(stream, pictures)

    def _media_of(self, stream: Stream) -> BrowserMedia:
        return self._replicas if self._replicas.hub.held(stream.name) is stream else self._own
