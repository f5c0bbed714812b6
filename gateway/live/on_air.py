"""The push on air as its stream shows it, and the channel's input from which it comes."""

from collections import Counter
from dataclasses import dataclass

from gateway.channels.inputs import MAIN, InputKind
from gateway.live.unusable_media import UnusableMedia
from gateway.media.clock import PublisherTimeline


@dataclass(frozen=True, slots=True)
class OnAir:
    """A push. A channel with several inputs shows the push of the input on air.

    since: monotonic seconds. dropped: units by reason; who drops units counts them.
    unusable: what of its media cannot be used.
    timeline: the clock that repairs its timestamps, and counts their jumps; None if they were repaired elsewhere.
    """

    protocol: str
    peer: str
    since: float
    dropped: Counter[str]
    unusable: UnusableMedia
    timeline: PublisherTimeline | None = None


@dataclass(frozen=True, slots=True)
class InputOnAir:
    """The channel's input on air, or that of the last push while the stream lingers.

    lost_since: since when the first input delivers nothing, although it should; this one replaces it. Monotonic
    seconds; None: nothing is lost. least_kbps: the bit rate that it does not reach; 0: it delivers nothing.
    """

    name: str = MAIN
    kind: InputKind = InputKind.PUSH
    lost_since: float | None = None
    least_kbps: int = 0
