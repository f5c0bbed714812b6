"""The output `codec`: a worker process encodes the ladder, and each rendition becomes a stream."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import structlog

from gateway.channels.channel import Channel
from gateway.lib.metrics import Counter
from gateway.lib.tasks import Tasks
from gateway.live.fanout import Fanout
from gateway.live.shelf import StreamShelf
from gateway.live.sink import EndReason
from gateway.live.stream import Stream
from gateway.live.subscription import End, Subscription
from gateway.media.track import AccessUnit, Kind, TimedData, Tracks
from gateway.outputs.dropped_units import DroppedUnits
from gateway.outputs.ladder.published_rendition import MAX_TIMED, PublishedRendition
from gateway.ports.errors import AtCapacity, NameInUse, OutputError
from gateway.protocols import wire
from gateway.protocols.wire import StreamMessage
from gateway.settings.ladders import STANDARD, LadderSettings
from gateway.settings.models import TranscodeSettings
from gateway.workers.ladder_plan import COPY, LadderPlan, LadderStep
from gateway.workers.messages import WorkerMessage
from gateway.workers.worker_pool import WorkerDied, WorkerPool, WorkerProcess

log = structlog.get_logger(__name__)

_MODULE: Final = "gateway.workers.programs.ladder.ladder_worker"
_MIN_UPTIME_SECONDS: Final = 5.0  # a worker that ran at least this long is replaced at once, any other after a pause
_FLUSH_SECONDS: Final = 5.0  # for the last pictures after the source's end, in addition to the backlog
_HANG_SECONDS: Final = 10.0  # a worker that reads nothing for this long counts as hung
_MAX_BYTES: Final = 32_000_000  # maximum bytes that wait for the worker
_SLOTS: Final = 16  # renditions of one worker; the slot is a rendition's number in the messages of the worker


def ladder_steps(ladders: Mapping[str, LadderSettings], channel: Channel) -> tuple[LadderStep, ...]:
    """Returns the renditions that a channel enables; none if `isCodec` is off.

    Raises OutputError for an unknown ladder.
    """
    if not channel.flag("isCodec"):
        return ()
    name = channel.text("ladder") or STANDARD
    if name not in ladders:
        raise OutputError(f"there is no ladder {name}; there are {', '.join(sorted(ladders))}")
    ladder = ladders[name]
    return tuple(
        LadderStep(r.name, r.width, r.height, r.bitrate, COPY if r.audio == "copy" else r.audio, ladder.vbv)
        for r in ladder.rungs
        if not r.flag or channel.flag(r.flag)
    )


@dataclass(frozen=True, slots=True)
class LadderKind:
    """The renditions that a LadderOutput makes.

    plan: returns the renditions of a channel, without slots. Raises OutputError.
    backlog: maximum seconds behind the source.
    for_viewers: True: encodes the stream that viewers get, without its sound; False: the publisher's stream.
    """

    plan: Callable[[Channel], LadderPlan]
    backlog: float
    for_viewers: bool = False


def channel_ladder_kind(ladders: Mapping[str, LadderSettings], settings: TranscodeSettings) -> LadderKind:
    """Returns the kind of the output `codec`: the renditions that the stored channel enables."""
    presets = {"libx264": settings.preset, "libx265": settings.hevc_preset}

    def plan(channel: Channel) -> LadderPlan:
        return LadderPlan(ladder_steps(ladders, channel), channel.codec, presets[channel.codec], settings.threads)

    return LadderKind(plan, settings.backlog)


def stream_wants_ladder(ladders: Mapping[str, LadderSettings], stream: Stream) -> bool:
    """Returns whether a stream is a source whose channel enables at least one rendition."""
    try:
        return stream.is_source and bool(ladder_steps(ladders, stream.channel))
    except OutputError:
        return True  # the output then reports the error


class LadderOutput:
    """The output `codec`: decodes the source once and publishes each rendition as a stream `<id>@<name>`.

    Renditions have the source's times and key frame positions, and they end with the source.
    A worker more than `kind.backlog` seconds behind drops whole GOPs, in all renditions together.
    A dead worker is replaced at once. Renditions continue at the next key frame with a discontinuity.

    shelf: of the renditions. dropped: counts dropped units by reason.
    """

    def __init__(
        self, stream: Stream, shelf: StreamShelf, workers: WorkerPool, kind: LadderKind, dropped: Counter
    ) -> None:
        self._stream = stream
        self._shelf = shelf
        self._workers = workers
        self._kind = kind
        self._fanout: Fanout = stream if kind.for_viewers else stream.original
        self._dropped = DroppedUnits(dropped)
        self._slots: dict[str, int] = {}
        self._renditions: dict[int, PublishedRendition] = {}
        self._plan: LadderPlan | None = None
        self._plan_error: str | None = None
        self._error: str | None = None
        self._active_renditions: frozenset[str] = frozenset()  # names of the renditions that the worker encodes
        self._counted = 0  # dropped units of the current subscription
        self._damaged = 0  # damaged units of the current worker
        self._damaged_before = 0  # those of earlier workers
        self._restarts = 0
        self._source: Tracks | None = None
        self._ending = EndReason.OUTPUT_OFF
        self._first_subscription: Subscription | None = None
        self._timed: deque[TimedData] = deque(maxlen=MAX_TIMED)  # for renditions that do not exist yet

    # ---- live.output ----

    def begin(self, stream: Stream) -> None:
        """Subscribes to the source from its first unit, before `run`."""
        self._first_subscription = self._subscribe()

    async def run(self, stream: Stream) -> None:
        """Encodes the ladder until the stream ends.

        Raises OutputError if no worker can start or workers die repeatedly.
        """
        try:
            self._plan = self._make_plan(stream.channel)
            while True:
                began = time.monotonic()
                try:
                    await self._run_worker()
                    return
                except WorkerDied as error:
                    if time.monotonic() - began < _MIN_UPTIME_SECONDS:
                        raise
                    self._restarts += 1
                    log.warning("ladder starts again", stream=stream.name, reason=str(error))
                    for rendition in self._renditions.values():
                        rendition.interrupted = True
        except (NameInUse, AtCapacity) as error:
            if stream.original.ended is None:
                raise OutputError(f"a rendition cannot be published: {error}") from error
        except OutputError:
            # The output restarts soon. Until then, the renditions stay.
            for rendition in self._renditions.values():
                rendition.close()
            self._renditions.clear()
            raise
        finally:
            first_subscription, self._first_subscription = self._first_subscription, None
            if first_subscription is not None:
                self._fanout.detach(first_subscription)
            for slot in list(self._renditions):
                self._end(slot)

    @property
    def active_steps(self) -> tuple[LadderStep, ...]:
        """The active renditions, smallest first; empty while unknown."""
        return tuple(r for r in self._plan.rungs if r.name in self._active_renditions) if self._plan is not None else ()

    def report(self) -> dict[str, Any]:
        """Returns the output's state for the session's status.

        `renditions`: name, size, and seconds behind the source. `larger`: names of renditions that are omitted, because
        they are larger than the source. `dropped` and `damaged`: units.
        `restarts`: of the worker. `error`: set if a rendition is missing, or if the worker is too slow.
        """
        active, plan = self._active_renditions, self._plan
        return {
            "larger": [step.name for step in plan.rungs if step.name not in active] if plan and active else [],
            "renditions": [r.report() for r in sorted(self._renditions.values(), key=lambda r: r.bitrate)],
            "dropped": self._dropped.count,
            "damaged": self._damaged_before + self._damaged,
            "restarts": self._restarts,
            "error": self._plan_error or self._error or self._dropped.error,
        }

    def channel_changed(self, channel: Channel) -> None:
        """Applies the new renditions or encoder at the next key frame. Unchanged renditions continue."""
        try:
            self._plan = self._make_plan(channel)
            self._plan_error = None
        except OutputError as error:
            self._plan_error = str(error)

    # ---- the worker ----

    def _make_plan(self, channel: Channel) -> LadderPlan:
        pushed = self._stream.pushed_tracks.by_name  # renditions that the publisher sends are not encoded
        plan = self._kind.plan(channel)
        steps = tuple(step for step in plan.rungs if step.name not in pushed)
        slots = {step.name: self._slots[step.name] for step in steps if step.name in self._slots}
        used = {*slots.values(), *self._renditions}
        for step in steps:
            if step.name not in slots:
                slots[step.name] = next(n for n in range(_SLOTS) if n not in used)
                used.add(slots[step.name])
        self._slots = slots
        return replace(plan, rungs=tuple(replace(step, slot=slots[step.name]) for step in steps))

    async def _run_worker(self) -> None:
        """Runs one worker until the source ends. Raises WorkerDied."""
        stream = self._stream
        self._damaged_before += self._damaged
        self._damaged = 0
        items, self._first_subscription = self._first_subscription or self._subscribe(), None
        self._counted = 0
        try:
            async with (
                self._workers.start(_MODULE, "ladder", stream=stream.name, hang_seconds=_HANG_SECONDS) as worker,
                Tasks(f"transcoder of {stream.name}") as tasks,
            ):
                tasks.start(self._count_drops_regularly(items), "drops")
                await worker.exchange(
                    self._send_source(worker, items),
                    {
                        StreamMessage.UNIT: self._push,
                        StreamMessage.TRACKS: self._set_tracks,
                        StreamMessage.END: lambda body: self._end(_slot(body)),
                        WorkerMessage.NOTE: self._handle_status,
                    },
                    _FLUSH_SECONDS + self._kind.backlog,
                )
        finally:
            self._count_drops(items)
            self._fanout.detach(items)

    async def _count_drops_regularly(self, items: Subscription) -> None:
        while True:
            await asyncio.sleep(0.5)
            self._count_drops(items)

    def _count_drops(self, items: Subscription) -> None:
        if items.dropped != self._counted:
            self._dropped.add(items.dropped - self._counted)
            self._counted = items.dropped

    def _subscribe(self) -> Subscription:
        items = Subscription(self._fanout, max_bytes=_MAX_BYTES, max_seconds=self._kind.backlog)
        self._fanout.attach(items)
        return items

    async def _send_source(self, worker: WorkerProcess, items: Subscription) -> None:
        """Sends the source to the worker, from a key frame on."""
        plan: LadderPlan | None = None
        sent_version: tuple[object, ...] | None = None
        published_until = self._last_published_ms()
        started, silent = False, self._kind.for_viewers  # silent: the worker gets no sound
        async for item in items:
            if plan is not self._plan and self._plan is not None:
                plan = self._plan
                await worker.send_json(WorkerMessage.SETUP, asdict(plan))
            if isinstance(item, AccessUnit):
                if silent and item.track.kind is not Kind.VIDEO:
                    continue
                if not started:
                    if (
                        not item.key
                        or item.track.kind is not Kind.VIDEO
                        or item.dts * 1000 <= published_until * item.track.timescale
                    ):
                        continue
                    started = True
                await worker.send_item(item)
            elif isinstance(item, Tracks):
                self._source = item = replace(item, audio=None) if silent else item
                version = (item.video, item.audio, item.epoch)
                if version != sent_version:
                    sent_version = version
                    known = {k: v for k, v in item.metadata.items() if k == "videodatarate"}
                    await worker.send_item(replace(item, metadata=known))
                else:
                    for rendition in self._renditions.values():
                        rendition.set_metadata(item.metadata)
            elif isinstance(item, TimedData):
                for queue in (self._timed, *(rendition.timed for rendition in self._renditions.values())):
                    queue.append(item)
            elif isinstance(item, End):
                self._ending = item.reason
                await worker.send_end()

    def _last_published_ms(self) -> int:
        """Returns the last decode time, in ms, that earlier workers published; -1 if none."""
        names = [f"{self._stream.channel.id}@{step}" for step in self._slots]
        existing = [rendition for name in names if (rendition := self._shelf.find(name)) is not None]
        return max((rendition.received.last_dts_ms for rendition in existing), default=-1)

    def _push(self, body: bytes) -> None:
        rendition = self._renditions.get(_slot(body))
        if rendition is not None:
            rendition.push(wire.decode_unit(body, rendition.tracks))

    def _set_tracks(self, body: bytes) -> None:
        """Sets the tracks of a rendition, and publishes a new rendition."""
        slot, tracks = _slot(body), wire.decode_tracks(body)
        name = next((n for n, s in self._slots.items() if s == slot), None)
        if name is None:
            return  # the rendition was removed from the plan
        rendition = self._renditions.get(slot)
        if rendition is None:
            rendition = self._renditions[slot] = PublishedRendition(self._shelf, self._stream, name, self._timed)
        rendition.set_tracks(tracks, self._source.metadata if self._source is not None else {})

    def _end(self, slot: int) -> None:
        rendition = self._renditions.pop(slot, None)
        if rendition is not None and rendition.active:
            self._shelf.end(rendition.name, self._ending)

    def _handle_status(self, body: bytes) -> None:
        status = wire.read_json(body)
        if "rungs" in status:
            self._active_renditions = frozenset(map(str, status["rungs"]))
        if "damaged" in status:
            self._damaged = max(0, int(status["damaged"]))
        if "error" in status:
            before, self._error = self._error, status["error"] and str(status["error"])[:300]
            if self._error not in (None, before):
                log.warning("a rendition is missing in the ladder", stream=self._stream.name, reason=self._error)


def _slot(body: bytes) -> int:
    """Returns the slot of a message: the number of the only set bit of its destination."""
    return wire.destination(body).bit_length() - 1
