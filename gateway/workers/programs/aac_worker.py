"""The worker that converts the audio of one push to AAC. It returns each AAC unit as soon as it is complete."""

from __future__ import annotations

import sys

from gateway.media.errors import InvalidData
from gateway.media.track import Tracks
from gateway.media.unit import AccessUnit
from gateway.protocols import wire
from gateway.protocols.wire import StreamMessage
from gateway.workers.aac_protocol import BITRATES, AacMessage
from gateway.workers.programs import program
from gateway.workers.programs.audio_codec import AudioDecoder, AudioEncoder, channels_of
from gateway.workers.programs.codec import CodecFailed
from gateway.workers.programs.program import ParentLink


class AacWorker:
    """Converts the audio on one link. Returns each TRACKS message in its place among the units."""

    def __init__(self, link: ParentLink) -> None:
        self._link = link
        self._tracks: Tracks | None = None
        self._decoder: AudioDecoder | None = None
        self._encoder: AudioEncoder | None = None

    def work(self) -> None:
        """Runs until END or until the gateway closes the link. Raises InvalidData for an invalid or unknown frame."""
        while (received := self._link.receive()) is not None:
            kind, body = received
            if kind == StreamMessage.UNIT:
                self._take(wire.decode_unit(body, self._tracks))
            elif kind == StreamMessage.TRACKS:
                self._change(wire.decode_tracks(body))
                self._link.send(kind, body)
            elif kind == StreamMessage.END:
                self._finish()
                self._link.send(StreamMessage.END, wire.encode_end())
                return
            else:
                raise InvalidData(f"a frame of kind {kind}")

    def _change(self, tracks: Tracks) -> None:
        self._finish()
        self._tracks = tracks
        self._decoder = self._encoder = None
        if tracks.audio is None:
            return
        try:
            self._decoder = AudioDecoder(tracks.audio, channels := channels_of(tracks.audio))
            self._encoder = AudioEncoder(BITRATES[channels], channels, tracks.audio.timescale)
        except CodecFailed as error:
            self._decoder = None
            self._link.send(AacMessage.NOTE, wire.write_json({"unusable": str(error)}))

    def _take(self, unit: AccessUnit) -> None:
        if self._decoder is None or self._encoder is None:
            return
        for sound in self._decoder.decode(unit):
            for coded in self._encoder.encode(sound):
                self._link.send(StreamMessage.UNIT, wire.encode_unit(coded))

    def _finish(self) -> None:
        if self._decoder is None or self._encoder is None:
            return
        for coded in self._encoder.flush():
            self._link.send(StreamMessage.UNIT, wire.encode_unit(coded))
        if self._decoder.damaged:
            self._link.send(AacMessage.NOTE, wire.write_json({"damaged": self._decoder.damaged}))


def main() -> int:
    """Runs the worker program; returns its exit status."""
    return program.run(lambda link: AacWorker(link).work())


if __name__ == "__main__":
    sys.exit(main())
