"""Small pictures of the inputs of channels, for the console."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from weakref import WeakKeyDictionary

from gateway.channels.inputs import InputKind, stored_inputs
from gateway.inputs.channel_inputs import ChannelInputs
from gateway.inputs.source_runner import SourceRunner
from gateway.live.hub import Hub
from gateway.live.stream import Stream
from gateway.media.track import AccessUnit, Kind
from gateway.ports.errors import NoSuchStream, OutputError
from gateway.workers.jpeg_service import JpegService

INTERVAL_SECONDS: Final = 2.0  # between two pictures of an input
LONGEST_SIDE: Final = 480  # pixels


@dataclass(slots=True)
class _Preview:
    """The last picture of an input. begun: monotonic time. key: decode time and hash of its key frame."""

    begun: float
    key: tuple[int, int]
    picture: asyncio.Future[bytes]

    @property
    def failed(self) -> bool:
        return self.picture.done() and (self.picture.cancelled() or self.picture.exception() is not None)


class InputPreviews:
    """Makes pictures of the newest key frames of inputs, and of what slates and playlists would show on air.

    All clients of an input share its picture.

    One picture for each input is kept while the input is connected. An input is decoded at most every
    INTERVAL_SECONDS, whatever the number of clients.

    hub: of the channels' streams.
    """

    def __init__(
        self, hub: Hub, inputs: ChannelInputs, jpegs: JpegService, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._hub = hub
        self._inputs = inputs
        self._jpegs = jpegs
        self._clock = clock
        self._previews: WeakKeyDictionary[Stream | SourceRunner, _Preview] = WeakKeyDictionary()

    def holds(self, id: str) -> bool:
        """Whether this process has the inputs of a channel."""
        return self._inputs.holds(id) or self._hub.find(id) is not None

    async def make_picture(self, id: str, name: str) -> bytes:
        """Returns a picture of an input as JPEG. Raises NoSuchStream if there is none; its message says why."""
        switcher = self._inputs.switcher_of(id)
        origin = self._push_of(id, name) if switcher is None else switcher.origin_of(name)
        key = origin.key_frame if isinstance(origin, SourceRunner) else _newest_key_frame(origin)
        if origin is None or (key is None and isinstance(origin, SourceRunner)):
            raise NoSuchStream(f"the input {name[:64]} delivers no media now")
        try:
            # Shielded: a client that disconnects must not cancel the picture of the others.
            return await asyncio.shield(self._preview(origin, key).picture)
        except OutputError as error:
            raise NoSuchStream(f"the input {name[:64]} has no picture: {error}") from None

    def _push_of(self, id: str, name: str) -> Stream | None:
        """Returns the stream of a push that is the only input of its channel: it has no hidden stream.

        It keeps its picture during a break, because pages learn of the break a little later.
        """
        stream = self._hub.find(id)
        if stream is None:
            return None
        specs = stored_inputs(stream.channel.item)
        return stream if any(spec.kind is InputKind.PUSH and spec.name == name for spec in specs) else None

    def _preview(self, origin: Stream | SourceRunner, key: AccessUnit | None) -> _Preview:
        """Returns the newest picture that may be shown. key: the newest key frame. Raises NoSuchStream."""
        last, now = self._previews.get(origin), self._clock()
        if last is not None and now < last.begun + INTERVAL_SECONDS:
            return last
        mark = None if key is None else (key.dts, hash(key.payload))
        if last is not None and not last.failed and (mark is None or mark == last.key):
            return last
        if key is None or mark is None:
            raise NoSuchStream("the input has sent no key frame yet")
        made = self._previews[origin] = _Preview(now, mark, self._jpegs.start_picture([key], LONGEST_SIDE))
        return made


def _newest_key_frame(stream: Stream | None) -> AccessUnit | None:
    units = () if stream is None else stream.original.gop.units()
    return next((u for u in units if u.track.kind is Kind.VIDEO and u.key), None)
