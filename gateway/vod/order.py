"""What the gateway and the package worker say to each other: one order, then progress, then a result or a reason."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from enum import IntEnum
from typing import Any


class Say(IntEnum):
    """Kinds of frames; the numbers below 16 belong to every worker's common language."""

    ORDER = 16
    PROGRESS = 17
    DONE = 18
    FAILED = 19


@dataclass(frozen=True, slots=True)
class Encoding:
    """How pictures are coded. crf: x264's constant quality, lower is better; most_bits: a second, and its buffer;

    segment: seconds; preset: x264's.
    """

    crf: float
    preset: str
    most_bits: int
    segment: float


@dataclass(frozen=True, slots=True)
class Order:
    """Make `source` into files of this base name in the empty folder `folder`; paths of this machine."""

    source: str
    folder: str
    base: str
    encoding: Encoding

    def to_json(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, body: bytes) -> Order:
        said: dict[str, Any] = json.loads(body)
        return cls(said["source"], said["folder"], said["base"], Encoding(**said["encoding"]))


@dataclass(frozen=True, slots=True)
class Made:
    """What a worker has made: segments, in the order of their numbers; poster: whether there are pictures of it.

    duration: seconds; width, height: of the coded pictures, 0 without any; damaged: pieces that could not be decoded.
    """

    segments: int
    duration: float
    width: int
    height: int
    poster: bool
    damaged: int = 0

    def to_json(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, body: bytes) -> Made:
        return cls(**json.loads(body))


class Unusable(Exception):
    """A film cannot be made into anything; the message is one line for whoever brought it."""
