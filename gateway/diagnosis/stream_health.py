"""The health of one stream: applies the rules once a second, and reports when a fault begins and ends."""

import statistics
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import structlog

from gateway.channels.inputs import InputKind
from gateway.diagnosis import link_rules, rules
from gateway.diagnosis.measurement import Measurement
from gateway.diagnosis.picture_overview import SIZE, PictureOverview
from gateway.diagnosis.rules import Facts
from gateway.diagnosis.texts import text_of
from gateway.lib.rfc3339 import rfc3339
from gateway.live.health_report import HealthFinding, Level, Measurements
from gateway.live.sink import SinkNeeds
from gateway.live.stream import ActivePublisher, Stream
from gateway.ports.events import Event, EventType
from gateway.protocols.srt.statistics import LinkStatistics

log = structlog.get_logger(__name__)

EVENT_SECONDS: Final = 60.0  # minimum time between two events for the beginning of one fault
_CLOCK_STEP: Final = 0.5  # seconds; a larger change of the wall clock is a correction of the clock
_LATE_SAMPLE: Final = 1.5  # seconds; after a longer pause, this process itself was busy
_PICTURES_EXPIRE: Final = 60.0  # seconds after which the last decoded picture is too old
_BROWSER_PROTOCOLS: Final = ("ws", "wss", "whip")
_LOSSY_PROTOCOLS: Final = ("srt", "rtsp", "pull")  # with others, damaged units are a fault of the encoder


@dataclass(frozen=True, slots=True)
class Rule:
    """A fault and its check.

    begin: seconds for which the check must find the fault before it counts. end: seconds without the fault before it
    is withdrawn. of_media: whether it is about the media of the push: it is not found while a slate is on air.
    at_end: whether it is also looked for when the push has ended, because a whole push may be between two evaluations.
    """

    code: str
    check: rules.Check
    begin: float = 0.0
    end: float = 2.0
    of_media: bool = True
    at_end: bool = False
    level: Level = "fault"


# It has a finding for each output that fails, or for each target of it: see `_check_outputs`.
_OUTPUT_RULE: Final = Rule("output_failing", lambda facts, active: None, of_media=False)
# In the order of importance: the console shows the first found fault on a card.
RULES: Final = (
    Rule("input_lost", rules.input_lost, of_media=False),
    _OUTPUT_RULE,
    Rule("stream_left_out", rules.stream_left_out),
    Rule("pictures_unreadable", rules.pictures_unreadable, begin=2.0),
    Rule("video_missing", rules.video_missing),
    Rule("picture_black", rules.picture_black, end=0.0),
    Rule("picture_frozen", rules.picture_frozen, end=0.0),
    Rule("clock_wrong", rules.clock_wrong),
    Rule("arrivals_late", rules.arrivals_late),
    Rule("arrivals_early", rules.arrivals_early, at_end=True),
    # They are found while a slate is on air, too: they say why the push is away.
    Rule("link_loss", link_rules.link_loss, begin=2.0, end=5.0, of_media=False),
    Rule("link_latency_low", link_rules.link_latency_low, begin=2.0, end=5.0, of_media=False),
    Rule("link_down", link_rules.link_down, end=5.0, of_media=False),
    Rule("media_damaged", rules.media_damaged),
    Rule("fps_low", rules.fps_low, begin=3.5),
    Rule("audio_missing", rules.audio_missing),
    Rule("audio_silent", rules.audio_silent, end=0.0),
    Rule("av_drift", rules.av_drift),
    Rule("timestamps_jump", rules.timestamps_jump, end=0.0),
    Rule("gop_long", rules.gop_long),
    Rule("open_gop", rules.open_gop),
    Rule("bitrate_high", rules.bitrate_high),
    Rule("bitrate_unsteady", rules.bitrate_unsteady),
    Rule("captions_late", rules.captions_late, begin=2.0, of_media=False),
    Rule("b_frames", rules.b_frames),
    Rule("pixel_format", rules.pixel_format),
    Rule("hevc", rules.hevc, level="notice"),
    # Events: `key.expires` announces the date, also without a push.
    Rule("key_expires", rules.key_expires, end=0.0, of_media=False, level="notice"),
)
CODES: Final = tuple(rule.code for rule in RULES)
# While no media arrives, the rules of these faults are not applied: the faults neither begin nor end.
_NEED_MEDIA: Final = frozenset(rule.code for rule in RULES if rule.of_media) - {
    *("arrivals_late", "timestamps_jump", "stream_left_out", "pictures_unreadable")
}
# A wrong clock explains these. They are not found beside it.
_OF_CLOCK: Final = frozenset(("arrivals_late", "arrivals_early", "av_drift", "gop_long", "bitrate_unsteady"))


@dataclass(slots=True, eq=False)
class _FaultState:
    """A fault that is found, or may be found soon. All times are monotonic seconds."""

    finding: HealthFinding | None = None
    changing_since: float | None = None  # since when the check contradicts `finding`
    reported_at: float = float("-inf")  # time of the last event for a beginning
    reported_begin: bool = False  # whether the end of this fault must still be reported


class StreamHealth:
    """Implements HealthReport. `evaluate` is called about once a second.

    The beginning of a fault is reported at most once in EVENT_SECONDS, and then its end too. A fault that begins again
    sooner, and stays, is reported when this time has passed.

    clock_offset: the wall clock minus the monotonic clock, seconds. by_webrtc: whether viewers watch by WebRTC.
    """

    def __init__(
        self, stream: Stream, emit: Callable[[Event], None], clock_offset: float, by_webrtc: Callable[[Stream], bool]
    ) -> None:
        self.findings: tuple[HealthFinding, ...] = ()
        self._stream = stream
        self._emit = emit
        self._clock_offset = clock_offset
        self._by_webrtc = by_webrtc
        self._is_over = False  # the stream has ended, or its measurement failed
        self._measured_push: tuple[ActivePublisher, str | None] | None = None  # the publisher, and its input
        self._measurement = Measurement(self._end)
        self._facts = Facts(self._measurement, 0.0)
        self._states = [(rule, _FaultState()) for rule in RULES]
        self._output_states: dict[str, _FaultState] = {}  # by the name of the output and its target
        self._jumps: tuple[int, int] = 0, 0  # of the timestamps: repaired by the intake, and found here
        self._damaged = deque[int](maxlen=rules.DAMAGE_SECONDS + 1)  # in all, after each of the last seconds
        self._overview: PictureOverview | None = None
        stream.original.attach(self._measurement, SinkNeeds(audio=False, is_urgent=lambda: False))
        stream.pushed_sound.opus.attach(self._measurement.opus, SinkNeeds(cache=False))

    def evaluate(self, now: float, wall_clock: float) -> None:
        """Applies the rules. now: monotonic seconds. wall_clock: seconds since 1970."""
        publisher, measurement = self._stream.publisher, self._measurement
        if publisher is None or self._is_over:
            self._withdraw(now, wall_clock)
            self._measured_push = None
            return
        if self._measured_push is None or (publisher, self._stream.input.name) != self._measured_push:
            self._begin_push(publisher, now)
            return
        late = now - measurement.began - measurement.age > _LATE_SAMPLE
        measurement.sample(now, self._stream.received.bytes)
        if abs(wall_clock - now - self._clock_offset) > _CLOCK_STEP:
            self._clock_offset = wall_clock - now
            measurement.forget_delays()
        if late:
            return  # units may wait in the sockets: this process was busy, not the publisher
        facts = self._facts
        facts.now, facts.stalled = now, now - publisher.last_media
        push, facts.input, facts.rate = publisher.on_air, self._stream.input, publisher.rate
        facts.by_webrtc, facts.is_browser = self._by_webrtc(self._stream), push.protocol in _BROWSER_PROTOCOLS
        network = publisher.network()
        facts.link = network if isinstance(network, LinkStatistics) else None
        facts.key_expires = self._stream.channel.expires
        facts.key_seconds = facts.key_expires - wall_clock
        facts.captions_late = self._stream.captions.late
        facts.unusable, facts.since = push.unusable, push.since
        self._damaged.append(push.dropped["ingest"])
        facts.damaged = self._damaged[-1] - self._damaged[0] if push.protocol in _LOSSY_PROTOCOLS else 0
        self._count_jumps(publisher, now)
        if self._overview is not None and now - self._overview.at > _PICTURES_EXPIRE:
            self._overview = facts.black_since = facts.frozen_since = None
        is_stalled = facts.stalled >= rules.STALL_SECONDS
        on_slate = facts.input.kind is InputKind.SLATE
        facts.clock_fault = measurement.clock_fault
        explained = _OF_CLOCK if facts.clock_fault else ()
        for rule, state in self._states:
            if (on_slate and rule.of_media) or rule.code in explained:
                self._drop(state, now, wall_clock)
                continue
            if is_stalled and rule.code in _NEED_MEDIA:
                continue
            value = rule.check(facts, state.finding is not None)
            if value is None and state.finding is None:
                state.changing_since = None  # the usual case
            else:
                self._apply(rule, state, value, now, wall_clock)
        self._check_outputs(now, wall_clock)
        self.findings = self._found()

    def _check_outputs(self, now: float, wall_clock: float) -> None:
        outputs, states = self._stream.outputs, self._output_states
        self._facts.failing = failing = {} if outputs is None else outputs.faults()
        for name in [*states, *(name for name in failing if name not in states)]:
            state = states.setdefault(name, _FaultState())
            self._apply(_OUTPUT_RULE, state, name if name in failing else None, now, wall_clock)
            if state.finding is None:
                del states[name]

    def _found(self) -> tuple[HealthFinding, ...]:
        found = [state.finding for _, state in self._states if state.finding is not None]
        if self._output_states:
            found += [state.finding for state in self._output_states.values() if state.finding is not None]
            found.sort(key=lambda finding: CODES.index(finding.code))
        return tuple(found)

    def _begin_push(self, publisher: ActivePublisher, now: float) -> None:
        if self._measured_push is not None and self._measured_push[0] is publisher:
            self._measurement.forget_times()  # another input is on air, perhaps without an announcement
        self._measured_push = publisher, self._stream.input.name
        self._measurement.begin(now)
        self._facts = Facts(self._measurement, now)
        self._damaged.clear()
        self._damaged.append(publisher.on_air.dropped["ingest"])
        self._overview = None
        self._count_jumps(publisher, float("-inf"))  # earlier jumps are not faults of this push

    def _count_jumps(self, publisher: ActivePublisher, now: float) -> None:
        timeline, measurement, before = publisher.on_air.timeline, self._measurement, self._jumps
        self._jumps = (timeline.rebased if timeline is not None else 0), measurement.jumps
        if self._jumps != before:
            repaired = timeline is not None and self._jumps[0] != before[0]
            if repaired:
                measurement.forget_delays()  # the times continue without the pause before the jump
            self._facts.jump = (timeline.jumped if timeline is not None and repaired else measurement.jump_ms) / 1000
            self._facts.jumped_at = now

    def _apply(self, rule: Rule, state: _FaultState, value: float | str | None, now: float, wall_clock: float) -> None:
        active = state.finding is not None
        if (value is not None) == active:
            state.changing_since = None
        else:
            if state.changing_since is None:
                state.changing_since = now
            if now - state.changing_since < (rule.end if active else rule.begin):
                return
            state.changing_since = None
        if value is None:
            self._drop(state, now, wall_clock)
            return
        since = rfc3339(wall_clock) if state.finding is None else state.finding.since
        text, value = text_of(rule.code, value, self._facts), value if isinstance(value, str) else round(value, 2)
        state.finding = HealthFinding(rule.code, text, since, value, rule.level)
        self._report(state, state.finding, "begun", now, wall_clock)

    def _drop(self, state: _FaultState, now: float, wall_clock: float) -> None:
        """Ends a fault, if it is found."""
        finding, state.finding, state.changing_since = state.finding, None, None
        if finding is not None:
            self._report(state, finding, "ended", now, wall_clock)

    def _report(self, state: _FaultState, finding: HealthFinding, what: str, now: float, wall_clock: float) -> None:
        """Logs and emits the begin or end of a fault, unless that was done, or was done too recently."""
        begun = what == "begun"
        if (
            finding.level == "notice"
            or begun == state.reported_begin
            or (begun and now - state.reported_at < EVENT_SECONDS)
        ):
            return
        state.reported_begin = begun
        if begun:
            state.reported_at = now
            log.warning("stream health", stream=self._stream.name, fault=finding.code, reason=finding.text)
        data = {"stream": self._stream.name, "code": finding.code, "text": finding.text, "value": finding.value}
        self._emit(Event(EventType.STREAM_HEALTH, wall_clock, self._stream.channel.id, {**data, "state": what}))

    def _withdraw(self, now: float, wall_clock: float) -> None:
        """Ends all faults, because nobody publishes. A file that was pushed at once is found only now."""
        self.findings = ()
        on_slate = self._stream.input.kind is InputKind.SLATE
        for rule, state in self._states:
            if rule.at_end and not on_slate and (value := rule.check(self._facts, state.finding is not None)):
                self._apply(rule, state, value, now, wall_clock)
        self._measurement.forget_delays()
        for state in [*(state for _, state in self._states), *self._output_states.values()]:
            self._drop(state, now, wall_clock)
        self._output_states.clear()

    def _end(self) -> None:
        self._is_over = True
        now = max(self._facts.now, self._measurement.arrived - self._clock_offset)
        self._withdraw(now, now + self._clock_offset)

    # ---- HealthReport ----

    def add_picture(self, overview: bytes, arrived: float) -> None:
        before, at, facts = self._overview, arrived - self._clock_offset, self._facts
        if len(overview) != SIZE or (before is not None and at <= before.at):
            return  # several outputs may decode the same picture
        self._overview = picture = PictureOverview(overview, at)
        facts.pictured_at = at
        facts.black_since = (facts.black_since if facts.black_since is not None else at) if picture.is_black else None
        if before is None or not picture.equals(before):
            facts.frozen_since = None
        elif facts.frozen_since is None:
            facts.frozen_since = before.at

    def measured(self) -> Measurements:
        measurement = self._measurement
        on_slate = self._stream.input.kind is InputKind.SLATE
        if self._measured_push is None or self._stream.publisher is None or on_slate:
            return Measurements()
        history = list(measurement.history)
        offsets, excesses = rules.offsets(measurement, 10), rules.excesses(measurement, 10)
        late, drift = rules.lateness(measurement), max(rules.slope(offsets), rules.slope(excesses), key=abs)
        rates = [cell.bitrate for cell in measurement.cells]
        width, height = measurement.size or (None, None)
        return Measurements(
            fps=_rounded(measurement.fps),
            declaredFps=_rounded(measurement.declared_fps),
            bitrate=self._stream.received.bitrate,
            bitrate1m=measurement.bitrate,
            bitrateSpread=_rounded((max(rates) - min(rates)) * len(rates) / sum(rates)) if sum(rates) else None,
            gop=_rounded(measurement.gop),
            avOffsetMs=round(statistics.median(offsets[-5:])) if offsets else None,
            driftMsPerS=round(drift, 1) if len(offsets) >= 5 else None,
            bFrames=measurement.reorders,
            width=width,
            height=height,
            sizeChanges=measurement.size_changes,
            lateMs=round(late * 1000) if late is not None else None,
            behindMs=round(measurement.behind * 1000) if measurement.behind is not None else None,
            longestGapMs=round(max((second.gap for second in history[-10:]), default=0.0) * 1000),
        )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
