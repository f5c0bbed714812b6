"""The switcher of one channel: decides which input is on air, and puts it on air."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import structlog

from gateway.channels.channel import Channel
from gateway.channels.inputs import InputKind, InputSpec
from gateway.inputs.channel_input import ChannelInput, InputState
from gateway.inputs.descriptor import InputDescriptor, InputServices
from gateway.inputs.matching import Matching
from gateway.inputs.program import Program
from gateway.inputs.selection import Candidate, SwitchReason, choose
from gateway.inputs.source_runner import SourceRunner
from gateway.lib.tasks import Tasks
from gateway.live.hub import Hub
from gateway.live.network_quality import Quality
from gateway.live.publisher import PushOrigin, StreamPublisher
from gateway.live.shelf import StreamShelf
from gateway.live.sink import EndReason
from gateway.live.stream import Stream
from gateway.live.track_changes import IntervalLimiter
from gateway.live.track_publisher import TrackPublisher
from gateway.media.track import AccessUnit, MediaTrack, Tracks, have_same_media
from gateway.ports.errors import GatewayError, NoSuchStream, NotAuthorized, RefusalReason
from gateway.ports.events import Event, EventType
from gateway.settings.models import InputsSettings

log = structlog.get_logger(__name__)

PROTOCOL: Final = "inputs"  # protocol of the stream's publisher until the first input is on air
_ORIGIN: Final = PushOrigin(PROTOCOL, "", keep_time=True, trusted=True, emits_events=False)
STEADY_SECONDS: Final = 2.0  # a better input must deliver for this time before it replaces another one
_IDLE_SECONDS: Final = 20.0  # a pull ends after this time without viewers
# The inputs that the channel's `inputsMatch` encodes in the form of the push.
_MATCHED: Final = frozenset((InputKind.BACKUP, InputKind.PULL, InputKind.PLAYLIST))
_MARGIN: Final = 0.005  # seconds; a timer may be early
_RETRY_SECONDS: Final = 0.1  # between two checks while the input on air is silent and no other one may replace it
# The reasons for which the input on air no longer delivers.
_LOST: Final = frozenset((SwitchReason.ENDED, SwitchReason.SILENT, SwitchReason.THIN, SwitchReason.FAILED))


@dataclass(frozen=True, slots=True)
class SwitcherParts:
    """The parts that all switchers of a process share.

    hub: of the channels' streams. hidden: the hidden streams of the inputs. inputs: their settings.
    descriptors: of the kinds that have a source. switches: the number of switches, by reason.
    viewers: returns the viewers of a channel on all nodes.
    """

    hub: Hub
    hidden: StreamShelf
    inputs: InputsSettings
    services: InputServices
    descriptors: dict[InputKind, InputDescriptor]
    viewers: Callable[[Stream], int]
    switches: Counter[str]


class ChannelSwitcher:
    """Runs the inputs of one channel. One at a time is on air.

    It has the publisher of the channel's stream while an input is connected or on air. Otherwise the stream lingers.

    expected_tracks: the tracks for which the viewers' decoders are set up; None: unknown.
    """

    def __init__(self, parts: SwitcherParts, channel: Channel, specs: Sequence[InputSpec]) -> None:
        self.channel = channel
        self.expected_tracks: Tracks | None = None
        self._parts = parts
        self._tasks = Tasks(f"inputs of {channel.id}")
        self._inputs: list[ChannelInput] = []
        self._runners: dict[ChannelInput, SourceRunner] = {}
        self._matchings: dict[ChannelInput, Matching] = {}
        self._program: Program | None = None
        self._current: ChannelInput | None = None
        self._taken: ChannelInput | None = None
        self._expected_changed = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._limiter = IntervalLimiter()  # of switches
        self._was_live = False  # whether an input other than a slate was on air since the stream began
        self._stand_in_until = 0.0  # monotonic time until which slates and playlists replace a push that has ended
        self._was_stopped = False  # the last push said that it stops
        self._watched_at = -_IDLE_SECONDS  # monotonic time of the last viewer
        self.ended = False  # the channel's stream was ended: by a kick, a deletion, or the expiry of its key
        self.configure(channel, specs)

    # ---- configuration and state ----

    def configure(self, channel: Channel, specs: Sequence[InputSpec]) -> None:
        """Takes a changed channel. Inputs that are unchanged go on."""
        self.channel = channel
        known = {replace(entry.spec, below=None): entry for entry in self._inputs}
        self._inputs = [self._configured(known.pop(replace(spec, below=None), None), spec) for spec in specs]
        if self._taken not in self._inputs:  # before the removals, which choose the input on air
            self._taken = None
        for entry in known.values():
            self._remove(entry)

    def _configured(self, entry: ChannelInput | None, spec: InputSpec) -> ChannelInput:
        """Returns the input with its new rule `below`, or a new input."""
        if entry is None:
            return self._make_input(spec)
        entry.configure(spec)
        return entry

    def _make_input(self, spec: InputSpec) -> ChannelInput:
        descriptor = self._parts.descriptors.get(spec.kind)
        on_demand = descriptor is not None and descriptor.on_demand
        entry = ChannelInput(spec, self, self._parts.inputs.silence, on_demand=on_demand)
        if descriptor is not None:
            self._runners[entry] = SourceRunner(entry, descriptor.make(self._parts.services, spec), self)
        return entry

    def _remove(self, entry: ChannelInput) -> None:
        self._matchings.pop(entry, None)
        runner = self._runners.pop(entry, None)
        if runner is not None and runner.task is not None:
            runner.task.cancel()
        if entry.stream is not None:
            self._parts.hidden.end(entry.stream.name, EndReason.OUTPUT_OFF)
        if entry is self._current:
            self._evaluate(SwitchReason.CHANGED)

    @property
    def taken(self) -> str | None:
        """The name of the input that was taken by hand; None: the choice is automatic."""
        return None if self._taken is None else self._taken.spec.name

    def states(self) -> dict[str, tuple[InputState, str | None]]:
        """Returns the state and the error of each input, by name."""
        now = time.monotonic()
        return {entry.spec.name: self._state(entry, now) for entry in self._inputs}

    def _state(self, entry: ChannelInput, now: float) -> tuple[InputState, str | None]:
        runner = self._runners.get(entry)
        matching = self._matchings.get(entry)
        error = entry.fault or (runner.problem if runner is not None else None)
        error = error or (matching.error if matching is not None else None)
        if entry.is_on_air:
            return InputState.ON_AIR, error
        if entry.delivers(now) or (runner is not None and entry.on_demand and runner.is_ready):
            return InputState.READY, error
        if error is not None:
            return InputState.FAILED, error
        if entry.stream is not None or (runner is not None and runner.running and not runner.is_between_items):
            return InputState.CONNECTING, None
        return InputState.OFF, None

    def origin_of(self, name: str) -> Stream | SourceRunner | None:
        """Returns the hidden stream of an input while it has a publisher; otherwise its source; None for a push."""
        entry = self._find(name)
        return None if entry is None else entry.stream or self._runners.get(entry)

    def _find(self, name: str) -> ChannelInput | None:
        return next((entry for entry in self._inputs if entry.spec.name == name), None)

    # ---- pushes ----

    def start(self, first_number: int) -> Stream:
        """Makes the channel's stream for inputs that need no push. Raises NameInUse, AtCapacity.

        first_number: the first segment number of its playlists (`StreamSpec`).
        """
        self._watched_at = time.monotonic()
        stream = self._open_program(first_number).publisher.stream
        self.tick(self._watched_at)
        return stream

    def publish(
        self, name: str, origin: PushOrigin, evict: Callable[[EndReason], None], first_number: int
    ) -> StreamPublisher:
        """Returns the publisher of a push from outside. Raises NotAuthorized, NameInUse, AtCapacity."""
        entry = self._find(name)
        if entry is None or entry in self._runners:
            raise NotAuthorized(f"no input {name[:64]} takes pushes", RefusalReason.WRONG)
        self._open_program(first_number)
        try:
            return self._publish(entry, origin, evict)
        finally:
            self.tick(time.monotonic())  # starts the sources, or ends what a refused push has begun

    def _publish(self, entry: ChannelInput, origin: PushOrigin, evict: Callable[[EndReason], None]) -> StreamPublisher:
        name = f"{self.channel.id}/{entry.spec.name}"
        publisher = self._parts.hidden.publish_from(origin, self.channel, name, evict)
        if publisher.stream is not entry.stream:
            entry.attach(publisher.stream, self._start_matching(entry, publisher.stream))
        if entry is self._current:
            self._show_publisher(entry)
        return publisher

    def _start_matching(self, entry: ChannelInput, stream: Stream) -> Stream | None:
        """Starts to match an input. Returns the stream of the matched media; None: the input is used as it is."""
        self._matchings.pop(entry, None)
        if entry.spec.kind not in _MATCHED or not self.channel.flag("inputsMatch"):
            return None
        services = self._parts.services
        matching = Matching(stream, services.workers, services.settings.transcode, services.settings.stream)
        self._matchings[entry] = matching
        matching.set_expected_tracks(self.expected_tracks)
        matching.attach()
        self._tasks.start(matching.run(), f"match {entry.spec.name}")
        return matching.media

    def adopt(self, publisher: StreamPublisher) -> None:
        """Takes a push that began before the channel had inputs. It stays on air."""
        entry = next(entry for entry in self._inputs if entry.spec.kind is InputKind.PUSH)
        stream = publisher.stream
        program = self._parts.hub.replace_publisher(publisher, _ORIGIN, self._evicted)
        hidden = self._parts.hidden.adopt(self.channel, f"{self.channel.id}/{entry.spec.name}", publisher)
        tracks = stream.original.tracks
        if tracks is not None:
            hidden.set_tracks(tracks.video, tracks.audio, tracks.metadata, True)
        for unit in stream.original.gop.units():
            hidden.gop.add(unit)
        if hidden.additional is not None and isinstance(program.additional, TrackPublisher):
            for number, (track, info) in program.additional.known.items():
                hidden.additional.set_track(number // 2, track, info, time.monotonic())
        program.network = self._network
        self._program = Program(program)
        entry.attach(hidden)
        if tracks is not None:
            self._current = entry
            entry.stay_on_air(self._program, time.monotonic())
            self.input_shown(entry, tracks)
            self._show_publisher(entry)
            self._arm()

    def _open_program(self, first_number: int = 0) -> Program:
        """Returns the program; acquires the channel's stream if necessary. Raises NameInUse, AtCapacity."""
        if self._program is None:
            hub, id = self._parts.hub, self.channel.id
            if not hub.holds(id):
                self._was_live = False
            publisher = hub.publish_from(_ORIGIN, self.channel, id, self._evicted, first_number)
            publisher.network = self._network
            self._program = Program(publisher)
        return self._program

    # ---- sources ----

    def publish_input(self, entry: ChannelInput, peer: str) -> StreamPublisher:
        """Returns a publisher for the source of an input."""

        def evicted(reason: EndReason) -> None:
            """Does nothing: the hidden stream of a source ends only with the source or with the switcher."""

        return self._publish(entry, PushOrigin(str(entry.spec.kind), peer, trusted=True), evicted)

    async def until_expected_tracks_change(self, known: Tracks | None) -> None:
        while have_same_media(known, self.expected_tracks):
            await self._expected_changed.wait()

    def silence(self, track: MediaTrack) -> bytes:
        """Returns a silent frame like those of the last sound that needs one; b"" if the track is another one."""
        return b"" if self._program is None else self._program.silence(track)

    # ---- the choice ----

    def tick(self, now: float) -> None:
        """Starts and stops sources, and checks the choice. Called twice a second. now: monotonic seconds."""
        if self.ended:
            return
        stream = self._program.publisher.stream if self._program is not None else None
        if stream is not None and self._parts.viewers(stream):
            self._watched_at = now
        active = self._is_active(now)
        for entry, runner in self._runners.items():
            wanted = active and (entry.spec.kind is not InputKind.PULL or self._is_wanted(entry, now))
            if wanted and runner.task is None:
                runner.task = self._tasks.start(runner.run(), entry.spec.name)
            elif not wanted and runner.task is not None:
                runner.stop()
        for entry in self._inputs:
            entry.measure(now)
        self._evaluate(SwitchReason.SILENT)
        if self._program is not None:
            stream, below = self._program.publisher.stream, self._inputs[0].spec.below
            least = below.kbps if below is not None and self._inputs[0].delivers(now) else 0
            stream.input = replace(stream.input, lost_since=self._lost_since(now), least_kbps=least)
        if not active and self._program is not None:
            self._close_program()

    def _lost_since(self, now: float) -> float | None:
        """Returns since when the first input is away or thin, while another one replaces it; None: it is not missed.

        An input on air that was taken by hand replaces nothing. What is on air without a push too, such as the playlist
        of a 24/7 channel, is the program after a show, and a slate is it after `inputs.hold`.
        """
        main, current = self._inputs[0], self._current
        last = main.last_media
        if current is None or current is main or current is self._taken or not last:
            return None
        if main.delivers(now):
            return main.thin_since
        is_program = current.spec.always and (
            current.spec.kind is not InputKind.SLATE or now - last >= self._parts.inputs.hold
        )
        return None if is_program or not self._is_wanted(main, now) else last

    @property
    def is_idle(self) -> bool:
        """Whether the channel no longer needs its switcher."""
        return self.ended or (self._program is None and not self._is_active(time.monotonic()))

    def demand(self, now: float) -> None:
        """Called when somebody waits for the channel's stream."""
        self._watched_at = now

    def _is_active(self, now: float) -> bool:
        """Whether any input may have to be on air."""
        return self.has_push or any(self._is_wanted(entry, now) for entry in self._runners)

    @property
    def has_push(self) -> bool:
        """Whether a publisher from outside is connected."""
        return any(entry.stream is not None and entry not in self._runners for entry in self._inputs)

    def _is_wanted(self, entry: ChannelInput, now: float) -> bool:
        """Whether an input may be on air now, if it delivers."""
        if entry not in self._runners or entry is self._taken:
            return True
        if entry.spec.always:
            # What runs at the expiry goes on, like a push.
            goes_on = self._program is not None and not self._parts.hub.limits.end_at_expiry
            return goes_on or not self.channel.expired(time.time())
        if entry.spec.kind is InputKind.PULL:
            return now - self._watched_at < _IDLE_SECONDS
        pulls = (other for other in self._runners if other.spec.kind is InputKind.PULL)
        return self._was_live and (
            self.has_push or now < self._stand_in_until or any(self._is_wanted(pull, now) for pull in pulls)
        )

    def _candidate(self, entry: ChannelInput, now: float, *, may_be_thin: bool = False) -> Candidate:
        if not self._is_wanted(entry, now):
            return Candidate(False)
        runner = self._runners.get(entry)
        return entry.candidate(now, ready=runner is not None and runner.is_ready, may_be_thin=may_be_thin)

    def input_starts(self, entry: ChannelInput, key_frame: AccessUnit) -> None:
        self._evaluate(SwitchReason.BETTER, entry, key_frame)

    def input_lost(self, entry: ChannelInput, reason: SwitchReason) -> None:
        if entry not in self._runners:
            self._was_stopped = entry.was_stopped
            self._stand_in_until = time.monotonic() + self._parts.inputs.hold
        self._evaluate(reason)

    def input_shown(self, entry: ChannelInput, tracks: Tracks) -> None:
        """Called with the tracks of the input on air, when it begins and after each change."""
        if entry.spec.kind is not InputKind.SLATE:
            self._was_live = True
            matching = self._matchings.get(entry)
            if not have_same_media(tracks, self.expected_tracks) and (matching is None or matching.passes):
                self.expected_tracks = tracks
                for other in self._matchings.values():
                    other.set_expected_tracks(tracks)
                changed, self._expected_changed = self._expected_changed, asyncio.Event()
                changed.set()

    def take(self, name: str | None) -> None:
        """Puts an input on air by hand, for as long as it delivers; None: the choice is automatic again.

        Raises KeyError for an unknown name, NoSuchStream if the input delivers nothing.
        """
        if name is None:
            self._taken = None
            self._evaluate(SwitchReason.AUTOMATIC)
            return
        entry = self._find(name)
        if entry is None:
            raise KeyError(name)
        now, before = time.monotonic(), self._taken
        self._taken = entry
        if not self._candidate(entry, now, may_be_thin=True).usable:
            self._taken = before
            raise NoSuchStream(name)
        self._evaluate(SwitchReason.TAKEN)

    def _evaluate(
        self, reason: SwitchReason, starting: ChannelInput | None = None, key_frame: AccessUnit | None = None
    ) -> None:
        """Chooses the input on air. starting: an input with a key frame in this moment."""
        if self.ended:
            return
        now = time.monotonic()
        if self._current is not None:
            self._current.check_start(now)
        inputs, current = self._inputs, self._current
        candidates = [self._candidate(entry, now, may_be_thin=entry is self._taken) for entry in inputs]
        if not any(candidate.usable for candidate in candidates):  # a thin input is better than none
            candidates = [self._candidate(entry, now, may_be_thin=True) for entry in inputs]
        current_index = inputs.index(current) if current in inputs else None
        taken = inputs.index(self._taken) if self._taken is not None else None
        automatic = not self.channel.flag("inputsManual")
        index = choose(candidates, current_index, taken, STEADY_SECONDS, automatic=automatic)
        if index is None and current is not None and current.stream is not None:
            index = current_index  # nothing else delivers: it goes on as if it were the only input
        elif current_index is not None and candidates[current_index].usable and reason in _LOST:
            reason = SwitchReason.BETTER
        elif reason is SwitchReason.SILENT and current is not None and current.delivers(now):
            reason = SwitchReason.THIN
        chosen = None if index is None else inputs[index]
        if chosen is current or (chosen is not None and not self._may_switch(chosen, starting, reason, now)):
            self._arm()
            return
        reason = reason if current is not None else SwitchReason.STARTED
        self._switch(chosen, reason, now, key_frame if chosen is starting else None)
        self._arm()

    def _may_switch(
        self, chosen: ChannelInput, starting: ChannelInput | None, reason: SwitchReason, now: float
    ) -> bool:
        """Whether the switch happens now. A better input begins at one of its key frames, without a gap."""
        current = self._current
        by_hand = reason in (SwitchReason.TAKEN, SwitchReason.AUTOMATIC)
        goes_on = current is not None and current.delivers(now) and current.thin_since is None
        waits = goes_on and not chosen.on_demand and not by_hand
        return (chosen is starting or not waits) and self._limiter.take(now)

    def _switch(
        self, chosen: ChannelInput | None, reason: SwitchReason, now: float, key_frame: AccessUnit | None
    ) -> None:
        if chosen is not None and chosen is not self._taken:
            self._taken = None  # the choice by hand has ended
        previous, self._current = self._current, chosen
        if previous is not None:
            previous.leave_air()
        if chosen is None:
            log.info("no input delivers", stream=self.channel.id, reason=str(reason))
            return
        try:
            program = self._open_program()
        except GatewayError as error:
            log.warning("an input cannot go on air", stream=self.channel.id, input=chosen.spec.name, reason=str(error))
            self._current = None
            return
        self._show_publisher(chosen)
        chosen.go_on_air(program, key_frame, now)
        self._parts.switches[reason] += 1
        data = {"from": None if previous is None else previous.spec.name, "to": chosen.spec.name, "reason": str(reason)}
        log.info("input on air", stream=self.channel.id, **data)
        if previous is not None:
            self._parts.hub.events.emit(Event(EventType.INPUT_SWITCHED, time.time(), self.channel.id, data))

    def _show_publisher(self, entry: ChannelInput) -> None:
        """Lets the stream's session show the publisher of the input on air."""
        assert self._program is not None, "an input is on air"
        stream, publisher = self._program.publisher.stream, None if entry.stream is None else entry.stream.publisher
        stream.input = replace(stream.input, name=entry.spec.name, kind=entry.spec.kind)
        self._program.publisher.show(publisher, entry.spec.kind, entry.ask_key_frame)

    def _network(self) -> Quality | None:
        """Returns the quality of the connection of the input on air; of a source, that of the best push beside it."""
        entries = self._inputs if self._current is None else (self._current, *self._inputs)
        publishers = (entry.stream.publisher for entry in entries if entry.stream is not None)
        known = (publisher.network() for publisher in publishers if publisher is not None)
        return next((quality for quality in known if quality is not None), None)

    def _arm(self) -> None:
        """Sets the timer to the moment at which the input on air would be silent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._current is not None and not self.ended:
            delay = self._current.check_at - time.monotonic()
            delay = delay + _MARGIN if delay > 0 else _RETRY_SECONDS
            self._timer = asyncio.get_running_loop().call_later(delay, self._check_silence)

    def _check_silence(self) -> None:
        self._timer = None
        if self._current is not None and self._current.check_at > time.monotonic():
            self._arm()  # media have arrived since
        else:
            self._evaluate(SwitchReason.SILENT)

    # ---- the end ----

    def _close_program(self) -> None:
        """Closes the publisher of the channel's stream, which then lingers."""
        program, self._program = self._program, None
        if self._current is not None:
            self._current.leave_air()
            self._current = None
        if program is not None:
            program.publisher.close(EndReason.STOPPED if self._was_stopped else EndReason.PUBLISHER_GONE)

    def _evicted(self, reason: EndReason) -> None:
        """Ends all pushes, because the channel's stream has ended."""
        self._program = None
        self._end_inputs(reason)

    def _end_inputs(self, reason: EndReason) -> None:
        self.ended = True
        if self._timer is not None:
            self._timer.cancel()
        if self._current is not None:
            self._current.leave_air()
            self._current = None
        for entry in self._inputs:
            if entry.stream is not None:
                self._parts.hidden.end(entry.stream.name, reason)

    async def close(self, reason: EndReason = EndReason.SHUTDOWN) -> None:
        """Ends all inputs and their sources."""
        if not self.ended:
            self._close_program()
            self._end_inputs(reason)
        await self._tasks.close()
