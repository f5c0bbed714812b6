"""SherpaEngine: a streaming transducer of sherpa-onnx, from the operator's folder."""

from array import array
from pathlib import Path
from typing import Final

from gateway.workers.programs.speech.engine import Deliver, EngineUnusable, not_installed
from gateway.workers.speech_protocol import RATE, Words

# Seconds of silence that end a piece of speech with words, and the longest piece.
_SILENCE: Final = 0.8
_LONGEST: Final = 6.0
_TOKEN_SECONDS: Final = 0.2  # the model tells where tokens begin


class SherpaEngine:
    """Recognises speech piece by piece. Its words are final at a pause, or after _LONGEST seconds."""

    def __init__(self, argument: str, deliver: Deliver) -> None:
        try:
            from sherpa_onnx import OnlineRecognizer
        except ImportError:
            raise not_installed("sherpa-onnx>=2") from None
        files = model_files(Path(argument).expanduser())
        try:
            self._recognizer = OnlineRecognizer.from_transducer(
                **files,
                num_threads=1,
                enable_endpoint_detection=True,
                rule2_min_trailing_silence=_SILENCE,
                rule3_min_utterance_length=_LONGEST,
            )
        except (RuntimeError, ValueError):
            raise EngineUnusable(f"the model in {argument} cannot be loaded: sherpa-onnx refuses its files") from None
        self.dropped = 0
        self._deliver = deliver
        self._stream = self._recognizer.create_stream()
        self._given = self._ended = 0.0  # seconds of sound: all, and to the end of the last word

    def accept(self, samples: bytes) -> None:
        recognizer, stream = self._recognizer, self._stream
        values = array("h", samples)
        self._given += len(values) / RATE
        stream.accept_waveform(RATE, [value / 32_768 for value in values])
        while recognizer.is_ready(stream):
            recognizer.decode_stream(stream)
            if recognizer.is_endpoint(stream):
                self._end()

    def _end(self) -> None:
        result = self._recognizer.get_result_all(self._stream)
        text, times = result.text.strip(), result.timestamps
        if text and times:
            start, end = (self._bounded(result.start_time + at) for at in (times[0], times[-1] + _TOKEN_SECONDS))
            self._ended = max(start, end)
            self._deliver(Words(text, start, self._ended))
        self._recognizer.reset(self._stream)

    def _bounded(self, seconds: float) -> float:
        return min(max(self._ended, seconds), self._given)


def model_files(folder: Path) -> dict[str, str]:
    """Returns the files of a streaming transducer by their parameter. Raises EngineUnusable.

    Of several ones, the quantised encoder and joiner are chosen: they take less time on a CPU.
    """
    found = {"tokens": sorted(folder.glob("tokens.txt"))}
    for name in ("encoder", "decoder", "joiner"):
        files = sorted(folder.glob(f"{name}*.onnx"))
        quantised = [file for file in files if ".int8." in file.name]
        found[name] = (quantised or files) if name != "decoder" else [f for f in files if f not in quantised] or files
    missing = [name for name, files in found.items() if not files]
    if missing:
        wanted = "tokens.txt, encoder*.onnx, decoder*.onnx and joiner*.onnx"
        raise EngineUnusable(f"the folder {folder} has no {', '.join(missing)}; a streaming model has {wanted}")
    return {name: str(files[0]) for name, files in found.items()}
