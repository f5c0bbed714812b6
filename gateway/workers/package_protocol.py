"""Messages between the gateway and the package worker: one order, then progress, then a result or a reason."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from enum import IntEnum
from typing import Any

from gateway.workers.vod_bounds import Bounds


class VodMessage(IntEnum):
    """Kinds of frames. The numbers below 16 belong to the messages that all workers share."""

    ORDER = 16
    PROGRESS = 17
    DONE = 18
    FAILED = 19


@dataclass(frozen=True, slots=True)
class VodEncoding:
    """How the pictures of a VOD are encoded.

    crf: constant quality of x264, lower is better. preset: of x264.
    most_bits: the most bits per second, and the buffer size in bits. segment: seconds.
    """

    crf: float
    preset: str
    most_bits: int
    segment: float


@dataclass(frozen=True, slots=True)
class PackageRequest:
    """Order to convert `source` into files named after `base` in the empty folder `folder`; both are local paths."""

    source: str
    folder: str
    base: str
    encoding: VodEncoding
    bounds: Bounds

    def to_json(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, body: bytes) -> PackageRequest:
        said: dict[str, Any] = json.loads(body)
        return cls(
            said["source"], said["folder"], said["base"], VodEncoding(**said["encoding"]), Bounds(**said["bounds"])
        )


@dataclass(frozen=True, slots=True)
class PackageResult:
    """The result of a package worker.

    segments: number of segments, numbered in order. duration: seconds.
    width, height: of the encoded pictures, 0 without video. poster: whether a poster was made.
    damaged: number of pieces that could not be decoded.
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
    def from_json(cls, body: bytes) -> PackageResult:
        return cls(**json.loads(body))
