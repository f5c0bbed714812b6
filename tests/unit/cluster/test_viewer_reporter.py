"""The numbers of local viewers are reported to the holders of their streams."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast
from urllib.parse import parse_qs, urlsplit

import pytest

from gateway.cluster.calls.viewer_reporter import ViewerReporter, total_viewers
from gateway.cluster.members.node_address import NodeAddress, PeerRefused, PeerUnavailable
from gateway.cluster.members.peers import Peers
from gateway.diagnosis.cmcd import Cmcd
from gateway.diagnosis.experience import Experience, Totals
from gateway.lib.metrics import Metrics
from gateway.lib.traffic import TrafficCounts
from gateway.ports.errors import StoreUnavailable


@dataclass
class Elsewhere:
    """The holders of streams, and the reports that they got. failing: the error of each request."""

    places: dict[str, NodeAddress] = field(default_factory=dict)
    told: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    experienced: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    failing: Exception | None = None
    away: bool = False
    missed: list[str] = field(default_factory=list)

    def known(self, name: str) -> NodeAddress | None:
        return self.places.get(name)

    async def find(self, name: str) -> NodeAddress | None:
        if self.away:
            raise StoreUnavailable("gone")
        return self.places.get(name)

    def invalidate(self, name: str, place: NodeAddress) -> None:
        self.missed.append(name)

    async def ask(self, place: NodeAddress, method: str, target: str, *, seconds: float) -> bytes:
        if self.failing is not None:
            raise self.failing
        path, query = urlsplit(target).path, parse_qs(urlsplit(target).query)
        operation, _, name = path.removeprefix("/_node/.node/").partition("/")
        assert method == "POST" and operation in ("viewers", "experienced")
        told = self.told if operation == "viewers" else self.experienced
        told.append((place.id, name, {name: values[0] for name, values in query.items()}))
        return b"{}"


HOLDER = NodeAddress("g1", "192.0.2.1:8080", "claim")


@pytest.fixture
def elsewhere() -> Elsewhere:
    return Elsewhere({"c1": HOLDER, "c1@720p": HOLDER, "mine": NodeAddress("e1", "192.0.2.9:8080", "claim")})


def teller(
    elsewhere: Elsewhere, watched: dict[str, dict[str, int]], experience: Experience | None = None
) -> ViewerReporter:
    return ViewerReporter(
        "e1", lambda: watched, elsewhere, cast(Peers, elsewhere), experience or Experience(Metrics("1"))
    )


async def test_viewers_are_reported_by_protocol(elsewhere: Elsewhere):
    await teller(elsewhere, {"c1": {"flv": 3, "hls": 0}, "c1@720p": {"hls": 1}}).report()
    assert sorted(elsewhere.told) == [
        ("g1", "c1", {"node": "e1", "to": "g1", "flv": "3"}),
        ("g1", "c1@720p", {"node": "e1", "to": "g1", "hls": "1"}),
    ]


def test_viewers_of_several_kinds_are_added_up():
    flv, relayed = {"c1": {"flv": 2, "rtmp": 1}, "c2": {"flv": 1}}, {"c1": {"hls": 3, "flv": 1}}
    assert total_viewers(flv, relayed) == {"c1": {"flv": 3, "rtmp": 1, "hls": 3}, "c2": {"flv": 1}}


async def test_streams_without_viewers_and_local_streams_are_not_reported(elsewhere: Elsewhere):
    await teller(elsewhere, {"c1": {"flv": 0}, "mine": {"flv": 5}, "nobodys": {"flv": 1}}).report()
    assert elsewhere.told == []


async def test_the_departure_of_the_last_viewer_is_reported_once(elsewhere: Elsewhere):
    watched = {"c1": {"flv": 1}}
    one = teller(elsewhere, watched)
    await one.report()
    watched["c1"] = {"flv": 0}
    await one.report()
    await one.report()
    assert [query.get("flv") for _, _, query in elsewhere.told] == ["1", None]


async def test_a_report_to_a_gateway_from_the_settings_names_no_process(elsewhere: Elsewhere):
    elsewhere.places["c1"] = NodeAddress("192.0.2.1:8080", "192.0.2.1:8080", "192.0.2.1:8080/c1")
    await teller(elsewhere, {"c1": {"flv": 1}}).report()
    assert elsewhere.told[0][2] == {"node": "e1", "flv": "1"}


async def test_a_former_holder_is_looked_up_again(elsewhere: Elsewhere):
    elsewhere.failing = PeerRefused(HOLDER, 421, "not held here")
    await teller(elsewhere, {"c1": {"flv": 1}}).report()
    assert elsewhere.missed == ["c1"]


@pytest.mark.parametrize("failing", [PeerUnavailable(HOLDER, "gone"), PeerRefused(HOLDER, 503, "later")])
async def test_a_report_that_fails_is_sent_the_next_time(elsewhere: Elsewhere, failing: Exception):
    one = teller(elsewhere, {"c1": {"flv": 1}})
    elsewhere.failing = failing
    await one.report()
    elsewhere.failing, elsewhere.away = None, True
    await one.report()
    elsewhere.away = False
    await one.report()
    assert len(elsewhere.told) == 1 and elsewhere.missed == []


async def test_viewer_experience_is_reported_once_to_the_holder(elsewhere: Elsewhere):
    experience = Experience(Metrics("1"))
    experience.add("c1", "flv", Cmcd(7, startup=800, stalls=2))
    one = teller(elsewhere, {}, experience)
    await one.report()
    await one.report()
    ((node, channel, query),) = elsewhere.experienced
    assert (node, channel, query.pop("to")) == ("g1", "c1", "g1")
    totals = Totals.decode(query["flv"])
    assert (totals.players, totals.stalls, sum(totals.startup.counts)) == (1, 2, 1)


async def test_viewer_experience_is_kept_until_the_holder_answers(elsewhere: Elsewhere):
    experience = Experience(Metrics("1"))
    experience.add("c1", "flv", Cmcd(7, startup=800))
    one = teller(elsewhere, {}, experience)
    elsewhere.failing = PeerUnavailable(HOLDER, "gone")
    await one.report()
    elsewhere.failing = None
    experience.add("c1", "flv", Cmcd(8, startup=900))
    await one.report()
    await one.report()
    assert [Totals.decode(query["flv"]).players for _, _, query in elsewhere.experienced] == [1, 1]


def counting(elsewhere: Elsewhere, watched: dict[str, dict[str, int]], traffic: TrafficCounts) -> ViewerReporter:
    one = teller(elsewhere, watched)
    one.traffic = traffic
    return one


async def test_the_bytes_of_a_channel_are_reported_once_with_its_viewers(elsewhere: Elsewhere):
    traffic = TrafficCounts()
    watched = {"c1": {"flv": 3}, "c1@720p": {"hls": 1}}
    one = counting(elsewhere, watched, traffic)
    traffic.of("c1").sent += 700
    await one.report()
    traffic.of("c1").sent += 20
    watched.clear()
    await one.report()  # the last one of a stream that has lost its viewers
    assert [query["sent"] for _, _, query in elsewhere.told if "sent" in query] == ["700", "20"]


@pytest.mark.parametrize("lost", ["unreachable", "not found", "ended"])
async def test_bytes_wait_for_a_holder(elsewhere: Elsewhere, lost: str):
    traffic = TrafficCounts()
    one = counting(elsewhere, {"c1": {"flv": 1}}, traffic)
    traffic.of("c1").sent += 700
    elsewhere.away = lost == "not found"
    elsewhere.failing = PeerUnavailable(HOLDER, "gone") if lost == "unreachable" else None
    places = dict(elsewhere.places)
    if lost == "ended":
        elsewhere.places.clear()
    await one.report()
    assert elsewhere.told == []
    elsewhere.away, elsewhere.failing = False, None
    elsewhere.places.update(places)
    traffic.of("c1").sent += 1
    await one.report()
    await one.report()
    assert [query["sent"] for _, _, query in elsewhere.told] == ["700", "1"]


class Late(Elsewhere):
    """A holder that takes reports, and answers too late."""

    late = True

    async def ask(self, place: NodeAddress, method: str, target: str, *, seconds: float) -> bytes:
        answer = await super().ask(place, method, target, seconds=seconds)
        if self.late:
            raise PeerUnavailable(place, "no answer in time")
        return answer


async def test_a_report_that_was_answered_too_late_is_sent_again_under_its_number() -> None:
    late = Late({"c1": HOLDER, "c1@720p": HOLDER})
    traffic, experience = TrafficCounts(), Experience(Metrics("1"))
    watched = {"c1": {"flv": 1}, "c1@720p": {"hls": 1}}
    one = counting(late, watched, traffic)
    one.experience = experience
    for session, sent in ((7, 700), (8, 20), (9, 3)):
        traffic.of("c1").sent += sent
        experience.add("c1", "flv", Cmcd(session, startup=800))
        await one.report()
        late.late = False
        watched.pop("c1", None)  # another stream of the channel repeats it
    told = [(query["sent"], query["report"]) for _, _, query in late.told if "sent" in query]
    totals = [(Totals.decode(query["flv"]).players, query["report"]) for _, _, query in late.experienced]
    assert [sent for sent, _ in told] == ["700", "700", "23"]
    assert [players for players, _ in totals] == [1, 1, 2]
    for numbers in ([number for _, number in told], [number for _, number in totals]):
        assert numbers[0] == numbers[1]
        assert int(numbers[2]) > int(numbers[1])
