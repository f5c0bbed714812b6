"""One input of a channel while the channel runs: the sink of its media, and its state."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Final, Protocol

import structlog

from gateway.channels.inputs import InputKind, InputSpec
from gateway.inputs.program import Program
from gateway.inputs.rate_floor import RateFloor
from gateway.inputs.selection import Candidate, SwitchReason
from gateway.live.additional_relay import AdditionalRelay
from gateway.live.pushed_tracks import TrackInfo
from gateway.live.sink import EndReason, SinkNeeds
from gateway.live.stream import Stream
from gateway.media.track import AccessUnit, Kind, MediaTrack, TimedData, Tracks

log = structlog.get_logger(__name__)

STILL_SECONDS: Final = 5.0  # after this time without a picture an input counts as silent, although sound arrives
_SLOW_SECONDS: Final = 2.5  # between two pictures of a source without sound; a longer distance is a break
START_SECONDS: Final = 3.0  # an input that starts on demand must deliver within this time
EXCLUDED_SECONDS: Final = 10.0  # until an input that delivered nothing in START_SECONDS is tried again
KEY_FRAME_SECONDS: Final = 10.0  # from the first media without a key frame until the input has an error
_VIDEO: Final = Kind.VIDEO


class InputState(StrEnum):
    """The state of an input. The API shows the value."""

    OFF = "off"
    CONNECTING = "connecting"  # connected or started, but without media that can be shown
    READY = "ready"
    ON_AIR = "on air"
    FAILED = "failed"


class InputListener(Protocol):
    """The part of the channel's switcher that its inputs call."""

    def input_starts(self, entry: ChannelInput, key_frame: AccessUnit) -> None:
        """Called at a key frame of an input that is not on air."""

    def input_lost(self, entry: ChannelInput, reason: SwitchReason) -> None:
        """Called when the media of an input have ended."""

    def input_shown(self, entry: ChannelInput, tracks: Tracks) -> None:
        """Called with the tracks of the input on air, when it begins and after each change."""


class ChannelInput:
    """An input of a channel. It is a sink of the hidden stream into which the input publishes.

    It also takes the additional tracks of a push (`AdditionalTaker`).

    silence: seconds without media after which the input counts as silent.
    on_demand: whether its media begin when it goes on air.
    """

    def __init__(self, spec: InputSpec, listener: InputListener, silence: float, *, on_demand: bool = False) -> None:
        self.spec = spec
        self.on_demand = on_demand
        self.stream: Stream | None = None  # while it has a publisher
        self._media: Stream | None = None  # the stream that is shown: `stream`, or another one in its place
        self._additional: AdditionalRelay | None = None  # its additional tracks; None: they are not shown
        self.on_air = asyncio.Event()
        self.off_air = asyncio.Event()
        self.off_air.set()
        self._listener = listener
        self._silence = silence
        self._program: Program | None = None  # while it is on air
        self._begun = False  # whether the program has media of this input
        # Monotonic seconds; 0: none yet.
        self._first_unit = self._last_unit = self._last_picture = 0.0
        self._ended_unit = 0.0  # `_last_unit` of the previous publisher
        self._slowest = 0.0  # the longest distance of two pictures, seconds; 0: unknown
        self._sound: int | None = None  # decode time (ms) of the last sound before it went on air; None: no sound
        self.was_stopped = False  # its last push said that it stops
        self._since = 0.0  # since when media arrive without a gap; 0: no key frame has come yet
        self._aired = 0.0  # when it went on air
        self._excluded_until = 0.0  # set when it went on air and delivered nothing
        self._floor = None if spec.below is None else RateFloor(spec.below)

    def configure(self, spec: InputSpec) -> None:
        """Takes another rule `below`. Everything else is as before."""
        if spec != self.spec:
            self.spec = spec
            self._floor = None if spec.below is None else RateFloor(spec.below)

    # ---- its media ----

    def attach(self, stream: Stream, media: Stream | None = None) -> None:
        """Takes the media of a new publisher, from the first unit on.

        media: the stream that is shown instead of the publisher's; None: the publisher's.
        """
        self.stream = stream
        self._media = media or stream
        self._additional = stream.additional if media is None else None
        if self._additional is not None:
            self._additional.attach(self, time.monotonic())
        self._ended_unit = self.last_media
        self._first_unit = self._last_unit = self._last_picture = self._since = 0.0
        self._slowest = 0.0
        self._sound = None
        if self._floor is not None:
            self._floor.begin()
        self._media.attach(self, SinkNeeds(cache=False))

    @property
    def tracks(self) -> Tracks | None:
        return None if self._media is None else self._media.tracks

    def delivers(self, now: float) -> bool:
        """Whether its media arrive, from a key frame on. now: monotonic seconds."""
        return self._since > 0 and now < self.silent_at

    def measure(self, now: float) -> None:
        """Measures its bit rate, if it has a rule `below`. Called twice a second. now: monotonic seconds."""
        if self._floor is not None and self.stream is not None and self._first_unit:
            self._floor.sample(now, self.stream.received.bytes)

    @property
    def thin_since(self) -> float | None:
        """The monotonic time since which its bit rate is below that of its rule; None: it is not."""
        return None if self._floor is None or self.stream is None else self._floor.thin_since

    @property
    def last_media(self) -> float:
        """The monotonic time of the last unit, also of an earlier publisher; 0: there was none."""
        return self._last_unit or self._ended_unit

    @property
    def silent_at(self) -> float:
        """The monotonic time at which it counts as silent if no more media arrive.

        Pictures without sound may be far apart: a shared screen that stands still has one a second.
        """
        tracks = self.tracks
        if tracks is not None and tracks.audio is None:
            return self._last_unit + max(self._silence, 2 * self._slowest or _SLOW_SECONDS)
        silent_at = self._last_unit + self._silence
        if tracks is not None and tracks.video is not None:
            silent_at = min(silent_at, self._last_picture + max(self._silence, STILL_SECONDS))
        return silent_at

    @property
    def fault(self) -> str | None:
        """The fault of media that arrive but cannot be shown, or are too thin; None: there is none."""
        if self._floor is not None and self.thin_since is not None and self.spec.below is not None:
            return f"{self._floor.kbps:.0f} of at least {self.spec.below.kbps} kbit/s"
        if self.stream is None or self._since or not self._first_unit:
            return None
        waited = time.monotonic() - self._first_unit
        return f"no key frame for {waited:.0f} s" if waited > KEY_FRAME_SECONDS else None

    def candidate(self, now: float, *, ready: bool, may_be_thin: bool) -> Candidate:
        """Returns the input as a candidate for the choice.

        ready: whether its source could deliver at once. may_be_thin: whether its bit rate does not matter.
        """
        # A playlist goes on air again without a delay: its media are in the store, and it may begin at a time of day.
        steady = math.inf if self.spec.kind is InputKind.PLAYLIST else 0.0
        if self.delivers(now):
            since = self._since if self._floor is None else max(self._since, self._floor.above_since)
            return Candidate(may_be_thin or self.thin_since is None, steady or now - since)
        # A source on air that has stopped delivering is not ready, even if it reports that it is.
        usable = ready and self.on_demand and not self._begun and now >= self._excluded_until
        return Candidate(usable, steady)

    @property
    def check_at(self) -> float:
        """The monotonic time at which an input on air may no longer be usable."""
        return self.silent_at if self._begun else self._aired + START_SECONDS

    def check_start(self, now: float) -> None:
        """Excludes an input for some time if it went on air and delivered nothing."""
        if self._program is not None and not self._begun and now >= self._aired + START_SECONDS:
            self._excluded_until = now + EXCLUDED_SECONDS

    # ---- on air ----

    def ask_key_frame(self) -> None:
        """Asks its publisher for a key frame."""
        if self.stream is not None:
            self.stream.request_key_frame(time.monotonic())

    @property
    def is_on_air(self) -> bool:
        return self._program is not None

    def go_on_air(self, program: Program, key_frame: AccessUnit | None, now: float) -> None:
        """Puts the input on air, from a key frame of this moment or from the pictures since the last one."""
        self._set_program(program, now)
        if self._media is not None and self._media.tracks is not None and self.delivers(now):
            units = [key_frame] if key_frame is not None else _units_to_show(self._media)
            if units:
                self._begin(self._media.tracks, units, now)

    def stay_on_air(self, program: Program, now: float) -> None:
        """Puts this input on air. The channel's stream already has its media, so their times stay unchanged."""
        assert self._media is not None, "the input is attached"
        self._set_program(program, now)
        self._begun = True
        self._since = self._first_unit = self._last_unit = self._last_picture = now
        program.take_over(self._media.tracks)

    def _set_program(self, program: Program, now: float) -> None:
        self._program = program
        self._aired = now
        self.off_air.clear()
        self.on_air.set()

    def leave_air(self) -> None:
        self._program = None
        self._begun = False
        self.on_air.clear()
        self.off_air.set()

    def _begin(self, tracks: Tracks, units: Sequence[AccessUnit], now: float) -> None:
        assert self._program is not None, "only an input on air begins"
        self._begun = True
        self._listener.input_shown(self, tracks)
        self._program.begin(tracks, units, now, self._sound, self._additional)

    # ---- AdditionalTaker ----

    def set_additional(self, track_id: int, track: MediaTrack, info: TrackInfo, now: float) -> None:
        if self._program is not None and self._begun:
            self._program.publisher.set_additional(track_id, track, info, now)

    def describe_additional(self, info: Callable[[Kind, int], TrackInfo]) -> None:
        if self._program is not None and self._begun:
            self._program.publisher.describe_additional(info)

    def push_additional(self, number: int, unit: AccessUnit, now: float) -> None:
        """Takes one unit of an additional track. Hot path."""
        if self._program is not None and self._begun:
            self._program.push_additional(number, unit, now)

    # ---- Sink ----

    def on_tracks(self, tracks: Tracks) -> None:
        if self._program is not None and self._begun:
            self._listener.input_shown(self, tracks)
            self._program.change(tracks)

    def on_unit(self, unit: AccessUnit) -> None:
        """Takes one unit of the input. Hot path."""
        assert self._media is not None, "the input is attached"
        now = self._media.received.last_push
        is_picture = unit.track.kind is _VIDEO
        if self._program is not None and self._begun:
            self._last_unit = now
            if is_picture:
                self._note_distance(now)
                self._last_picture = now
            self._program.push(unit, now)
        else:
            self._observe(unit, is_picture, now)

    def _observe(self, unit: AccessUnit, is_picture: bool, now: float) -> None:
        """Takes a unit before the input has begun on air."""
        tracks = self.tracks
        if is_picture:
            self._note_distance(now)
        if self._since and now >= self.silent_at:
            self._since = 0.0  # there was a gap
        self._first_unit = self._first_unit or now
        self._last_unit = now
        if is_picture:
            self._last_picture = now
        else:
            self._sound = unit.dts
        if tracks is None or not unit.key or not (is_picture or tracks.video is None):
            return
        self._since = self._since or now
        if self._program is not None:
            self._begin(tracks, [unit], now)
        else:
            self._listener.input_starts(self, unit)

    def _note_distance(self, now: float) -> None:
        """Notes how long after the previous picture another one has come."""
        distance = now - self._last_picture
        if self._slowest < distance <= _SLOW_SECONDS:
            self._slowest = distance

    def on_timed(self, timed: TimedData) -> None:
        if self._program is not None and self._begun:
            self._program.push_timed(timed)

    def on_end(self, reason: EndReason) -> None:
        self.was_stopped = reason is EndReason.STOPPED
        self._lose(SwitchReason.ENDED)

    def on_failed(self, error: Exception) -> None:
        log.error("an input cannot be taken", input=self.spec.name, exc_info=error)
        self._lose(SwitchReason.FAILED)

    def _lose(self, reason: SwitchReason) -> None:
        self.stream = self._media = self._additional = None
        self._since = 0.0
        self._listener.input_lost(self, reason)


def _units_to_show(stream: Stream) -> list[AccessUnit]:
    """Returns the units since the last key frame; of a stream without video, the last unit."""
    tracks = stream.tracks
    return stream.gop.units() if tracks is not None and tracks.video is not None else stream.gop.units()[-1:]
