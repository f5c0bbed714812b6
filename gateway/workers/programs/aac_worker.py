"""The worker that converts the audio of one push to AAC. It returns each AAC unit as soon as it is complete."""

from __future__ import annotations

import sys

from gateway.media.track import MediaTrack, Tracks
from gateway.media.unit import AccessUnit
from gateway.protocols import wire
from gateway.workers.aac_protocol import BITRATES, AacMessage, ForeignSound
from gateway.workers.programs import program
from gateway.workers.programs.audio_codec import AacConverter
from gateway.workers.programs.codec import CodecFailed
from gateway.workers.programs.program import ParentLink


class AacWorker:
    """Converts the audio on one link. Sends each TRACKS message back, in order with the units."""

    def __init__(self, link: ParentLink) -> None:
        self._link = link
        self._converter: AacConverter | None = None
        self._foreign: ForeignSound | None = None

    def set_foreign(self, body: bytes) -> None:
        """Sets the codec of the next tracks, instead of the one in their track."""
        self._foreign = ForeignSound.from_json(wire.read_json(body))

    def change(self, tracks: Tracks) -> None:
        """Sends the last units of the previous track, then starts the new one."""
        self._flush()
        self._converter = None
        if tracks.audio is not None:
            try:
                self._converter = self._open(tracks.audio)
            except CodecFailed as error:
                self._link.send_json(AacMessage.NOTE, unusable=str(error))
        self._link.send_tracks(tracks)

    def _open(self, track: MediaTrack) -> AacConverter:
        if self._foreign is None:
            return AacConverter.of_track(track, BITRATES)
        return AacConverter.of_foreign(self._foreign, track.timescale, BITRATES)

    def take(self, unit: AccessUnit) -> None:
        """Sends the AAC units that this unit completes."""
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
                self._link.send_json(AacMessage.NOTE, damaged=self._converter.damaged)


def work(link: ParentLink) -> None:
    """Runs the worker."""
    worker = AacWorker(link)
    program.serve(link, worker, {AacMessage.FOREIGN: worker.set_foreign})


if __name__ == "__main__":
    sys.exit(program.run(work))
