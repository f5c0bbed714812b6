"""UnitOutput: publishes the units that a source has read."""

import time
from collections.abc import Mapping

from gateway.inputs.demux_client import LeftOut
from gateway.inputs.descriptor import InputContext
from gateway.live.publisher import StreamPublisher
from gateway.media.errors import InvalidData
from gateway.media.track import AccessUnit, Kind, Tracks
from gateway.ports.errors import OutputError


class UnitOutput:
    """Publishes tracks and units. The first tracks open the publisher."""

    def __init__(self, context: InputContext, peer: str = "") -> None:
        self._left_out: Mapping[str, Kind] = {}
        self._context = context
        self._peer = peer
        self._publisher: StreamPublisher | None = None

    @property
    def begun(self) -> bool:
        return self._publisher is not None

    def announce(self, item: Tracks | LeftOut) -> None:
        """Announces tracks, or what of the next ones cannot be used. Raises OutputError if they change too often."""
        if isinstance(item, LeftOut):
            self._left_out = item.tracks
        elif self._publisher is None:
            self._publisher = self._context.publish(self._peer)
        if self._publisher is None:
            return
        self._publisher.unusable.leave_out_only(self._left_out)
        if isinstance(item, Tracks):
            try:
                self._publisher.set_tracks(item.video, item.audio, {})
            except InvalidData as error:
                raise OutputError(str(error)) from error

    def push(self, unit: AccessUnit) -> None:
        """Publishes a unit that arrives now. Hot path."""
        assert self._publisher is not None, "the tracks come first"
        unit.wall = time.time()
        self._publisher.push(unit, time.monotonic())

    def close(self) -> None:
        publisher, self._publisher = self._publisher, None
        if publisher is not None:
            publisher.close()
