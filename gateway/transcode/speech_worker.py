"""The worker that makes AAC of one push's sound: units of any codec in, AAC units out, each as soon as it can be."""

from __future__ import annotations

import sys

from gateway.media.errors import InvalidData
from gateway.media.track import Tracks
from gateway.media.unit import AccessUnit
from gateway.protocols import wire
from gateway.protocols.wire import Message
from gateway.transcode import child
from gateway.transcode.child import Link
from gateway.transcode.codec import CodecFailed
from gateway.transcode.sound import AudioDecoder, AudioEncoder, channels_of
from gateway.transcode.speech_link import BITRATES, SpeechMessage


class SpeechWorker:
    """One gateway's sound on one link. TRACKS that come are given back, in their place among the units."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._tracks: Tracks | None = None
        self._decoder: AudioDecoder | None = None
        self._encoder: AudioEncoder | None = None

    def work(self) -> None:
        """Until the end or until the gateway closes the link. Raises InvalidData for what the gateway never sends."""
        while (received := self._link.receive()) is not None:
            kind, body = received
            if kind == Message.UNIT:
                self._take(wire.decode_unit(body, self._tracks))
            elif kind == Message.TRACKS:
                self._change(wire.decode_tracks(body))
                self._link.send(kind, body)
            elif kind == Message.END:
                self._finish()
                self._link.send(Message.END, wire.encode_end())
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
            self._link.send(SpeechMessage.NOTE, wire.write_json({"unusable": str(error)}))

    def _take(self, unit: AccessUnit) -> None:
        if self._decoder is None or self._encoder is None:
            return
        for sound in self._decoder.decode(unit):
            for coded in self._encoder.encode(sound):
                self._link.send(Message.UNIT, wire.encode_unit(coded))

    def _finish(self) -> None:
        if self._decoder is None or self._encoder is None:
            return
        for coded in self._encoder.flush():
            self._link.send(Message.UNIT, wire.encode_unit(coded))
        if self._decoder.damaged:
            self._link.send(SpeechMessage.NOTE, wire.write_json({"damaged": self._decoder.damaged}))


def main() -> int:
    """The program."""
    return child.run(lambda link: SpeechWorker(link).work())


if __name__ == "__main__":
    sys.exit(main())
