"""CueIntake: reads the ad cues of a push, once, at the entry."""

from collections.abc import Callable, Mapping
from typing import Final

import structlog

from gateway.formats.splices import Splice, is_cue_message, read_script_splice, read_splice
from gateway.lib.bounded_dict import BoundedDict
from gateway.lib.log_rate_limiter import LogRateLimiter
from gateway.lib.token_bucket import TokenBucket
from gateway.live.publisher import StreamPublisher
from gateway.media.clock import MILLISECONDS
from gateway.media.errors import InvalidData
from gateway.media.timed_data import AdCue
from gateway.media.track import AmfValue, TimedData

log = structlog.get_logger(__name__)

LONGEST_MS: Final = 3_600_000  # from a message to its cue; a later cue counts as one without a time
_A_SECOND, _AT_ONCE = 2, 10  # cues of a push; further ones are dropped
_REPEAT_MS: Final = 10_000  # time in which an equal section is a repetition
_REMEMBERED: Final = 32
_LINES = LogRateLimiter(2)  # of all pushes


class CueIntake:
    """Publishes the ad cues of one push. Malformed ones and those of a flood are counted in `dropped` of the publisher.

    Encoders send a section several times before its break. Only the first one is published.
    timescale: ticks a second of the push.
    """

    def __init__(self, publisher: StreamPublisher, timescale: int = MILLISECONDS) -> None:
        self._publisher, self._timescale = publisher, timescale
        self._bucket = TokenBucket(_A_SECOND, _AT_ONCE)
        self._known: BoundedDict[bytes, int] = BoundedDict(_REMEMBERED)  # times by section

    def take_script(self, name: str, values: Mapping[str, AmfValue], dts: int, now: float) -> bool:
        """Publishes the ad cue of script data. Returns False if it is something else.

        values: the first object of the message. dts: of the message, milliseconds. now: monotonic seconds.
        """
        if not is_cue_message(name):
            return False
        try:
            found = read_script_splice(name, values, dts)
        except InvalidData as error:
            self._drop(str(error))
            return True
        if found is not None:
            self._publish(found.splice, dts, dts + found.at, now)
        return found is not None

    def take_section(self, section: bytes, dts: int, to_time: Callable[[int], int], now: float) -> None:
        """Publishes the ad cue of a section of SCTE 35.

        dts: time of its arrival on the clock of the push. to_time: returns the time on this clock of ticks of 33 bits.
        now: monotonic seconds.
        """
        try:
            splice = read_splice(section)
        except InvalidData as error:
            self._drop(str(error))
            return
        if splice is None:
            return
        self._publish(splice, dts, dts if splice.pts is None else to_time(splice.pts), now)

    def _publish(self, splice: Splice, dts: int, at: int, now: float) -> None:
        """Publishes a cue that is no repetition."""
        known, ms = self._known.get(splice.section), self._timescale // MILLISECONDS
        if known is not None and abs(at - known) <= _REPEAT_MS * ms:
            return
        self._known[splice.section] = at
        at = min(max(at, dts - LONGEST_MS * ms), dts + LONGEST_MS * ms)
        if not self._bucket.take(1, now):
            self._drop("too many cues")
            return
        cue = AdCue(splice.type, splice.id, at, splice.seconds, splice.section)
        self._publisher.push_timed(TimedData(dts, cue, self._timescale))

    def _drop(self, reason: str) -> None:
        self._publisher.on_air.dropped["cues"] += 1
        if (more := _LINES.admit()) is not None:
            log.info("ad cue dropped", stream=self._publisher.stream.name, reason=reason, **more)
