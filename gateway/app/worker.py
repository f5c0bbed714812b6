"""A media worker on another machine: reads a stream from the gateway that holds it, and publishes renditions there."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import structlog

from gateway.adapters.secret_resolver import SecretResolver
from gateway.app import process
from gateway.channels.names import is_channel_id
from gateway.cluster.node_address import NodeAddress
from gateway.cluster.peers import Peers
from gateway.cluster.rendition_push import RenditionPush
from gateway.cluster.source_pull import SourcePull
from gateway.lib.metric_table import DROPPED, WORKER_RESTARTS
from gateway.lib.metrics import Counter
from gateway.lib.tasks import Tasks
from gateway.live.hub import Hub, StreamLimits
from gateway.live.output import OutputSpec
from gateway.outputs.ladder.ladder_output import LadderOutput
from gateway.outputs.ladder.ladder_output import stream_wants_ladder as has_ladder
from gateway.outputs.ladder.remote_ladder import CODEC, FLAGS, KIND, TEXTS
from gateway.ports.errors import GatewayError, StoreUnusable
from gateway.ports.events import Events
from gateway.settings import Settings
from gateway.settings.ladders import load_ladders
from gateway.settings.option_types import host_port
from gateway.workers.worker_pool import WorkerPool

log = structlog.get_logger(__name__)

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
_LINGER: Final = 10.0  # seconds for which rungs are kept while the gateway is unreachable
_FINISH: Final = 10.0  # seconds for the last pictures


@dataclass(frozen=True, slots=True)
class Assignment:
    """The task of a worker, from the original's environment variables. item: the channel's fields that they contain."""

    item: Mapping[str, Any]
    place: NodeAddress

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Assignment:
        """Reads the environment variables. Raises StoreUnusable where they are wrong."""
        kind = environ.get("TASK_TYPE", KIND)
        if kind != KIND:
            raise StoreUnusable(f"TASK_TYPE is {kind[:32]!r}: a worker does {KIND}; gateways do the rest themselves")
        channel, address = environ.get("CHANNEL_NAME", ""), environ.get("ADDRESS", "")
        if not is_channel_id(channel):
            raise StoreUnusable("CHANNEL_NAME is not set to the id of a channel")
        try:
            host_port(address)
        except ValueError:
            raise StoreUnusable("ADDRESS is not set to the host:port of a gateway") from None
        fields = {**FLAGS, **TEXTS, CODEC: "codec", "LOG_LEVEL": "logLevel"}
        item = {field: environ[name] for name, field in fields.items() if environ.get(name)}
        return cls({"isCodec": True, **item, "id": channel}, NodeAddress("gateway", address))


def run(settings: Settings, environ: Mapping[str, str] | None = None) -> int:
    """Works until the stream ends, its gateway is gone, or SIGTERM. Returns the exit code."""

    async def checked() -> int:
        assignment = Assignment.of(os.environ if environ is None else environ)
        if not settings.cluster.secret.get_secret_value():
            raise StoreUnusable("cluster.secret is not set: no gateway would answer")
        return await work(settings, assignment)

    return process.run(settings, checked)


async def work(settings: Settings, assignment: Assignment) -> int:
    """Does the work of `run`. Raises WrongClusterSecret where the gateway has a different secret.

    Raises SettingsError for an invalid file of ladders.
    """
    workers = WorkerPool(settings.workers, Counter(WORKER_RESTARTS))
    dropped, ladders = Counter(DROPPED), load_ladders(settings.transcode.ladders)
    stream = settings.stream
    hub = Hub(StreamLimits(0, _LINGER, stream.gop_seconds, stream.gop_bytes), (), Events())
    async with SecretResolver(settings) as vault, Peers(vault.cluster) as peers, Tasks("worker", _crashed) as tasks:
        tasks.start(vault.run(), "secrets")
        hub.offer(
            [
                OutputSpec(
                    "codec",
                    lambda s: LadderOutput(s, hub, workers, ladders, settings.transcode, dropped),
                    lambda s: has_ladder(ladders, s),
                ),
                OutputSpec(
                    "delivery", lambda s: RenditionPush(peers, assignment.place, dropped), lambda s: not s.is_source
                ),
            ]
        )
        running = tasks.start(hub.run(), "hub")
        pulling = tasks.start(SourcePull(hub, peers, assignment.place, assignment.item).run(), "source")
        told, loop = asyncio.Event(), asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, told.set)
        log.info("working", channel=assignment.item["id"], gateway=assignment.place.address)
        await asyncio.wait((pulling, tasks.start(told.wait(), "signal")), return_when=asyncio.FIRST_COMPLETED)
        why = pulling.result() if pulling.done() else "told to stop"
        log.info("work is over", channel=assignment.item["id"], reason=why)
        hub.drain()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FINISH):
                await hub.drained()
        running.cancel()
    for number in _SIGNALS:  # a StopTask during the end must not look like a crash
        loop.remove_signal_handler(number)
        signal.signal(number, signal.SIG_IGN)
    return 0


def _crashed(name: str, error: BaseException) -> None:
    if not isinstance(error, GatewayError):  # the task that waits for it reports it
        process.crashed(name, error)
