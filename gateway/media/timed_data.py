"""Values that a stream carries beside its media: ad cues, captions, metadata, private data and script data."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import ClassVar, Final, Self, TypeAlias

MAX_TEXT: Final = 500  # characters of a caption
MAX_METADATA: Final = 1024  # bytes of timed metadata
MAX_ID: Final = 128  # characters of the id of a cue
MAX_PRIVATE: Final = 1 << 16  # bytes of private data


@dataclass(frozen=True, slots=True)
class _Value:
    """A value of timed data. TIMES: the names of its times, in ticks of its `TimedData`, on the stream's clock."""

    TIMES: ClassVar[tuple[str, ...]] = ()

    @property
    def size(self) -> int:
        """Bytes and characters, for bounds."""
        return sum(len(value) for f in fields(self) if isinstance(value := getattr(self, f.name), str | bytes))

    def timed(self, change: Callable[[int], int]) -> Self:
        """Returns it with other times. change: returns the new time for an old one."""
        times = {name: getattr(self, name) for name in self.TIMES}
        return replace(self, **{name: change(time) for name, time in times.items() if time is not None})


class CueType(StrEnum):
    """The kind of an ad cue. OTHER: a message without a break, such as a program's start."""

    OUT = "out"
    IN = "in"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class AdCue(_Value):
    """An ad cue: a break begins or ends at `at`.

    id: of the break; equal for its begin and its end. seconds: the planned duration; None: unknown.
    section: the `splice_info_section` (SCTE 35 §9.6) of which the other values were read.
    """

    TIMES = ("at",)
    type: CueType
    id: str
    at: int
    seconds: float | None
    section: bytes


@dataclass(frozen=True, slots=True)
class CaptionText(_Value):
    """The text of a caption from outside the pictures.

    end: None: it is shown as long as reading takes.
    language: BCP 47; "": unknown. is_speech: whether an engine recognised it.
    """

    TIMES = ("start", "end")
    text: str
    start: int
    end: int | None = None
    language: str = ""
    is_speech: bool = False


@dataclass(frozen=True, slots=True)
class Metadata(_Value):
    """Timed metadata: a text of the API."""

    text: str


@dataclass(frozen=True, slots=True)
class PrivateData(_Value):
    """The payload of a PES packet of private data, such as KLV. Only transport streams carry it.

    pid: of its stream in the push. stream_type: ISO/IEC 13818-1 Table 2-34. descriptors: of this stream.
    at: None: without time.
    """

    TIMES = ("at",)
    pid: int
    stream_type: int
    descriptors: bytes
    at: int | None
    payload: bytes


@dataclass(frozen=True, slots=True)
class Script(_Value):
    """Script data of an encoder, which passes bit for bit. amf: the AMF0 encoding of the values after the name."""

    name: str
    amf: bytes


TimedValue: TypeAlias = AdCue | CaptionText | Metadata | PrivateData | Script
