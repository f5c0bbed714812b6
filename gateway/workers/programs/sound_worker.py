"""The worker that converts the sound of streams to AAC or Opus: each one on its own link, in its own thread.

It sends units when it has converted all units received so far. So units that arrive together are sent together.
"""

import sys
from typing import Final

from gateway.media.track import AccessUnit, Tracks
from gateway.protocols import wire
from gateway.workers.messages import WorkerMessage
from gateway.workers.programs import program
from gateway.workers.programs.audio_codec import SoundConverter
from gateway.workers.programs.codec import CodecFailed
from gateway.workers.programs.program import ParentLink
from gateway.workers.sound_protocol import SoundSetup

_MAX_UNSENT: Final = 8  # units; the limit applies if batches arrive faster than they are converted


class SoundWorker:
    """Converts the sound on one link. Sends each TRACKS message back, in order with the units."""

    def __init__(self, link: ParentLink) -> None:
        self._link = link
        self._converter: SoundConverter | None = None
        self._setup = SoundSetup()
        self._units: list[AccessUnit] = []  # not sent yet, about _MAX_UNSENT at most

    def set_up(self, body: bytes) -> None:
        """Sets the codecs of the next tracks. Raises InvalidData."""
        self._setup = wire.decode_record(SoundSetup, body)

    def change(self, tracks: Tracks) -> None:
        """Sends the last units of the previous track, then starts the new one."""
        self._flush()
        self._converter = None
        if tracks.audio is not None:
            try:
                self._converter = SoundConverter.of_setup(self._setup, tracks.audio)
            except CodecFailed as error:
                self._link.send_json(WorkerMessage.NOTE, unusable=str(error))
        self._link.send_tracks(tracks)

    def take(self, unit: AccessUnit) -> None:
        """Converts a unit. Sends the complete units if no received unit waits, or if there are _MAX_UNSENT."""
        if self._converter is not None:
            self._units += self._converter.convert(unit)
        if self._units and (len(self._units) >= _MAX_UNSENT or not self._link.has_received):
            self._send()

    def finish(self) -> None:
        """Sends the last units and the end."""
        self._flush()
        self._link.send_end()

    def _send(self) -> None:
        units, self._units = self._units, []
        self._link.send_units(units)

    def _flush(self) -> None:
        if self._converter is not None:
            self._units += self._converter.flush()
            self._send()
            if self._converter.damaged:
                self._link.send_json(WorkerMessage.NOTE, damaged=self._converter.damaged)


def work(link: ParentLink) -> None:
    """Converts the sound of one link."""
    worker = SoundWorker(link)
    program.serve(link, worker, {WorkerMessage.SETUP: worker.set_up})


if __name__ == "__main__":
    sys.exit(program.run_shared(work))
