"""Engines for speech to text: what is missing is said in one line, and results of sherpa-onnx have times."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.workers.programs.speech.engine import EngineUnusable, load
from gateway.workers.programs.speech.sherpa import model_files
from gateway.workers.speech_protocol import RATE, Words

NAMES = ("tokens.txt", "encoder-epoch-99.onnx", "decoder-epoch-99.onnx", "joiner-epoch-99.onnx")


def model(folder: Path, *more: str) -> Path:
    for name in (*NAMES, *more):
        (folder / name).touch()
    return folder


class Recogniser:
    """A double of `sherpa_onnx.OnlineRecognizer`: it hears two words in each second, which ends a piece."""

    arguments: dict[str, Any]

    @classmethod
    def from_transducer(cls, **arguments: Any) -> "Recogniser":
        cls.arguments = arguments
        return cls()

    def create_stream(self) -> "Recogniser":
        self.samples, self.pieces = list[float](), 0
        return self

    def accept_waveform(self, rate: int, values: list[float]) -> None:
        assert rate == RATE
        self.samples += values

    def is_ready(self, stream: "Recogniser") -> bool:
        return len(self.samples) >= RATE * (self.pieces + 1)

    def decode_stream(self, stream: "Recogniser") -> None:
        self.pieces += 1

    def is_endpoint(self, stream: "Recogniser") -> bool:
        return True

    def get_result_all(self, stream: "Recogniser") -> SimpleNamespace:
        return SimpleNamespace(text=" TWO WORDS ", timestamps=[0.25, 0.5], start_time=self.pieces - 1)

    def reset(self, stream: "Recogniser") -> None:
        pass


@pytest.fixture
def sherpa(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sherpa_onnx", SimpleNamespace(OnlineRecognizer=Recogniser))


@pytest.mark.usefixtures("sherpa")
def test_results_of_sherpa_have_the_times_of_their_tokens(tmp_path: Path) -> None:
    heard: list[Words] = []
    engine = load(f"sherpa-onnx:{model(tmp_path)}", heard.append)
    for _ in range(25):
        engine.accept(b"\x00\x40" * (RATE // 10))
    assert heard == [Words("TWO WORDS", n + 0.25, n + 0.7) for n in range(2)]
    assert Recogniser.arguments["encoder"] == str(tmp_path / "encoder-epoch-99.onnx")


def test_quantised_files_are_chosen_where_they_save_time(tmp_path: Path) -> None:
    folder = model(tmp_path, *(name.replace(".onnx", ".int8.onnx") for name in NAMES[1:]))
    names = {name: Path(file).name for name, file in model_files(folder).items()}
    assert names == {
        "tokens": "tokens.txt",
        "encoder": "encoder-epoch-99.int8.onnx",
        "decoder": "decoder-epoch-99.onnx",
        "joiner": "joiner-epoch-99.int8.onnx",
    }


@pytest.mark.usefixtures("sherpa")
@pytest.mark.parametrize("name", NAMES)
def test_a_missing_file_of_the_model_is_named(tmp_path: Path, name: str) -> None:
    (model(tmp_path) / name).unlink()
    with pytest.raises(EngineUnusable, match=rf"has no {name.partition('-')[0].removesuffix('.txt')}; a streaming"):
        load(f"sherpa-onnx:{tmp_path}", print)


@pytest.mark.parametrize("engine", ["pocketsphinx", "sherpa-onnx:/models"])
def test_a_missing_library_is_said_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    name = engine.partition(":")[0]
    monkeypatch.setitem(sys.modules, name.replace("-", "_"), None)
    with pytest.raises(EngineUnusable, match=rf"not installed: \S+ -m pip install '{name}>="):
        load(engine, print)


def test_a_program_that_does_not_exist_is_named() -> None:
    with pytest.raises(EngineUnusable, match="/no/program cannot be started: No such file"):
        load("command:/no/program --fast", print)
