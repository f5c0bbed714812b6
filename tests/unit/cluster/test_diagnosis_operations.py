"""Reports of viewer experience between nodes."""

from __future__ import annotations

from typing import cast

import pytest

from gateway.cluster.calls.diagnosis_operations import DiagnosisOperations
from gateway.cluster.members.node_identity import SiblingProcesses
from gateway.cluster.members.peers import Peers
from gateway.diagnosis.experience import Experience, Totals
from gateway.diagnosis.recorder import Recorder
from gateway.diagnosis.refusal_log import RefusalLog
from gateway.http.response import Response
from gateway.lib.metrics import Metrics
from gateway.reports.shared_reports import SharedReports
from tests.support.builders import AUDIO, VIDEO, hub, publish
from tests.support.http import request


async def post(experience: Experience, channel: str, *queries: str) -> Response:
    """Posts reports to one node. Returns the last answer."""
    on = hub([])
    publish(on, "c1").set_tracks(VIDEO, AUDIO, {})
    recorder = Recorder(on, dict, lambda stream: {})
    siblings, reports = SiblingProcesses("h.1", cast(Peers, None)), cast(SharedReports, None)
    operations = DiagnosisOperations(siblings, on, recorder, experience, RefusalLog(), reports)
    try:
        experienced = operations.table()["experienced"]
        for query in queries:
            answer = await experienced(request(f"/_node/.node/experienced/{channel}?{query}", "POST"), channel)
        return answer
    finally:
        on.drain()
        await on.drained()


async def test_totals_of_another_node_are_added():
    experience, totals = Experience(Metrics("1")), Totals()
    totals.players = 3
    assert (await post(experience, "c1", f"flv={totals.encode()}")).status == 200
    assert experience.of("c1")["flv"].players == 3


async def test_totals_that_are_sent_again_under_their_number_are_added_once() -> None:
    experience, totals = Experience(Metrics("1")), Totals()
    totals.players = 3
    reports = [f"flv={totals.encode()}&node={node}&report={number}" for node, number in (("e1", 4), ("e2", 1))]
    await post(experience, "c1", reports[0], reports[0], reports[1])
    assert experience.of("c1")["flv"].players == 6


@pytest.mark.parametrize("value", ["1", "1_2_3____x", "9999999999_0_0____"])
async def test_invalid_totals_are_refused(value: str):
    experience = Experience(Metrics("1"))
    assert (await post(experience, "c1", f"flv={value}")).status == 400
    assert experience.of("c1") == {}


async def test_totals_for_a_stream_of_another_node_are_refused():
    assert (await post(Experience(Metrics("1")), "c2", f"flv={Totals().encode()}")).status == 421
