"""Players over SRT: they share payloads, count in the memory of viewers, and end if they acknowledge nothing."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence

from gateway.channels.stream_key import SigningSecrets
from gateway.lib.quota import Quota
from gateway.lib.viewer_memory import ViewerMemory
from gateway.live.hub import Hub
from gateway.live.output import OutputSpec
from gateway.live.publisher import StreamPublisher
from gateway.packaging.feed import Feed, FeedCounts
from gateway.packaging.ts.continuous import SrtOutput
from gateway.playback.play import PlayAdmission
from gateway.playback.protection import PlaybackProtection
from gateway.playback.srt import SrtPlay
from gateway.protocols.srt.connection import TICK_SECONDS, SrtConnection
from gateway.protocols.srt.packets import PAYLOAD
from gateway.protocols.srt.stream_id import parse_stream_id
from gateway.settings.layers import load
from gateway.srt.link import SrtLink
from tests.support import builders
from tests.support.builders import VIDEO
from tests.support.playback import Channels
from tests.support.rtp_viewers import coded
from tests.support.waiting import until
from tests.unit.protocols.srt.pair import shake_hands

ADDRESS = "192.0.2.1"
SECRETS = SigningSecrets("a-secret")


class Player:
    """A player, and its end of the connection. hears: whether it gets the datagrams."""

    def __init__(self, lab: Lab, latency: float, hears: bool) -> None:
        self.now = time.monotonic()
        caller, connection, _ = shake_hands(latency=latency, now=self.now)
        assert caller.agreement is not None
        self.end, self.hears = SrtConnection(caller.agreement, self.now), hears
        self.ended: list[str] = []
        self.link = SrtLink(connection, self._take, ADDRESS, lambda link: self.ended.append(link.connection.ended))
        self.play = SrtPlay(lab.admission, lab.hub, lab.settings, parse_stream_id("read:c1"), ADDRESS)

    async def begin(self) -> Player:
        await self.play.check()
        self.link.user = await self.play.begin(self.link)
        await asyncio.sleep(0)  # it joins after the answer to the caller
        return self

    def _take(self, datagrams: Sequence[bytes]) -> None:
        if self.hears:
            self.end.receive(datagrams, [time.monotonic()] * len(datagrams))

    def pass_time(self, seconds: float) -> None:
        """Lets seconds pass. The player keeps the connection alive, and acknowledges what it has heard."""
        for _ in range(round(seconds / TICK_SECONDS)):
            self.now += TICK_SECONDS
            self.end.tick(self.now)
            self.end.due(self.now)
            out, self.end.out = self.end.out, []
            self.link.connection.heard = self.now
            if out:
                self.link.connection.receive(out, [self.now] * len(out))
            self.link.tick(self.now, until=math.inf)

    @property
    def kept(self) -> list[bytes]:
        """The payloads that wait for this player."""
        sent = self.link.connection.sent
        return [payload for payload, *_ in (*sent._kept, *sent._waiting)]


class Lab:
    def __init__(self, memory: int = 0, stall: float = 30.0) -> None:
        self.counts, self.memory = FeedCounts(), ViewerMemory(memory)

        def output(stream: object) -> SrtOutput:
            return SrtOutput(lambda rendering: Feed(stream, rendering, 0.0, stall, self.counts, self.memory))  # type: ignore[arg-type]

        self.hub: Hub = builders.hub([OutputSpec("srt", output, lambda stream: True)])  # type: ignore[arg-type, list-item]
        self.places = Quota(0)
        protection = PlaybackProtection(
            auth="none", referers=(), secrets=SECRETS, cloudfront=None, refusals_per_minute=0
        )
        self.admission = PlayAdmission(
            channels=Channels(builders.channel("c1")), protection=protection, wait=0.0, connections=self.places
        )
        self.settings = load(environ={})
        self.dts = 0

    async def live(self) -> StreamPublisher:
        publisher = builders.publish(self.hub, "c1")
        publisher.set_tracks(VIDEO, None, {})
        self.push(publisher)
        await until(lambda: publisher.stream.output("srt"))
        return publisher

    def push(self, publisher: StreamPublisher, count: int = 1, size: int = 10_000) -> None:
        for _ in range(count):
            publisher.push(coded(self.dts, self.dts % 1000 == 0, size), time.monotonic())
            self.dts += 40

    async def player(self, latency: float = 0.12, *, hears: bool = True) -> Player:
        return await Player(self, latency, hears).begin()


async def test_players_share_the_payloads_of_a_batch() -> None:
    lab = Lab()
    publisher = await lab.live()
    one, two = await lab.player(hears=False), await lab.player(hears=False)
    lab.push(publisher, 3)
    assert len(one.kept) > 20
    shared = {id(payload) for payload in one.kept} & {id(payload) for payload in two.kept}
    assert len(shared) == len(one.kept) == len(two.kept)


async def test_packets_without_acknowledgement_count_as_memory_of_viewers() -> None:
    lab = Lab()
    publisher = await lab.live()
    player = await lab.player(latency=20.0, hears=False)
    lab.push(publisher, 10)
    held = player.link.connection.sent.held * PAYLOAD
    assert held > 100_000 and lab.memory.bytes >= 0.8 * held
    player.link.close("gone")
    assert lab.memory.bytes == 0


async def test_players_that_acknowledge_nothing_stay_within_the_memory_of_viewers() -> None:
    lab = Lab(memory=1_000_000)
    publisher = await lab.live()
    players = [await lab.player(latency=20.0, hears=False) for _ in range(10)]
    for _ in range(100):
        lab.push(publisher)
    assert sum(player.link.connection.sent.held for player in players) * PAYLOAD < 1_100_000
    assert lab.counts.dropped > 0
    honest = await lab.player()
    assert not honest.ended
    for player in players:
        player.link.close("gone")
    assert lab.memory.bytes <= honest.link.connection.sent.held * PAYLOAD


async def test_a_player_that_acknowledges_nothing_is_ended_and_gives_its_place_back() -> None:
    lab = Lab(stall=30.0)
    publisher = await lab.live()
    deaf, honest = await lab.player(hears=False), await lab.player()
    assert lab.places[ADDRESS] == 2
    lab.push(publisher, 10)
    for player in (deaf, honest):
        player.pass_time(29)
        assert not player.ended
        player.pass_time(3)
    assert deaf.ended == ["acknowledges nothing"] and not honest.ended
    assert (lab.places[ADDRESS], lab.counts.stalled) == (1, 1)


async def test_a_player_is_ended_early_while_little_memory_is_free() -> None:
    lab = Lab(memory=400_000, stall=30.0)
    publisher = await lab.live()
    deaf = await lab.player(latency=20.0, hears=False)
    for _ in range(100):
        lab.push(publisher)
    others = [await lab.player(latency=20.0, hears=False) for _ in range(4)]
    for _ in range(100):
        lab.push(publisher)
    assert lab.memory.bytes > 300_000
    deaf.pass_time(7)
    assert deaf.ended
    for other in others:
        other.link.close("gone")


async def test_a_player_with_a_long_latency_may_be_behind_for_as_long() -> None:
    """SRT can deliver what was lost for the whole latency, so the feed must not skip it before."""
    lab = Lab()
    publisher = await lab.live()
    player = await lab.player(latency=10.0, hears=False)
    lab.push(publisher, 25 * 9)  # 9 s, 2.25 MB
    assert lab.counts.dropped == 0
    assert len(player.kept) * PAYLOAD > 2_250_000
