"""The output `relay`: sends what a publisher sends to other RTMP(S) servers, with unchanged media and times."""

from __future__ import annotations

import asyncio
import ssl
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

import structlog

from gateway.channels import fields
from gateway.channels.channel import Channel
from gateway.formats.flv import muxer
from gateway.lib.egress import Egress
from gateway.lib.metric_table import BYTES_OUT, DROPPED, RELAY_TARGETS, MetricSample
from gateway.lib.tasks import Tasks
from gateway.live.stream import Stream
from gateway.media.unit import AccessUnit
from gateway.outputs.relay.relay_target import RelayOptions, RelayTarget, TargetState
from gateway.ports.stores import IvsDirectory
from gateway.settings import models

log = structlog.get_logger(__name__)

_FINISH_SECONDS: Final = 15.0  # after the stream's end, for the media that still waits
_SHARED_UNITS: Final = 256
_SHARED_BYTES: Final = 2_000_000


def targets(channel: Channel) -> list[str]:
    """Returns the channel's relay targets without duplicates.

    Does not look at `isRelay`: the output can be switched while the stream is live.
    """
    return list(dict.fromkeys(fields.read("relayURL", channel.item, fields.RELAY_URL)))


class RelayFactory:
    """Makes the relays of all streams and counts what they do.

    tls: what outgoing connections trust; None: the system's authorities.
    ivs: the directory of IVS channels; None if AWS is not available.
    """

    def __init__(
        self,
        settings: models.RelaySettings,
        egress: Egress,
        tls: ssl.SSLContext | None = None,
        ivs: IvsDirectory | None = None,
    ) -> None:
        self._options = RelayOptions(
            chunk_size=settings.chunk_size,
            timeout=settings.timeout,
            stall=settings.stall,
            retry=settings.retry,
            backlog=settings.backlog,
            tls=self._trust,
        )
        self._tls = tls
        self._egress, self._ivs = egress, ivs
        self._running: set[RelayOutput] = set()
        self._sent = 0  # bytes of targets that are gone
        self._dropped = 0

    def _trust(self) -> ssl.SSLContext:
        """Returns the TLS context. It is made at the first RTMPS target, because reading the system's authorities is
        slow.
        """
        self._tls = self._tls or ssl.create_default_context()
        return self._tls

    def make(self, stream: Stream) -> RelayOutput:
        """Returns the relay of one stream."""
        return RelayOutput(self)

    def target(self, text: str, stream: Stream, bodies: FlvBodyCache) -> RelayTarget:
        return RelayTarget(text, stream, self._options, self._egress, self._ivs, bodies.of)

    def came(self, output: RelayOutput) -> None:
        self._running.add(output)

    def gone(self, output: RelayOutput) -> None:
        self._running.discard(output)

    def count(self, target: RelayTarget) -> None:
        """Adds the counters of a target that is gone."""
        self._sent += target.sent
        self._dropped += target.dropped

    def samples(self) -> Iterator[MetricSample]:
        """Yields the metric samples of all relays."""
        now = [target for output in self._running for target in output.targets.values()]
        states = Counter(target.state for target in now)
        for state in TargetState:
            yield MetricSample(RELAY_TARGETS, states[state], (str(state),))
        yield MetricSample(BYTES_OUT, self._sent + sum(t.sent for t in now), ("relay",))
        yield MetricSample(DROPPED, self._dropped + sum(t.dropped for t in now), ("output",))


class RelayOutput:
    """All relay targets of one stream. Each is a task of its own, so one target never affects the others."""

    def __init__(self, relays: RelayFactory) -> None:
        self._relays = relays
        self.targets: dict[str, RelayTarget] = {}
        self._tasks: Tasks | None = None
        self._running: dict[str, asyncio.Task[object]] = {}
        self._bodies = FlvBodyCache()
        self._stream: Stream | None = None

    def begin(self, stream: Stream) -> None:
        """Subscribes all targets, so that units that arrive before `run` are kept."""
        self._stream = stream
        for text in targets(stream.channel):
            self._add(text, stream).begin()

    async def run(self, stream: Stream) -> None:
        self._stream = stream
        self._relays.came(self)
        try:
            async with Tasks(f"relay of {stream.name}", self._crashed) as tasks:
                self._tasks = tasks
                for text, target in self.targets.items():
                    self._running[text] = tasks.start(target.run(), target.shown)
                self.channel_changed(stream.channel)
                await stream.over()
                self._tasks = None
                try:
                    async with asyncio.timeout(_FINISH_SECONDS):
                        await tasks.idle()
                except TimeoutError:
                    late = [t.shown for text, t in self.targets.items() if not self._running[text].done()]
                    log.warning("relay did not get all to its targets", stream=stream.name, targets=late)
        finally:
            self._tasks = None
            for target in self.targets.values():
                self._relays.count(target)
            self._relays.gone(self)
            self._bodies.clear()

    def channel_changed(self, channel: Channel) -> None:
        """Starts new targets and ends removed ones; the others are not disturbed."""
        if self._tasks is None or self._stream is None:
            return
        wanted = targets(channel)
        for text in [t for t in self.targets if t not in wanted]:
            target = self.targets.pop(text)
            log.info("relay target removed", stream=self._stream.name, target=target.shown)
            task = self._running.pop(text)
            task.cancel()
            task.add_done_callback(lambda _, target=target: self._relays.count(target))  # type: ignore[misc]
        for text in wanted:
            if text not in self.targets:
                target = self._add(text, self._stream)
                self._running[text] = self._tasks.start(target.run(), target.shown)
        self.targets = {text: self.targets[text] for text in wanted}
        self._bodies.shared = len(wanted) > 1

    def report(self) -> dict[str, Any]:
        """Returns `targets`, and an `error` if none of them is live."""
        shown = [target.report() for target in self.targets.values()]
        told: dict[str, Any] = {"targets": shown}
        hindered = [t for t in shown if t["state"] in (TargetState.RETRYING, TargetState.FAILED) or t["error"]]
        if not shown and self._tasks is not None:
            told["error"] = "the channel has no relayURL"
        elif hindered and len(hindered) == len(shown):
            which = "the target" if len(shown) == 1 else f"none of {len(shown)} targets"
            verb = "does not take" if len(shown) == 1 else "takes"
            told["error"] = f"{which} {verb} the stream: {hindered[0]['error']}"
        return told

    def _add(self, text: str, stream: Stream) -> RelayTarget:
        target = self.targets[text] = self._relays.target(text, stream, self._bodies)
        return target

    def _crashed(self, name: str, error: BaseException) -> None:
        log.error("a relay's task failed", task=name, exc_info=error)


class FlvBodyCache:
    """Caches the FLV bodies of the latest units, so that each is made once for all targets of a stream.

    The cache is bounded in units and bytes: a target that lags behind makes its bodies again.
    """

    def __init__(self) -> None:
        self.shared = False  # one target alone needs no cache
        self._made: dict[int, tuple[AccessUnit, bytes]] = {}
        self._bytes = 0

    def of(self, unit: AccessUnit) -> bytes:
        """Returns the FLV body of a unit. Hot path."""
        if not self.shared:
            return muxer.unit_body(unit)
        found = self._made.get(id(unit))
        if found is not None and found[0] is unit:
            return found[1]
        body = muxer.unit_body(unit)
        self._made[id(unit)] = (unit, body)
        self._bytes += len(body)
        while len(self._made) > _SHARED_UNITS or self._bytes > _SHARED_BYTES:
            _, old = self._made.pop(next(iter(self._made)))
            self._bytes -= len(old)
        return body

    def clear(self) -> None:
        self._made.clear()
        self._bytes = 0
