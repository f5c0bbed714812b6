"""The worker that recognises the speech of one stream, see `speech_protocol`."""

import sys
from typing import Final

from gateway.media.track import AccessUnit, Tracks
from gateway.protocols import wire
from gateway.workers.messages import WorkerMessage
from gateway.workers.programs import program
from gateway.workers.programs.audio_codec import AudioDecoder, SampleForm
from gateway.workers.programs.codec import CodecFailed
from gateway.workers.programs.program import ParentLink
from gateway.workers.programs.speech.engine import EngineUnusable, load
from gateway.workers.sound_times import SoundTimes
from gateway.workers.speech_protocol import RATE, Words

_FORM: Final = SampleForm(RATE, "s16")
_SAMPLE_BYTES: Final = 2
_MAX_UNREPORTED: Final = 10  # units


class SpeechWorker:
    """Decodes sound and gives it to the engine. Only final words are sent: see `CaptionsOutput`."""

    def __init__(self, link: ParentLink, engine: str) -> None:
        """Raises EngineUnusable."""
        self._link = link
        self._times = SoundTimes()
        self._decoder: AudioDecoder | None = None
        self._units = self._reported = 0
        self._engine = load(engine, self._deliver)
        self._report()

    def change(self, tracks: Tracks) -> None:
        try:
            self._decoder = AudioDecoder(tracks.audio, 1, form=_FORM) if tracks.audio is not None else None
        except CodecFailed as error:
            raise SystemExit(str(error)) from None

    def take(self, unit: AccessUnit) -> None:
        for samples in self._decoder.decode(unit) if self._decoder is not None else ():
            count = samples.frame.samples
            self._give(samples.start, bytes(samples.frame.planes[0])[: count * _SAMPLE_BYTES])
        self._units += 1
        if self._units - self._reported >= _MAX_UNREPORTED or not self._link.has_received:
            self._report()

    def pause(self, body: bytes) -> None:
        """Gives the engine a second of silence, so that it ends the last words."""
        at = self._times.next
        if at is not None:
            self._give(at, bytes(RATE * _SAMPLE_BYTES))

    def finish(self) -> None:
        """Ends at once: nobody sees captions after the end of a stream."""
        self._link.send_end()

    def _give(self, start: int, samples: bytes) -> None:
        self._times.add(start, len(samples) // _SAMPLE_BYTES)
        self._engine.accept(samples)

    def _report(self) -> None:
        self._reported = self._units
        self._link.send_json(WorkerMessage.PROGRESS, units=self._units, dropped=self._engine.dropped)

    def _deliver(self, words: Words) -> None:
        if words.final:
            start, end = self._times.time_of(words.start), self._times.time_of(words.end, is_end=True)
            self._link.send_json(WorkerMessage.NOTE, **Words(words.text, start, max(start, end)).encode())


def work(link: ParentLink) -> None:
    """Recognises the speech of one stream. Sends FAILED if the engine cannot be loaded."""
    setup = link.receive_setup()
    if setup is None:
        return
    try:
        worker = SpeechWorker(link, str(wire.read_json(setup).get("engine")))
    except EngineUnusable as error:
        link.send(WorkerMessage.FAILED, str(error).encode())
        return
    program.serve(link, worker, {WorkerMessage.DATA: worker.pause})


if __name__ == "__main__":
    sys.exit(program.run(work))
