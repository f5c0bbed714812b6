"""The interface of engines for speech to text, and their table.

An engine that runs in the worker imports its library only when it is made.
"""

import sys
from collections.abc import Callable
from importlib import import_module
from typing import Final, Protocol, TypeAlias

from gateway.workers.speech_protocol import Words

Deliver: TypeAlias = Callable[[Words], None]  # any thread may call it
_CLASSES: Final = {
    "pocketsphinx": "pocket:PocketEngine",
    "sherpa-onnx": "sherpa:SherpaEngine",
    "command": "command:CommandEngine",
}


class EngineUnusable(Exception):
    """The engine cannot be loaded on this machine. The message is one line with the remedy."""


class Engine(Protocol):
    """Recognises the speech of one stream. dropped: results that could not be used."""

    dropped: int

    def accept(self, samples: bytes) -> None:
        """Takes the next sound: 16 kHz, mono, signed 16 bits, little endian. Blocks while the engine is busy."""


def load(engine: str, deliver: Deliver) -> Engine:
    """Makes an engine. engine: the setting `captions.engine`. deliver: gets its words. Raises EngineUnusable."""
    kind, _, argument = engine.partition(":")
    module, _, name = _CLASSES[kind].partition(":")
    made: Engine = getattr(import_module(f"{__package__}.{module}"), name)(argument, deliver)
    return made


def not_installed(requirement: str) -> EngineUnusable:
    """Returns the error of an engine without its library."""
    return EngineUnusable(f"it is not installed: {sys.executable} -m pip install '{requirement}'")
