"""The output `codec`: has a worker process make the ladder of a source, and publishes each rung as a stream."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import structlog

from gateway.lib.metrics import Counter
from gateway.lib.tasks import Tasks
from gateway.live.sink import EndReason
from gateway.live.subscription import End, Subscription
from gateway.media.track import Kind, Tracks
from gateway.media.unit import AccessUnit, Timed
from gateway.outputs.ladder.published_rendition import MAX_TIMED, PublishedRendition
from gateway.ports.errors import AtCapacity, NameInUse, OutputError
from gateway.protocols import wire
from gateway.protocols.wire import StreamMessage
from gateway.settings.ladders import STANDARD, LadderSettings
from gateway.settings.models import TranscodeSettings
from gateway.workers.ladder_plan import COPY, LadderMessage, LadderPlan, LadderStep
from gateway.workers.worker_pool import WorkerDied, WorkerPool, WorkerProcess

if TYPE_CHECKING:
    from gateway.channels.channel import Channel
    from gateway.live.hub import Hub
    from gateway.live.stream import Stream

log = structlog.get_logger(__name__)

_MODULE: Final = "gateway.workers.programs.ladder.ladder_worker"
_HEALTHY: Final = 5.0  # seconds; a worker that lived this long is replaced at once, any other after a pause
_LAST_PICTURES: Final = 5.0  # seconds that a worker has for them after the source's end, besides its backlog
_STUCK: Final = 10.0  # seconds; a worker that reads nothing for this long is hung
_MAX_BYTES: Final = 32_000_000  # that may wait for the worker
_SLOTS: Final = 16


def ladder_steps(ladders: Mapping[str, LadderSettings], channel: Channel) -> tuple[LadderStep, ...]:
    """Returns the rungs that a channel asks for, none if `isCodec` is off.

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


def stream_wants_ladder(ladders: Mapping[str, LadderSettings], stream: Stream) -> bool:
    """Whether a stream gets a ladder: it is a source, not a rendition, and its channel asks for at least one rung."""
    try:
        return stream.is_source and bool(ladder_steps(ladders, stream.channel))
    except OutputError:
        return True  # the output then reports what is wrong


class LadderOutput:
    """The output `codec`: decodes the source once and publishes each rung as a stream `<id>@<rung>`.

    Renditions have the source's times and its key frame positions, and they end with the source.
    A worker that is more than `settings.backlog` seconds behind loses whole groups of pictures, the same in all rungs.
    A worker that dies is replaced at once: the renditions go on at the source's next key frame, with one discontinuity.
    """

    def __init__(
        self,
        stream: Stream,
        hub: Hub,
        workers: WorkerPool,
        ladders: Mapping[str, LadderSettings],
        settings: TranscodeSettings,
        dropped: Counter,
    ) -> None:
        """dropped: counts dropped units by reason."""
        self._stream = stream
        self._hub = hub
        self._workers = workers
        self._ladders = ladders
        self._presets = {"libx264": settings.preset, "libx265": settings.hevc_preset}
        self._threads = settings.threads
        self._backlog = settings.backlog
        self._dropped = dropped
        self._slots: dict[str, int] = {}
        self._renditions: dict[int, PublishedRendition] = {}
        self._plan: LadderPlan | None = None
        self._plan_error: str | None = None
        self._error: str | None = None
        self._made: frozenset[str] = frozenset()  # names of the rungs that are made of this source
        self._lost = 0
        self._counted = 0  # the part of `_lost` that belongs to the present subscription
        self._damaged = 0
        self._damaged_before = 0
        self._restarts = 0
        self._source: Tracks | None = None
        self._ending = EndReason.OUTPUT_OFF
        self._early: Subscription | None = None
        self._timed: deque[Timed] = deque(maxlen=MAX_TIMED)  # for renditions that do not exist yet

    # ---- live.output ----

    def begin(self, stream: Stream) -> None:
        """Takes the source from its first unit on; `run` follows."""
        self._early = self._subscribe()

    async def run(self, stream: Stream) -> None:
        """Makes the ladder until the stream ends. Raises OutputError if no worker can start or workers die
        repeatedly.
        """
        try:
            self._plan = self._make_plan(stream.channel)
            while True:
                began = time.monotonic()
                try:
                    await self._with_worker()
                    return
                except WorkerDied as error:
                    if time.monotonic() - began < _HEALTHY:
                        raise
                    self._restarts += 1
                    log.warning("ladder starts again", stream=stream.name, reason=str(error))
                    for rendition in self._renditions.values():
                        rendition.interrupted = True
        except (NameInUse, AtCapacity) as error:
            if stream.original.ended is None:
                raise OutputError(f"a rendition cannot be published: {error}") from error
        except OutputError:
            # The output is started again soon: the renditions linger until then.
            for rendition in self._renditions.values():
                rendition.close()
            self._renditions.clear()
            raise
        finally:
            early, self._early = self._early, None
            if early is not None:
                stream.original.detach(early)
            for slot in list(self._renditions):
                self._end(slot)

    @property
    def rungs(self) -> tuple[LadderStep, ...]:
        """The rungs that are made of this source, the smallest first; empty while that is not known."""
        return tuple(r for r in self._plan.rungs if r.name in self._made) if self._plan is not None else ()

    def report(self) -> dict[str, Any]:
        """Returns the output's state for the session's status.

        `renditions`: name, size, and seconds behind the source. `dropped` and `damaged`: units.
        `restarts`: of the worker. `error`: set if something is left out.
        """
        return {
            "renditions": [r.report() for r in sorted(self._renditions.values(), key=lambda r: r.bitrate)],
            "dropped": self._lost,
            "damaged": self._damaged_before + self._damaged,
            "restarts": self._restarts,
            "error": self._plan_error or self._error,
        }

    def channel_changed(self, channel: Channel) -> None:
        """Takes other rungs or another encoder at the source's next key frame; rungs that stay are not disturbed."""
        try:
            self._plan = self._make_plan(channel)
            self._plan_error = None
        except OutputError as error:
            self._plan_error = str(error)

    # ---- the worker ----

    def _make_plan(self, channel: Channel) -> LadderPlan:
        rungs = ladder_steps(self._ladders, channel)
        slots = {rung.name: self._slots[rung.name] for rung in rungs if rung.name in self._slots}
        taken = {*slots.values(), *self._renditions}
        for rung in rungs:
            if rung.name not in slots:
                slots[rung.name] = next(n for n in range(_SLOTS) if n not in taken)
                taken.add(slots[rung.name])
        self._slots = slots
        placed = tuple(replace(rung, slot=slots[rung.name]) for rung in rungs)
        return LadderPlan(placed, channel.codec, self._presets[channel.codec], self._threads)

    async def _with_worker(self) -> None:
        stream = self._stream
        self._damaged_before += self._damaged
        self._damaged = 0
        with self._subscribed() as items:
            async with (
                self._workers.start(_MODULE, "ladder", stream=stream.name, stuck=_STUCK) as worker,
                Tasks(f"transcoder of {stream.name}") as tasks,
            ):
                tasks.start(self._watch(items), "watch")
                await worker.exchange(
                    self._feed(worker, items),
                    {
                        StreamMessage.UNIT: self._push,
                        StreamMessage.TRACKS: self._announce,
                        StreamMessage.END: self._take_end,
                        LadderMessage.NOTE: self._take_note,
                    },
                    _LAST_PICTURES + self._backlog,
                )

    async def _watch(self, items: Subscription) -> None:
        while True:
            await asyncio.sleep(0.5)
            self._count_drops(items)

    def _count_drops(self, items: Subscription) -> None:
        if items.dropped != self._counted:
            self._lost += items.dropped - self._counted
            self._dropped.add("output", amount=items.dropped - self._counted)
            self._counted = items.dropped

    def _subscribe(self) -> Subscription:
        original = self._stream.original
        items = Subscription(original, max_bytes=_MAX_BYTES, max_seconds=self._backlog)
        original.attach(items)
        return items

    @contextmanager
    def _subscribed(self) -> Iterator[Subscription]:
        items, self._early = self._early or self._subscribe(), None
        self._counted = 0
        try:
            yield items
        finally:
            self._count_drops(items)
            self._stream.original.detach(items)

    async def _feed(self, worker: WorkerProcess, items: Subscription) -> None:
        """Sends the source to the worker, from a key frame on."""
        plan: LadderPlan | None = None
        told: Tracks | None = None
        done = self._reached()
        begun = False
        async for item in items:
            if plan is not self._plan and self._plan is not None:
                plan = self._plan
                await worker.send_json(LadderMessage.PLAN, plan.to_json())
            if isinstance(item, AccessUnit):
                if not begun:
                    if (
                        not item.key
                        or item.track.kind is not Kind.VIDEO
                        or item.dts * 1000 <= done * item.track.timescale
                    ):
                        continue
                    begun = True
                await worker.send_item(item)
            elif isinstance(item, Tracks):
                self._source = item
                if told is None or (told.video, told.audio, told.epoch) != (item.video, item.audio, item.epoch):
                    told = item
                    if item.video is None:
                        self._error = "the source has no picture: there is nothing to make a ladder of"
                    await worker.send_item(replace(item, metadata={}))
                else:
                    for rendition in self._renditions.values():
                        rendition.describe(item.metadata)
            elif isinstance(item, Timed):
                for waiting in (self._timed, *(rendition.timed for rendition in self._renditions.values())):
                    waiting.append(item)
            elif isinstance(item, End):
                self._ending = item.reason
                await worker.send_end()

    def _reached(self) -> int:
        """Returns the last decode time, in ms, that renditions have from earlier workers; -1 if there are no
        renditions.
        """
        names = [f"{self._stream.channel.id}@{rung}" for rung in self._slots]
        there = [rendition for name in names if (rendition := self._hub.find(name)) is not None]
        return max((rendition.last_dts_ms for rendition in there), default=-1)

    def _push(self, body: bytes) -> None:
        rendition = self._renditions.get(_slot(body))
        if rendition is not None:
            rendition.push(wire.decode_unit(body, rendition.tracks))

    def _announce(self, body: bytes) -> None:
        slot, tracks = _slot(body), wire.decode_tracks(body)
        name = next((n for n, s in self._slots.items() if s == slot), None)
        if name is None:
            return  # not wanted any more
        rendition = self._renditions.get(slot)
        if rendition is None:
            rendition = self._renditions[slot] = PublishedRendition(self._hub, self._stream, name, self._timed)
        rendition.announce(tracks, self._source.metadata if self._source is not None else {})

    def _take_end(self, body: bytes) -> None:
        self._end(_slot(body))

    def _end(self, slot: int) -> None:
        rendition = self._renditions.pop(slot, None)
        if rendition is not None and rendition.held:
            self._hub.end(rendition.name, self._ending)

    def _take_note(self, body: bytes) -> None:
        note = wire.read_json(body)
        if "rungs" in note:
            self._made = frozenset(map(str, note["rungs"]))
        if "damaged" in note:
            self._damaged = int(note["damaged"])
        if "error" in note:
            self._error = note["error"] and str(note["error"])[:300]
            if self._error is not None:
                log.warning("ladder leaves something out", stream=self._stream.name, reason=self._error)


def _slot(body: bytes) -> int:
    return wire.destination(body).bit_length() - 1
