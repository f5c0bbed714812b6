"""StreamPlayback: what playback and packaging know of one stream."""

from collections import Counter
from dataclasses import dataclass, field

from gateway.lib.traffic import Tally
from gateway.live.next_numbers import NextNumbers


@dataclass(slots=True, eq=False)
class StreamPlayback:
    """The viewers and numbers of one stream.

    viewers: those of this node by protocol. tally: counts the bytes of the channel; set once by `StreamShelf`.
    next_numbers: of the packagers.
    uses: connections that need the stream, also those that `viewers` does not count: paused RTMP players, the data of
    pages, and WHEP viewers that are not connected yet. `Feed`, `RtmpPlayback`, `RtspPlayback`, `WhepPlayback` and
    `MoqOutput` count
    theirs.
    key_due: seconds of the stream, when the wait of its viewers for a key frame ends; None: they do not wait. `Stream`
    sets it.
    """

    tally: Tally = field(default_factory=Tally)
    viewers: Counter[str] = field(default_factory=Counter)
    next_numbers: NextNumbers = field(default_factory=NextNumbers)
    uses: int = 0
    key_due: float | None = None
