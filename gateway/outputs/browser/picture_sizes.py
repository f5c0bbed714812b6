"""The sizes in which a viewer can get the pictures of a stream, and the choice of the next size."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Self

from gateway.live.stream import Stream
from gateway.workers.stream_form import StreamForm


@dataclass(frozen=True, slots=True)
class PictureSize:
    """The pictures of one stream. codec: "" without pictures. side: the shorter one, in pixels."""

    name: str
    codec: str
    side: int

    @classmethod
    def of(cls, stream: Stream) -> Self:
        """Reads the configuration of the stream, or else its metadata."""
        video = None if stream.tracks is None else stream.tracks.video
        return cls(stream.name, "" if video is None else str(video.codec), min(StreamForm.of(stream.tracks).size))

    @classmethod
    def from_json(cls, value: object) -> Self | None:
        """Reads what `to_json` made; None if another node sent something else."""
        if not isinstance(value, dict):
            return None
        name, codec, side = value.get("name"), value.get("codec"), value.get("side")
        if not isinstance(name, str) or not isinstance(codec, str) or not isinstance(side, int):
            return None
        return cls(name, codec, side)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def next_size(largest: PictureSize, renditions: Iterable[PictureSize], shown: str, step: int) -> str | None:
    """Returns the name of the pictures of the next size with the codec of `largest`; None if there is none.

    step: -1 for smaller pictures, 1 for larger ones. shown: name of the current pictures; unknown: `largest`.
    """
    fitting = [size for size in renditions if size.codec == largest.codec and size.side < largest.side]
    # The largest picture is first, so -1 selects the next name.
    names = [largest.name, *(size.name for size in sorted(fitting, key=lambda size: size.side, reverse=True))]
    at = (names.index(shown) if shown in names else 0) - step
    return names[at] if 0 <= at < len(names) else None
