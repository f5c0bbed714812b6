"""Small runs of the benches that measure a fleet: nothing is lost, in few seconds and with few viewers."""

from __future__ import annotations

import asyncio

import pytest

from bench import bench_certificates, bench_outage, bench_return
from tests.support.tools import need

pytestmark = pytest.mark.nightly


def test_nobody_notices_an_outage_of_the_database() -> None:
    arguments = ["--minutes", "0.2", "--pushes", "3", "--viewers", "40"]
    result = asyncio.run(bench_outage.measure(bench_outage.arguments(arguments)))
    assert bench_outage.faults(result) == []
    assert result["publishers"]["cut"]
    assert result["recordings"]["pushed"] > 300
    assert "channel store" in result["said"]["/ready"][0][1]
    assert all(answer.startswith("NetStream.Publish.Failed") for answer in result["said"]["new push"])
    assert result["said"]["metrics"] == ["millrace_registry_failing 1.0"]


def test_the_picture_is_back_when_an_encoder_returns_to_any_gateway() -> None:
    result = asyncio.run(bench_return.measure(bench_return.arguments(["--cuts", "4"])))
    # The bench has the limit of 100 ms. A busy machine of tests delays more than that, but not by half a second.
    assert bench_return.faults(result, limit=400) == []


@pytest.mark.parametrize("share", ["database", "folder"])
def test_viewers_do_not_notice_a_new_certificate_of_nodes_with_one_name(share: str) -> None:
    need("pebble", "pebble-challtestsrv")
    arguments = ["--viewers", "30", "--valid", "30", "--renewals", "1", "--share", share]
    result = asyncio.run(bench_certificates.measure(bench_certificates.arguments(arguments)))
    assert bench_certificates.faults(result) == []
    assert result["certificates"]["renewals"]
