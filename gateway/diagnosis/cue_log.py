"""The ad cues of live streams: those that came and those that are planned, their events, and their key frames."""

import asyncio
import secrets
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Final

from pydantic import ConfigDict, WithJsonSchema

from gateway.formats.splices import Splice, splice_section
from gateway.lib.rfc3339 import rfc3339
from gateway.lib.shown_types import Time
from gateway.lib.token_bucket import TokenBucket
from gateway.live.hub import Hub
from gateway.live.sink import EndReason
from gateway.live.stream import Stream
from gateway.media.clock import MILLISECONDS
from gateway.media.timed_data import AdCue, CueType, Metadata
from gateway.media.track import TimedData
from gateway.ports.errors import TooManyRequests
from gateway.ports.events import Event, Events, EventType

KEPT: Final = 100  # cues in the list of a stream, planned ones too
CUES_A_SECOND, METADATA_A_SECOND = 10, 5
LEAD_SECONDS: Final = 8.0  # SCTE 35 §9.7.3.1 asks for at least 4 s from the message to the splice
_API: Final = "api"
_FARTHEST: Final = 7200.0  # seconds from a message to its cue


@dataclass(frozen=True, slots=True)
class Cue:
    """An ad cue of a live stream. at: its time, which may be in the future. seconds: planned; null: unknown.

    type: `other` is a message without a break. origin: the protocol of the push, or api.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")  # of the schema

    id: str
    type: Annotated[str, WithJsonSchema({"enum": list(CueType), "type": "string"})]
    at: Time
    seconds: float | None
    origin: str


class StreamCues:
    """The cues of one stream. `push_metadata` and `plan` are for the API; all others come through `on_script`."""

    def __init__(self, stream: Stream, emit: Callable[[Event], None]) -> None:
        self._stream, self._emit = stream, emit
        self._cues: deque[Cue] = deque(maxlen=KEPT)  # oldest first
        self._planned: dict[int, tuple[Cue, asyncio.TimerHandle]] = {}
        self._key_frames: deque[asyncio.TimerHandle] = deque()
        self._cue_bucket = TokenBucket(CUES_A_SECOND, CUES_A_SECOND)
        self._metadata_bucket = TokenBucket(METADATA_A_SECOND, METADATA_A_SECOND)
        self._origin = ""  # of the cue that is pushed now; "": of the publisher
        self._break = ""  # id of the last break that has begun
        stream.received.on_script = self._on_script
        stream.when_ended(self._end)

    @property
    def cues(self) -> list[Cue]:
        """The planned cues and the last ones that came, the latest first."""
        planned = sorted((cue for cue, _ in self._planned.values()), key=lambda cue: cue.at, reverse=True)
        return [*planned, *reversed(self._cues)][:KEPT]

    def plan(self, splice: Splice, at: float | None) -> str:
        """Puts a cue into the stream, LEAD_SECONDS before its time at the latest. Returns its id.

        splice: with an empty `section`, one is made. Without an id, an end gets that of the last begin.
        at: seconds since 1970; None: now. Raises TooManyRequests.
        """
        self._take(self._cue_bucket, "cues")
        id = splice.id or (self._break if splice.type is CueType.IN else "") or str(secrets.randbits(31) + 1)
        now, splice = time.time(), replace(splice, id=id)
        moment = now if at is None else at
        wait = moment - now - LEAD_SECONDS
        if wait <= 0:
            self._push(splice, None if at is None else moment - now)
            return id
        if len(self._planned) >= KEPT:
            raise TooManyRequests(f"at most {KEPT} cues can be planned", 1)
        number = max(self._planned, default=0) + 1
        timer = asyncio.get_running_loop().call_later(wait, self._push_planned, number, splice, moment)
        self._planned[number] = Cue(id, splice.type, rfc3339(moment), splice.seconds, _API), timer
        return id

    def push_metadata(self, text: str) -> None:
        """Puts timed metadata into the stream, at its newest media. Raises TooManyRequests."""
        self._take(self._metadata_bucket, "metadata")
        self._stream.push_timed(TimedData(self._stream.received.last_dts_ms, Metadata(text)))

    def _take(self, bucket: TokenBucket, what: str) -> None:
        if not bucket.take(1, time.monotonic()):
            raise TooManyRequests(f"too many {what}: wait a second", 1)

    def _push_planned(self, number: int, splice: Splice, at: float) -> None:
        del self._planned[number]
        self._push(splice, at - time.time())

    def _push(self, splice: Splice, ahead: float | None) -> None:
        """Puts a cue into the stream now. ahead: seconds from now to its time; None: it is at the newest media."""
        at = dts = self._stream.received.last_dts_ms
        if ahead is not None:
            at = max(0, dts + round((self._since_media() + ahead) * 1000))
        about = splice.type, splice.id, at, splice.seconds
        cue = AdCue(*about, splice.section or splice_section(*about))
        self._origin = _API
        try:
            self._stream.push_timed(TimedData(dts, cue))
        finally:
            self._origin = ""

    def _since_media(self) -> float:
        """Returns the seconds since the newest media; 0 before the first unit."""
        last = self._stream.received.last_push
        return time.monotonic() - last if last else 0.0

    # ---- what the stream gets ----

    def _on_script(self, timed: TimedData) -> None:
        found = timed.counted(MILLISECONDS).value
        if not isinstance(found, AdCue):
            return
        stream = self._stream
        ahead = (found.at - stream.received.last_dts_ms) / 1000 - self._since_media()
        ahead = min(max(ahead, -_FARTHEST), _FARTHEST)
        publisher = stream.publisher
        origin = self._origin or (publisher.on_air.protocol if publisher is not None else "")
        cue = Cue(found.id, found.type, rfc3339(time.time() + ahead), found.seconds, origin)
        self._cues.append(cue)
        if found.type is CueType.OTHER:
            return
        self._break = cue.id if found.type is CueType.OUT else ""
        self._ask_key_frame(ahead)
        if found.seconds is not None:
            self._ask_key_frame(ahead + found.seconds)
        data = {"stream": stream.name, "id": cue.id, "type": str(cue.type), "seconds": cue.seconds, "at": cue.at}
        self._emit(Event(EventType.CUE, time.time(), stream.channel.id, data))

    def _ask_key_frame(self, ahead: float) -> None:
        """Asks the publisher for a key frame when the media are at a splice. ahead: seconds."""
        if ahead <= 0:
            self._stream.request_key_frame(time.monotonic())
            return
        if len(self._key_frames) >= KEPT:
            self._key_frames.popleft().cancel()
        self._key_frames.append(asyncio.get_running_loop().call_later(ahead, self._ask_key_frame, 0.0))

    def _end(self, reason: EndReason) -> None:
        for timer in (*self._key_frames, *(timer for _, timer in self._planned.values())):
            timer.cancel()
        self._planned.clear()


class CueLog:
    """Gives each new source stream its `StreamCues`."""

    def __init__(self, hub: Hub, events: Events) -> None:
        self._hub, self._events = hub, events
        self._streams: dict[str, StreamCues] = {}
        events.listen(self._on_event)

    def of(self, stream: Stream) -> StreamCues | None:
        """Returns the cues of a source stream; None before its tracks are known, and after its end."""
        return self._streams.get(stream.name)

    def _on_event(self, event: Event) -> None:
        if event.type is EventType.STREAM_STARTED:
            stream = self._hub.find(str(event.data["stream"]))
            if stream is not None and stream.is_source:
                self._streams[stream.name] = StreamCues(stream, self._events.emit)
        elif event.type is EventType.STREAM_ENDED:
            self._streams.pop(str(event.data["stream"]), None)
