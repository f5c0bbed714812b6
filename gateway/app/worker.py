"""A media worker on another machine. It reads a stream from a gateway and publishes renditions to it."""

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
from gateway.cluster.members.node_address import NodeAddress
from gateway.cluster.members.peers import Peers
from gateway.cluster.streams.forward import RenditionPush
from gateway.cluster.streams.source_pull import SourcePull
from gateway.lib import held_signals
from gateway.lib.metric_table import DROPPED, WORKER_RESTARTS
from gateway.lib.metrics import Counter
from gateway.lib.tasks import Tasks, log_failure
from gateway.live.output import OutputSpec
from gateway.live.shelf import StreamLimits, StreamShelf
from gateway.outputs.ladder.ladder_output import LadderOutput, channel_ladder_kind
from gateway.outputs.ladder.ladder_output import stream_wants_ladder as has_ladder
from gateway.outputs.ladder.remote_ladder import CODEC, FLAGS, KIND, TEXTS
from gateway.ports.errors import GatewayError, StoreUnusable
from gateway.settings import Settings
from gateway.settings.ladders import load_ladders
from gateway.settings.option_types import host_port
from gateway.workers.worker_pool import WorkerPool

log = structlog.get_logger(__name__)

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
_LINGER_SECONDS: Final = 10.0  # seconds for which renditions stay while the gateway is unreachable
_DRAIN_SECONDS: Final = 10.0  # seconds in which the last frames must be sent


@dataclass(frozen=True, slots=True)
class Assignment:
    """The assignment of a worker, from environment variables. item: the channel fields in the variables."""

    item: Mapping[str, Any]
    gateway: NodeAddress

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Assignment:
        """Reads the environment variables. Raises StoreUnusable if they are invalid."""
        kind = environ.get("TASK_TYPE", KIND)
        if kind != KIND:
            raise StoreUnusable(f"TASK_TYPE is {kind[:32]!r}: a worker supports only {KIND}")
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
    """Runs the worker until the stream ends, the gateway disconnects or SIGTERM arrives. Returns the exit code."""

    async def check_and_work() -> int:
        assignment = Assignment.of(os.environ if environ is None else environ)
        if not settings.cluster.secret.get_secret_value():
            raise StoreUnusable("cluster.secret is not set: gateways would refuse this worker")
        return await work(settings, assignment)

    return process.run(settings, check_and_work)


async def work(settings: Settings, assignment: Assignment) -> int:
    """Runs the worker. Raises WrongClusterSecret if the gateway has a different secret.

    Raises SettingsError if the ladder file is invalid.
    """
    workers = WorkerPool(settings.workers, Counter(WORKER_RESTARTS))
    dropped, ladders = Counter(DROPPED), load_ladders(settings.transcode.ladders)
    stream, kind = settings.stream, channel_ladder_kind(ladders, settings.transcode)
    shelf = StreamShelf(StreamLimits(0, _LINGER_SECONDS, stream.gop_seconds, stream.gop_bytes))
    stop_requested, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in _SIGNALS:
        loop.add_signal_handler(number, stop_requested.set)
    held_signals.deliver()
    async with SecretResolver(settings) as secrets, Peers(secrets.cluster) as peers, Tasks("worker", _crashed) as tasks:
        tasks.keep(secrets.run, "secrets")
        shelf.add_outputs(
            [
                OutputSpec(
                    "codec", lambda s: LadderOutput(s, shelf, workers, kind, dropped), lambda s: has_ladder(ladders, s)
                ),
                OutputSpec(
                    "delivery", lambda s: RenditionPush(peers, assignment.gateway, dropped), lambda s: not s.is_source
                ),
            ]
        )
        shelf_task = tasks.keep(shelf.run, "streams")
        pulling = tasks.start(SourcePull(shelf, peers, assignment.gateway, assignment.item).run(), "source")
        log.info("worker started", channel=assignment.item["id"], gateway=assignment.gateway.address)
        await asyncio.wait((pulling, tasks.start(stop_requested.wait(), "signal")), return_when=asyncio.FIRST_COMPLETED)
        reason = pulling.result() if pulling.done() else "stopped by a signal"
        log.info("worker stopped", channel=assignment.item["id"], reason=reason)
        shelf.drain()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_SECONDS):
                await shelf.drained()
        shelf_task.cancel()
    for number in _SIGNALS:  # a StopTask of ECS during the shutdown must not look like a crash
        loop.remove_signal_handler(number)
        signal.signal(number, signal.SIG_IGN)
    return 0


def _crashed(name: str, error: BaseException) -> None:
    if not isinstance(error, GatewayError):  # the caller reports a GatewayError
        log_failure(name, error)
