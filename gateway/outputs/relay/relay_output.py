"""The output `relay`: sends a stream to servers of RTMP(S), SRT and Media over QUIC, with unchanged media and times."""

from __future__ import annotations

import asyncio
import ssl
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

import structlog

from gateway.channels.channel import Channel
from gateway.formats.flv import muxer
from gateway.lib.egress import Egress
from gateway.lib.metric_table import BYTES_OUT, DROPPED, RELAY_TARGETS, MetricSample
from gateway.lib.tasks import Tasks
from gateway.live.output import OutputState
from gateway.live.stream import Stream
from gateway.media.track import AccessUnit
from gateway.outputs.relay.relay_target import RelayContext, RelayTarget, TargetState
from gateway.ports.events import Events
from gateway.ports.stores import IvsDirectory
from gateway.protocols.srt.url import LatencyRange
from gateway.settings.models import RelaySettings

log = structlog.get_logger(__name__)

_FINISH_SECONDS: Final = 15.0  # after the stream's end, for waiting media
_SHARED_UNITS: Final = 256
_SHARED_BYTES: Final = 2_000_000


class RelayFactory:
    """Makes the relays of all streams and counts their bytes and drops.

    tls: trusted authorities for outgoing connections; None: the system's.
    ivs: the directory of IVS channels; None without AWS.
    latency: of SRT targets.
    """

    def __init__(
        self,
        relay: RelaySettings,
        egress: Egress,
        events: Events,
        tls: ssl.SSLContext | None = None,
        ivs: IvsDirectory | None = None,
        latency: LatencyRange = LatencyRange(),  # noqa: B008,
    ) -> None:
        self.context = RelayContext(relay, egress, events, ivs, self._tls_context, latency)
        self._tls = tls
        self.running: set[RelayOutput] = set()
        self._sent = 0  # bytes of ended targets
        self._dropped = 0

    def _tls_context(self) -> ssl.SSLContext:
        """Returns the TLS context. The first RTMPS target creates it, because loading the authorities is slow."""
        self._tls = self._tls or ssl.create_default_context()
        return self._tls

    def make(self, stream: Stream) -> RelayOutput:
        """Returns the relay of one stream."""
        return RelayOutput(self)

    def count(self, target: RelayTarget) -> None:
        """Adds the counters of an ended target."""
        self._sent += target.sent
        self._dropped += target.dropped

    def samples(self) -> Iterator[MetricSample]:
        """Yields the metric samples of all relays."""
        current = [target for output in self.running for target in output.targets.values()]
        states = Counter(target.state for target in current)
        for state in TargetState:
            yield MetricSample(RELAY_TARGETS, states[state], (str(state),))
        yield MetricSample(BYTES_OUT, self._sent + sum(t.sent for t in current), ("relay",))
        yield MetricSample(DROPPED, self._dropped + sum(t.dropped for t in current), ("output",))


class RelayOutput:
    """All relay targets of one stream. Each has its own task, so a target never affects the others."""

    def __init__(self, relays: RelayFactory) -> None:
        self._relays = relays
        self.targets: dict[str, RelayTarget] = {}
        self._tasks: Tasks | None = None
        self._running: dict[str, asyncio.Task[object]] = {}
        self._bodies = FlvBodyCache()
        self._stream: Stream | None = None

    def begin(self, stream: Stream) -> None:
        """Subscribes all targets, so that they get units from before `run`."""
        self._stream = stream
        for address in stream.channel.relay_targets:
            self._add(address, stream).begin()

    async def run(self, stream: Stream) -> None:
        self._stream = stream
        self._relays.running.add(self)
        try:
            async with Tasks(f"relay of {stream.name}") as tasks:
                self._tasks = tasks
                for address, target in self.targets.items():
                    self._running[address] = tasks.start(target.run(), target.shown)
                self.channel_changed(stream.channel)
                await stream.over()
                self._tasks = None
                try:
                    async with asyncio.timeout(_FINISH_SECONDS):
                        await tasks.idle()
                except TimeoutError:
                    unfinished = [t.shown for address, t in self.targets.items() if not self._running[address].done()]
                    log.warning("relay did not send everything to its targets", stream=stream.name, targets=unfinished)
        finally:
            self._tasks = None
            for target in self.targets.values():
                self._relays.count(target)
            self._relays.running.discard(self)
            self._bodies.clear()

    def channel_changed(self, channel: Channel) -> None:
        """Starts new targets and ends removed ones. Other targets continue."""
        if self._tasks is None or self._stream is None:
            return
        addresses = channel.relay_targets
        for address in [t for t in self.targets if t not in addresses]:
            target = self.targets.pop(address)
            log.info("relay target removed", stream=self._stream.name, target=target.shown)
            task = self._running.pop(address)
            task.cancel()
            task.add_done_callback(lambda _, target=target: self._relays.count(target))  # type: ignore[misc]
        for address in addresses:
            if address not in self.targets:
                target = self._add(address, self._stream)
                self._running[address] = self._tasks.start(target.run(), target.shown)
        self.targets = {address: self.targets[address] for address in addresses}
        self._bodies.shared = len(addresses) > 1

    def report(self) -> dict[str, Any]:
        """Returns `targets`, and an `error` and the state of the relay if none of them works."""
        reports = [target.report() for target in self.targets.values()]
        status: dict[str, Any] = {"targets": reports}
        failing = [target for target in self.targets.values() if target.fault.error is not None]
        if not reports and self._tasks is not None and not self._has_addresses():
            status |= {"error": "the channel has no relayURL", "state": OutputState.FAILED}
        elif failing:
            status["faults"] = {target.shown: target.fault.error for target in failing}
            if len(failing) == len(reports):
                subject = "the target" if len(reports) == 1 else f"none of {len(reports)} targets"
                verb = "does not take" if len(reports) == 1 else "takes"
                status["error"] = f"{subject} {verb} the stream: {failing[0].fault.error}"
                final = all(target.state is TargetState.FAILED for target in failing)
                status["state"] = OutputState.FAILED if final else OutputState.RETRYING
        return status

    def _has_addresses(self) -> bool:
        """Whether the channel has targets. All of them may be off (`relayOff`)."""
        return self._stream is not None and bool(self._stream.channel.item.get("relayURL"))

    def _add(self, address: str, stream: Stream) -> RelayTarget:
        target = self.targets[address] = RelayTarget(address, stream, self._relays.context, self._bodies.of)
        return target


class FlvBodyCache:
    """Caches the FLV bodies of the latest units, so that each is built once for all targets of a stream.

    The cache is bounded in units and bytes. A slow target builds its bodies again.
    """

    def __init__(self) -> None:
        self.shared = False  # a single target needs no cache
        self._bodies_by_id: dict[int, tuple[AccessUnit, bytes]] = {}
        self._bytes = 0

    def of(self, unit: AccessUnit) -> bytes:
        """Returns the FLV body of a unit. Hot path."""
        if not self.shared:
            return muxer.unit_body(unit)
        found = self._bodies_by_id.get(id(unit))
        if found is not None and found[0] is unit:
            return found[1]
        body = muxer.unit_body(unit)
        self._bodies_by_id[id(unit)] = (unit, body)
        self._bytes += len(body)
        while len(self._bodies_by_id) > _SHARED_UNITS or self._bytes > _SHARED_BYTES:
            _, old = self._bodies_by_id.pop(next(iter(self._bodies_by_id)))
            self._bytes -= len(old)
        return body

    def clear(self) -> None:
        self._bodies_by_id.clear()
        self._bytes = 0
