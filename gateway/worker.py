"""A media worker of its own: reads a stream from the gateway that holds it, and publishes what it makes of it there."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import structlog

from gateway.adapters.vault import Vault
from gateway.hub.errors import HubError, StoreUnusable
from gateway.hub.events import Events
from gateway.hub.hub import Hub, StreamLimits
from gateway.hub.names import is_channel_id
from gateway.hub.output import OutputSpec
from gateway.lib import log as logs
from gateway.lib.aio import Tasks
from gateway.lib.metrics import DROPPED, WORKER_RESTARTS, Counter
from gateway.nodes.delivery import Delivery
from gateway.nodes.original import Original
from gateway.nodes.peers import Peers
from gateway.nodes.places import Place
from gateway.settings import Settings
from gateway.settings.kinds import host_port
from gateway.settings.ladders import load_ladders
from gateway.transcode.launch import Workers
from gateway.transcode.remote import CODEC, FLAGS, KIND, WORDS
from gateway.transcode.transcoder import Transcoder
from gateway.transcode.transcoder import wanted as has_ladder

log = structlog.get_logger(__name__)

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
_LINGER: Final = 10.0  # that rungs are kept while the gateway is away
_FINISH: Final = 10.0  # for the last pictures


@dataclass(frozen=True, slots=True)
class Assignment:
    """What a worker is to do: the original's environment of one. item: the channel as far as it tells."""

    item: Mapping[str, Any]
    place: Place

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Assignment:
        """Raises StoreUnusable for what cannot be done."""
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
        fields = {**FLAGS, **WORDS, CODEC: "codec", "LOG_LEVEL": "logLevel"}
        item = {field: environ[name] for name, field in fields.items() if environ.get(name)}
        return cls({"isCodec": True, **item, "id": channel}, Place("gateway", address))


def run(settings: Settings, environ: Mapping[str, str] | None = None) -> int:
    """Works until the stream is over, its gateway is gone, or SIGTERM; the exit code."""
    logs.configure(settings.log.level, settings.log.format)
    try:
        assignment = Assignment.of(os.environ if environ is None else environ)
        if not settings.cluster.secret.get_secret_value():
            raise StoreUnusable("cluster.secret is not set: no gateway would answer")
        import uvloop

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(work(settings, assignment))
    except (HubError, OSError) as error:
        print(f"millrace: {error}", file=sys.stderr)  # noqa: T201
        return 1


async def work(settings: Settings, assignment: Assignment) -> int:
    """Raises NotOurs where the gateway's secret is another, SettingsError for a useless file of ladders."""
    workers = Workers(settings.workers, Counter(WORKER_RESTARTS))
    dropped, ladders = Counter(DROPPED), load_ladders(settings.transcode.ladders)
    stream = settings.stream
    hub = Hub(StreamLimits(0, _LINGER, stream.gop_seconds, stream.gop_bytes), (), Events())
    async with Vault(settings) as vault, Peers(vault.cluster) as peers, Tasks("worker", _crashed) as tasks:
        tasks.start(vault.run(), "secrets")
        hub.offer(
            [
                OutputSpec(
                    "codec",
                    lambda s: Transcoder(s, hub, workers, ladders, settings.transcode, dropped),
                    lambda s: has_ladder(ladders, s),
                ),
                OutputSpec("delivery", lambda s: Delivery(peers, assignment.place, dropped), lambda s: not s.is_source),
            ]
        )
        running = tasks.start(hub.run(), "hub")
        pulling = tasks.start(Original(hub, peers, assignment.place, assignment.item).run(), "source")
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
    for number in _SIGNALS:  # a StopTask that comes now must not look like a crash
        loop.remove_signal_handler(number)
        signal.signal(number, signal.SIG_IGN)
    return 0


def _crashed(name: str, error: BaseException) -> None:
    if not isinstance(error, HubError):  # that is told by whoever waits
        log.error("a task failed", task=name, exc_info=error)
