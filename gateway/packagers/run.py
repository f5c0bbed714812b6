"""What packagers have in common as outputs: attached while their stream lives, given up for codecs they cannot take."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from gateway.hub.errors import OutputUnsupported
from gateway.hub.stream import EndReason
from gateway.media.errors import InvalidData
from gateway.media.unit import Timed

if TYPE_CHECKING:
    from gateway.hub.stream import Stream
    from gateway.media.track import Tracks
    from gateway.media.unit import AccessUnit


class Packager:
    """An Output that is its own Sink. Subclasses take tracks and units, and finish what is open in `finish`.

    refused: why this stream cannot be packaged, in words for a player; None while it can. ready: there are playlists.
    ended: the stream has ended. stopped: this packager has, for whatever reason; nothing will change any more.
    """

    def __init__(self) -> None:
        self.refused: str | None = None
        self.ready = False
        self.ended = False
        self.stopped = False
        self._over: asyncio.Future[None] | None = None

    @property
    def over(self) -> bool:
        """Nothing new will come."""
        return self.ended or self.stopped

    async def run(self, stream: Stream) -> None:
        """Until the stream has ended. Raises OutputUnsupported for tracks that this form cannot carry."""
        self._over = asyncio.get_running_loop().create_future()
        stream.attach(self)
        try:
            await self._over
        finally:
            stream.detach(self)
            self.stopped = True
            self.release()

    def on_tracks(self, tracks: Tracks) -> None:
        raise NotImplementedError

    def on_unit(self, unit: AccessUnit) -> None:
        raise NotImplementedError

    def on_timed(self, timed: Timed) -> None:
        """Script data has no place in segments."""

    def on_end(self, reason: EndReason) -> None:
        self.ended = True
        self.finish()
        self._settle(None)

    def on_failed(self, error: Exception) -> None:
        if isinstance(error, InvalidData):
            # Broken units are dropped one by one; what comes here is a configuration that will not get better.
            self.refused = str(error)
            error = OutputUnsupported(str(error))
        self._settle(error)

    def finish(self) -> None:
        """Completes what is open; no more units will come."""
        raise NotImplementedError

    def release(self) -> None:
        """The output stops, ended or not: whoever waits for it must be let go."""
        raise NotImplementedError

    def _settle(self, error: Exception | None) -> None:
        over = self._over
        if over is not None and not over.done():
            if error is None:
                over.set_result(None)
            else:
                over.set_exception(error)
