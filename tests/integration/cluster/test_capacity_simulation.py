"""The simulation behind docs/capacity.md: it behaves as the gateway does, and as its own rules say."""

from __future__ import annotations

import asyncio
import random
import selectors
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import pytest

from gateway.cluster.calls import viewer_reporter
from gateway.cluster.files import http_cache_proxy
from gateway.cluster.members import membership, peers, registry_locator
from gateway.cluster.members.registry_locator import RegistryLocator
from gateway.cluster.streams import claims, replicas
from gateway.ports.nodes import ALIVE_SECONDS, StreamClaim
from gateway.protocols import nodes as link
from tools.capacity import demand, plan, replica
from tools.capacity.agenda import Agenda
from tools.capacity.balance import Spread
from tools.capacity.demand import MIXED, ONLY_FLV, ONLY_LLHLS, Cdn, Media
from tools.capacity.machines import C7GN_LARGE, C7GN_XLARGE
from tools.capacity.outcome import Outcome, percentile
from tools.capacity.plan import Load
from tools.capacity.policy import Policy, Surroundings
from tools.capacity.popularity import audience
from tools.capacity.reader import Reader
from tools.capacity.registry import Operation, Registry
from tools.capacity.scaling import Target, Tracker
from tools.capacity.scenario import Crowd, Death, Deploy, Event, Outage, Scenario
from tools.capacity.world import World

LATENCY = 0.005


# ---- as the gateway does ----


def test_the_policy_has_the_constants_of_the_gateway() -> None:
    policy = Policy()
    assert (policy.keep, policy.absent) == (registry_locator.CACHE_SECONDS, registry_locator.ABSENT_SECONDS)
    assert (policy.gather, policy.batch) == (registry_locator._GATHER_SECONDS, registry_locator._BATCH)
    assert (policy.names_per_second, policy.most_waiting) == (
        registry_locator._NAMES_PER_SECOND,
        registry_locator._MAX_WAITING,
    )
    assert policy.doubt == registry_locator._FAILED_SECONDS
    assert (policy.beat_every, policy.check_every) == (membership.BEAT_SECONDS, claims.VERIFY_SECONDS)
    assert (policy.dead_after, policy.silent) == (ALIVE_SECONDS, link.SILENT_SECONDS)
    assert (policy.connect, policy.idle) == (peers.CONNECT_SECONDS, replicas.IDLE_SECONDS)
    assert (policy.look_again, replica.AGAIN) == (replicas._POLL_SECONDS, replicas._RETRY_SECONDS)
    assert (policy.tells_at_once, demand.TELL) == (viewer_reporter._MAX_CONCURRENT, viewer_reporter.REPORT_SECONDS)
    assert demand.MOMENT == http_cache_proxy._LIVE_SECONDS


class LeapingLoop(asyncio.SelectorEventLoop):
    """An event loop that does not wait: its time leaps to what is due next."""

    def __init__(self) -> None:
        self.now = 0.0
        super().__init__(_Leaping(self))

    def time(self) -> float:
        return self.now


class _Leaping(selectors.SelectSelector):
    def __init__(self, loop: LeapingLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout:
            self._loop.now += timeout
        return super().select(0)


class CountingRegistry:
    """A registry with some held streams, which records the number of names in each request."""

    def __init__(self, held: Collection[str]) -> None:
        self._held = held
        self.asked: list[int] = []

    async def find(self, streams: Collection[str]) -> dict[str, StreamClaim]:
        self.asked.append(len(streams))
        await asyncio.sleep(LATENCY)
        return {s: StreamClaim(s, "node", "10.0.0.1:8080", f"claim-{s}", 0.0) for s in streams if s in self._held}

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"a look-up asks for nothing but find, not {name}")


def moments(seconds: float, channels: int, rate: float, seed: int) -> list[tuple[float, int]]:
    """Returns the times and the channels of the players' requests."""
    chance, at, found = random.Random(seed), 0.0, []
    while (at := at + chance.expovariate(rate)) < seconds:
        found.append((at, chance.randrange(channels)))
    return found


@pytest.mark.parametrize(("channels", "rate"), [(3, 5.0), (300, 40.0), (5_000, 400.0)])
def test_the_simulated_reader_sends_as_many_requests_as_the_gateways_locator(channels: int, rate: float) -> None:
    asked = moments(100.0, channels, rate, seed=7)
    held = range(0, channels, 3)

    async def real() -> list[int]:
        loop = asyncio.get_running_loop()
        registry = CountingRegistry({f"c{n}" for n in held})
        subject = RegistryLocator(registry, clock=loop.time)  # type: ignore[arg-type]
        running = asyncio.ensure_future(subject.run())
        waiting = []
        for at, channel in asked:
            await asyncio.sleep(at - loop.time())
            waiting.append(asyncio.ensure_future(subject.find(f"c{channel}")))
        await asyncio.gather(*waiting)
        running.cancel()
        return registry.asked

    loop = LeapingLoop()
    try:
        of_the_gateway = loop.run_until_complete(real())
    finally:
        loop.close()
    agenda, registry = Agenda(), Registry()
    for n in held:
        registry.claim(n, 1)
    reader = Reader(agenda, registry, Policy(), LATENCY)
    answered: list[object] = []
    for at, channel in asked:
        agenda.at(at, lambda c=channel: reader.find(c, answered.append))  # type: ignore[misc]
    agenda.run(101.0)
    assert len(answered) == len(asked)
    assert registry.items[Operation.FIND] == pytest.approx(sum(of_the_gateway), rel=0.01)
    assert registry.requests[Operation.FIND] == pytest.approx(len(of_the_gateway), rel=0.01)


# ---- its parts ----


def test_the_agenda_runs_events_by_time_and_then_by_creation() -> None:
    agenda, seen = Agenda(), []
    for when, name in ((2.0, "later"), (1.0, "first"), (1.0, "second")):
        agenda.at(when, lambda n=name: seen.append(n))  # type: ignore[misc]
    agenda.run(1.5)
    assert (seen, agenda.now) == (["first", "second"], 1.5)


def test_the_registry_gives_a_stream_to_only_one_node() -> None:
    registry = Registry()
    answers = {registry.claim(5, node).node for node in range(40)}
    assert answers == {0}
    assert registry.claim(5, 9, over=registry.claim(5, 1).claim).node == 9


def test_the_audience_has_the_given_sum_and_is_sorted() -> None:
    watching = audience(1_000, 1.0, 12_345)
    assert sum(watching) == 12_345
    assert watching == tuple(sorted(watching, reverse=True))


def test_target_tracking_waits_for_three_points_and_counts_starting_nodes() -> None:
    tracker = Tracker(Target(value=0.5), Surroundings())
    assert [tracker.wanted(60.0 * n, 1.0, 4) for n in range(3)] == [4, 4, 8]
    assert tracker.wanted(180.0, 1.0, 8) == 16


def test_a_cdn_with_one_cache_requests_each_part_once_for_any_audience() -> None:
    few, many = (demand.asked_of_edges(0, n, Media(), Cdn(), 10) for n in (1, 100_000))
    assert (few.files, few.playlists, few.bits) == (many.files, many.playlists, many.bits)
    assert demand.asked_of_edges(0, 100_000, Media(), None, 10).files == 100_000 * demand.LANES / Media().part


def test_each_viewer_requests_uncacheable_hls_playlists_from_the_edges() -> None:
    passed, kept = (demand.asked_of_edges(10_000, 0, Media(), Cdn(kept=k), 10) for k in (0.0, 1.0))
    assert (passed.playlists, kept.playlists) == (5_000, 1)
    assert passed.fetched < 10 / demand.MOMENT + 1


def test_the_plan_fills_no_node_above_the_given_limit() -> None:
    load = Load(100, 100_000, MIXED)
    fleet = plan.fleet(load, C7GN_LARGE, C7GN_XLARGE, 0.6)
    assert max(plan.usage(plan.of_each_edge(load, fleet.edges), fleet.edge).values()) <= 0.6
    fewer = fleet.edges - fleet.edge.parts
    assert max(plan.usage(plan.of_each_edge(load, fewer), fleet.edge).values()) > 0.6


def test_a_process_uses_one_core_of_its_machine() -> None:
    assert C7GN_XLARGE.split(1).vcpu == 1.0
    part = C7GN_XLARGE.split()
    assert (part.vcpu, part.parts, part.network * part.parts) == (1.0, 4, C7GN_XLARGE.network)


# ---- the whole ----


def scenario(*events: Event, viewers: int = 400, channels: int = 8, **changed: Any) -> Scenario:
    load = Load(channels, viewers, ONLY_FLV, edge_processes=1)
    base = Scenario(
        "a test", load, seconds=120, warm=20, events=events, gateway=C7GN_LARGE, edge=C7GN_LARGE,
        gateways=3, edges=4, target=None,
    )  # fmt: skip
    return replace(base, **changed)


def run(what: Scenario, seed: int = 1) -> Outcome:
    return World(what, seed).run()


def test_the_same_seed_gives_the_same_world() -> None:
    eventful = scenario(Death(20, "gateway"), Crowd(40, 300, 5.0))
    assert run(eventful, 3) == run(eventful, 3)
    assert run(eventful, 3) != run(eventful, 4)


def test_five_thousand_joins_on_a_cold_edge_cause_one_pull() -> None:
    seen = run(scenario(Crowd(5, 5_000, 1.0), viewers=0, channels=1, edges=1, gateways=1, cold=True))
    assert (seen.opened, len(seen.joins)) == (1, 5_000)


def test_all_joining_viewers_get_pictures() -> None:
    seen = run(scenario(Crowd(30, 2_000, 10.0, channel=None)))
    assert len(seen.joins) >= 2_000
    assert 0 < percentile(seen.joins, 0.99) < 1.0


@pytest.mark.parametrize("mix", [ONLY_FLV, ONLY_LLHLS])
def test_registry_requests_depend_on_edges_and_streams_but_not_on_viewers(mix: demand.Mix) -> None:
    edges, channels = 4, 8
    asked = {}
    for viewers in (1_000, 100_000):
        seen = run(scenario(load=Load(channels, viewers, mix, edge_processes=1), session=1e9, edges=edges))
        asked[viewers] = seen.items[Operation.FIND] * 60 / seen.seconds
        reads = seen.per_minute(Operation.CHANNEL)
        assert reads <= 1.05 * channels * 60 / Policy().channel_keep
    assert max(asked.values()) <= 1.1 * edges * channels * 60 / Policy().keep
    assert asked[100_000] <= 1.5 * asked[1_000]


def test_a_dead_process_is_replaced_as_soon_as_its_encoders_reconnect() -> None:
    seen = run(scenario(Death(20, "gateway"), session=1e9))
    assert seen.silence
    assert max(seen.republished) < 0.1
    assert seen.recovered
    assert max(seen.recovered) < max(seen.silence) + 3.0


def test_a_dead_machine_is_replaced_only_after_its_beats_have_stopped() -> None:
    seen = run(scenario(Death(20, "gateway", silent=True), session=1e9))
    assert len(seen.silence) >= 2
    assert min(seen.republished) >= Policy().dead_after
    assert len(seen.streams) and seen.streams[-1] == 8


def test_no_stream_is_lost_when_all_gateways_are_replaced() -> None:
    seen = run(scenario(Deploy(5, "gateway"), session=1e9, seconds=400))
    assert seen.streams[-1] == 8
    assert len(seen.silence) >= 8
    assert max(seen.silence) < 15


def test_players_of_a_dead_edge_find_another() -> None:
    before, after = run(scenario()), run(scenario(Death(20, "edge")))
    assert len(after.joins) > len(before.joins) + 50
    assert after.viewers[-1] == pytest.approx(before.viewers[-1], abs=60)


def test_an_outage_of_the_registry_does_not_affect_viewers() -> None:
    seen = run(scenario(Outage(10, 60), session=1e9))
    assert not seen.recovered
    assert seen.viewers[-1] == pytest.approx(400, abs=60)


def test_hashed_channels_are_pulled_by_fewer_edges() -> None:
    load = Load(40, 2_000, ONLY_FLV, edge_processes=1)
    spread = run(scenario(load=load, spread=Spread.LEAST, edges=8))
    hashed = run(scenario(load=replace(load, hashed=True), spread=Spread.HASH, edges=8))
    assert hashed.pulls[-1] < spread.pulls[-1] / 2


def test_edges_are_added_with_a_delay_when_the_network_is_full() -> None:
    crowd = scenario(Crowd(10, 9_000, 20.0), target=Target(), seconds=600, edges=2)
    seen = run(crowd)
    assert (seen.edges[0], max(seen.edges) > 2) == (2, True)
    first = next(n for n, edges in enumerate(seen.edges) if edges > 2)
    assert first * 5 >= 3 * 60 + 40  # three points of a minute, and the start of a machine
    assert seen.starved > 0


def test_the_mapping_of_requests_contains_the_counted_requests() -> None:
    seen: Mapping[Operation, int] = run(scenario()).requests
    gateways_and_edges = (3 * 2 + 4) * 120 / Policy().beat_every
    assert seen[Operation.BEAT] == pytest.approx(gateways_and_edges, rel=0.03)
