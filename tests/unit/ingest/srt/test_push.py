"""A push over SRT, from its request to its end."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

from gateway.channels.channel import Channel
from gateway.channels.stream_key import SigningSecrets
from gateway.ingest.admission import Admission
from gateway.ingest.services import ListenerServices
from gateway.ingest.srt.push import SrtPush
from gateway.lib.refusals import Refusals
from gateway.live.network_quality import unknown_quality
from gateway.live.sink import EndReason
from gateway.media.track import AccessUnit
from gateway.ports.events import Events
from gateway.protocols.srt.stream_id import StreamId
from gateway.srt.link import SrtLink
from tests.support import builders
from tests.support.builders import FAR
from tests.unit.formats.ts.test_program_reader import made
from tests.unit.live.test_unusual_bodies import Converter

SECRETS = SigningSecrets("a-secret")
KEY = SECRETS.sign("c1", FAR)


class Store:
    """A `ChannelReader` with one channel."""

    async def get(self, id: str) -> Channel:
        return builders.channel(id, key=KEY)


class Link:
    """What a push uses of its link."""

    stopped = False
    connection = SimpleNamespace(bytes=0)

    def __init__(self) -> None:
        self.user: SrtPush | None = None
        self.statistics = unknown_quality

    def close(self, reason: str) -> None:
        user, self.user = self.user, None
        if user is not None:
            user.closed(reason)


async def test_an_evicted_push_closes_its_converter() -> None:
    converters: list[Converter] = []

    def make(deliver: Callable[[AccessUnit], None]) -> Converter:
        converters.append(Converter(deliver))
        return converters[-1]

    class Services(ListenerServices):
        def sound_converter(self, stream: str) -> Any:
            return make

    hub, nothing = builders.hub(), cast(Any, None)
    admission = Admission(Store(), SECRETS, Events(), publishers_per_address=0, refusals=Refusals(0))
    services = Services(
        settings=nothing,
        opener=nothing,
        tls=None,
        tasks=nothing,
        acquire_publisher=hub.acquire_publisher,
        admission=admission,
        pending=nothing,
        streams=hub,
        plays=nothing,
        srt_play=nothing,
        ports=nothing,
        browser_streams=nothing,
        browser_media=nothing,
        sessions=nothing,
    )
    push, link = SrtPush(services, StreamId("c1", True, {"sign": KEY}), "192.0.2.1"), Link()
    link.user = await push.begin(cast(SrtLink, link))
    push.receive([made("ac3").read_bytes()], time.monotonic())
    assert [converter.closed for converter in converters] == [0]
    hub.end("c1", EndReason.KICKED)
    assert link.user is None
    assert [converter.closed for converter in converters] == [1]
    hub.drain()
    await hub.drained()
