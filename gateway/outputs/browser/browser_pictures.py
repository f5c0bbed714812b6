"""BrowserPictures: the pictures of a stream in a form that browsers show over WebRTC."""

from collections.abc import Callable, Collection, Iterator
from typing import Final

import structlog

from gateway.channels.channel import Channel
from gateway.lib.metrics import Counter
from gateway.live.shelf import StreamShelf
from gateway.live.stream import Stream
from gateway.media.reordering import has_reordering
from gateway.media.track import Codec
from gateway.outputs.browser.on_demand import OnDemand
from gateway.outputs.browser.picture_sizes import PictureSize, next_size
from gateway.outputs.ladder.ladder_output import LadderKind, LadderOutput
from gateway.ports.errors import AtCapacity, NoSuchStream, OutputError
from gateway.settings.models import TranscodeSettings
from gateway.workers.ladder_plan import COPY, LadderPlan, LadderStep
from gateway.workers.stream_form import StreamForm
from gateway.workers.worker_pool import WorkerPool

log = structlog.get_logger(__name__)

OUTPUT: Final = "browserpictures"
RENDITION: Final = "webrtc"  # the stream's name is `<id>@webrtc`
_LONG_SIDE, _SHORT_SIDE = 1920, 1080  # maximum size
_MAX_RATE: Final = 30  # pictures per second
_MAX_BITRATE: Final = 8_000_000
_VBV: Final = 1.25  # maximum bits in one second, as a multiple of the bitrate
_EXTRA_BITS: Final = 1.5  # H.264 needs this many times the bits of a newer codec
_START_SECONDS: Final = 15.0  # maximum from the first request to the first picture; GOPs may be long


class BrowserPictures:
    """A hidden output of a source stream: finds or makes pictures without reordering, in a supported codec.

    It returns the source itself, a rendition of the channel's ladder, or a rendition that a worker makes for browsers.
    That rendition has at most 1080p30 and no sound. It is on a shelf of its own, which players cannot reach. It ends
    a few seconds after its last viewer has left.

    shelves: of the channels' streams, and of the renditions for browsers. dropped: counts units by reason.
    """

    def __init__(
        self,
        stream: Stream,
        shelves: tuple[StreamShelf, StreamShelf],
        workers: WorkerPool,
        settings: TranscodeSettings,
        dropped: Counter,
    ) -> None:
        self._stream = stream
        self._channels, self._shelf = shelves
        self._workers = workers
        self._settings = settings
        self._dropped = dropped
        self._demand = OnDemand("pictures for browsers", self._work)
        self._name = f"{stream.name}@{RENDITION}"

    async def acquire(self, playable: Collection[Codec]) -> Stream:
        """Returns the stream whose pictures a viewer gets. Its sound may be missing: use that of the source.

        playable: the codecs that the viewer supports. `release` must be called with the result, also after its end.
        Raises OutputError if there is no such stream within 15 s, AtCapacity without a free worker and during shutdown.
        """
        existing = self._find(playable)
        if existing is not None:
            return existing
        if Codec.H264 not in playable:
            raise OutputError("the viewer supports neither the codec of the stream nor H.264")
        if self._workers.is_full and not self._demand.is_wanted:
            log.info("no conversion for a WebRTC viewer", stream=self._stream.name, limit=self._workers.limit)
            raise AtCapacity("this server converts no more streams for WebRTC viewers now; try again later")
        self._demand.acquire()
        try:
            return await self._shelf.wait(self._name, _START_SECONDS)
        except NoSuchStream:
            reason = self._demand.error or f"no picture within {_START_SECONDS:.0f} s"
            self._demand.release()
            raise OutputError(f"the pictures cannot be made for browsers: {reason}") from None
        except BaseException:
            self._demand.release()
            raise

    def release(self, pictures: Stream) -> None:
        """Ends the use of a stream that `acquire` returned."""
        if pictures.name == self._name:
            self._demand.release()

    @property
    def is_running(self) -> bool:
        """Whether a worker makes pictures for browsers, or is about to."""
        return self._demand.is_running

    async def run(self, stream: Stream) -> None:
        """Implements StreamOutput."""
        await self._demand.run(stream)

    def _find(self, playable: Collection[Codec]) -> Stream | None:
        """Returns the source or a rendition of its full size (at most 1080p), if a viewer can play it unchanged.

        Returns the source also if it has no pictures.
        """
        stream = self._stream
        if stream.tracks is None or stream.tracks.video is None or _is_playable(stream, playable):
            return stream
        height = min(PictureSize.of(stream).side, _SHORT_SIDE)
        return next((other for other in self.renditions(playable) if PictureSize.of(other).side >= height), None)

    def renditions(self, playable: Collection[Codec] = tuple(Codec)) -> Iterator[Stream]:
        """Yields the live renditions of the ladder that a viewer can play unchanged. They need no release.

        playable: the codecs that the viewer supports; by default all, because some viewer supports each.
        """
        for other in self._channels:
            is_rendition = other.channel.id == self._stream.name and other.name not in (self._stream.name, self._name)
            if is_rendition and other.publisher is not None and _is_playable(other, playable):
                yield other

    async def _work(self) -> None:
        kind = LadderKind(self._plan, self._settings.backlog, for_viewers=True)
        await LadderOutput(self._stream, self._shelf, self._workers, kind, self._dropped).run(self._stream)

    def _plan(self, channel: Channel) -> LadderPlan:
        form = StreamForm.of(self._stream.tracks)
        width, height = (_LONG_SIDE, _SHORT_SIDE) if form.size[0] >= form.size[1] else (_SHORT_SIDE, _LONG_SIDE)
        # The plan is not changed later. The pictures may be still now, so the measured bit rate is not a maximum.
        bitrate = float(max(self._stream.received.bitrate, form.bitrate))
        if form.video is not None and form.video.codec is not Codec.H264:
            bitrate *= _EXTRA_BITS
        bits = round(min(bitrate, _MAX_BITRATE))
        step = LadderStep(RENDITION, width, height, bits, COPY, _VBV, max_rate=_MAX_RATE, keeps_bitrate=True)
        settings = self._settings
        # RFC 7742 §6.2: every browser decodes the Constrained Baseline profile.
        return LadderPlan((step,), "libx264", settings.preset, settings.threads, "baseline", instant=True)


def _is_playable(stream: Stream, playable: Collection[Codec]) -> bool:
    video = None if stream.tracks is None else stream.tracks.video
    return video is not None and video.codec in playable and not has_reordering(video, stream.gop.units())


class PicturesOnDemand:
    """Finds pictures for viewers of streams on this node. Viewers of a rendition get its own pictures."""

    async def acquire(self, stream: Stream, playable: Collection[Codec]) -> Stream:
        """Returns the stream with the pictures. `release` must be called with it. Raises OutputError, AtCapacity."""
        pictures = browser_pictures(stream)
        return stream if pictures is None else await pictures.acquire(playable)

    def change(
        self, stream: Stream, pictures: Stream, shown: Stream, step: int, take: Callable[[Stream], None]
    ) -> None:
        """Implements BrowserMedia."""
        renditions = {other.name: other for other in self.renditions(stream)}
        name = next_size(PictureSize.of(pictures), map(PictureSize.of, renditions.values()), shown.name, step)
        if name is not None:
            take(renditions.get(name, pictures))

    def renditions(self, stream: Stream) -> list[Stream]:
        """Returns the live renditions of a source stream that some viewer can play unchanged."""
        output = browser_pictures(stream)
        return [] if output is None else list(output.renditions())

    def release(self, stream: Stream, pictures: Stream) -> None:
        """Ends the use of the pictures that `acquire` returned, also after the end of the stream."""
        output = browser_pictures(stream)
        if output is not None:
            output.release(pictures)


def browser_pictures(stream: Stream) -> BrowserPictures | None:
    """Returns the pictures for browsers of a source stream; None if it is not live."""
    output = stream.output(OUTPUT)
    return output if isinstance(output, BrowserPictures) else None
