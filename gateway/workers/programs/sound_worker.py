"""The worker that converts the sound of one stream to AAC or Opus. It returns each unit as soon as it is complete."""

from __future__ import annotations

import sys

from gateway.media.track import Tracks
from gateway.media.unit import AccessUnit
from gateway.protocols import wire
from gateway.workers.programs import program
from gateway.workers.programs.audio_codec import SoundConverter
from gateway.workers.programs.codec import CodecFailed
from gateway.workers.programs.program import ParentLink
from gateway.workers.sound_protocol import SoundMessage, SoundSetup


class SoundWorker:
    """Converts the sound on one link. Sends each TRACKS message back, in order with the units."""

    def __init__(self, link: ParentLink) -> None:
        self._link = link
        self._converter: SoundConverter | None = None
        self._setup = SoundSetup()

    def set_up(self, body: bytes) -> None:
        """Sets the codecs of the next tracks. Raises InvalidData."""
        self._setup = SoundSetup.from_json(wire.read_json(body))

    def change(self, tracks: Tracks) -> None:
        """Sends the last units of the previous track, then starts the new one."""
        self._flush()
        self._converter = None
        if tracks.audio is not None:
            try:
                self._converter = SoundConverter.of_setup(self._setup, tracks.audio)
            except CodecFailed as error:
                self._link.send_json(SoundMessage.NOTE, unusable=str(error))
        self._link.send_tracks(tracks)

    def take(self, unit: AccessUnit) -> None:
        """Sends the units that this one completes."""
        if self._converter is not None:
            self._link.send_units(self._converter.convert(unit))

    def finish(self) -> None:
        """Sends the last units and the end."""
        self._flush()
        self._link.send_end()

    def _flush(self) -> None:
        if self._converter is not None:
            self._link.send_units(self._converter.flush())
            if self._converter.damaged:
                self._link.send_json(SoundMessage.NOTE, damaged=self._converter.damaged)


def work(link: ParentLink) -> None:
    """Runs the worker."""
    worker = SoundWorker(link)
    program.serve(link, worker, {SoundMessage.SETUP: worker.set_up})


if __name__ == "__main__":
    sys.exit(program.run(work))
