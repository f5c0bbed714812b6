"""The address under which other nodes reach this process: set, bound, the ECS task's, or this machine's own."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from gateway.adapters.advertise import advertised_address
from gateway.adapters.aws.task_metadata import own_task, read_task
from gateway.adapters.local.host import shown_host
from gateway.channels.addresses import OpenPorts
from gateway.ports.errors import StoreUnavailable
from gateway.settings import Settings, load
from tests.support.ecs_agent import ARN, CLUSTER, agent, metadata

PORTS = OpenPorts(http=18080)


def settings(folder: Path, **environ: str) -> Settings:
    return load(environ={"MILLRACE_DATA": str(folder)} | environ)


async def test_a_configured_address_takes_precedence_over_all_other_sources(tmp_path: Path) -> None:
    async with agent() as at:
        chosen = settings(tmp_path, MILLRACE_HTTP__ADVERTISE="edge-1.example.com:80")
        assert await advertised_address(chosen, PORTS, at.environ) == "edge-1.example.com:80"
        assert at.looked == 0


async def test_a_listener_bound_to_one_address_advertises_that_address(tmp_path: Path) -> None:
    async with agent() as at:
        chosen = settings(tmp_path, MILLRACE_HTTP__HOST="127.0.0.1")
        assert await advertised_address(chosen, PORTS, at.environ) == "127.0.0.1:18080"


async def test_an_ipv6_address_is_written_in_brackets(tmp_path: Path) -> None:
    assert await advertised_address(settings(tmp_path, MILLRACE_HTTP__HOST="::1"), PORTS, {}) == "[::1]:18080"


async def test_on_ecs_a_node_advertises_the_private_address_of_its_task(tmp_path: Path) -> None:
    async with agent() as at:
        assert await advertised_address(settings(tmp_path), PORTS, at.environ) == "10.0.2.106:18080"


async def test_outside_ecs_a_node_advertises_the_address_of_its_machine(tmp_path: Path) -> None:
    host, _, port = (await advertised_address(settings(tmp_path), PORTS, {})).rpartition(":")
    assert port == "18080"
    assert host in (shown_host("0.0.0.0"), socket.gethostname())


async def test_an_agent_that_is_busy_at_first_is_asked_again(tmp_path: Path) -> None:
    async with agent() as at:
        at.broken = 2
        assert await advertised_address(settings(tmp_path), PORTS, at.environ) == "10.0.2.106:18080"
        assert at.looked == 3


async def test_an_agent_that_never_answers_does_not_stop_the_start(tmp_path: Path) -> None:
    async with agent() as at:
        at.broken = 100
        with pytest.raises(StoreUnavailable, match="500"):
            await own_task(at.environ)
        with_agent = await advertised_address(settings(tmp_path), PORTS, at.environ)
        assert with_agent == await advertised_address(settings(tmp_path), PORTS, {})


async def test_the_address_of_a_container_behind_a_bridge_is_not_advertised(tmp_path: Path) -> None:
    """Such an address is valid only on that one machine."""
    async with agent() as at:
        at.task = metadata("172.17.0.3", "bridge")
        assert await advertised_address(settings(tmp_path), PORTS, at.environ) == await advertised_address(
            settings(tmp_path), PORTS, {}
        )


def test_reading_task_metadata_gives_arn_cluster_family_and_address() -> None:
    task = read_task(metadata())
    assert (task.arn, task.cluster, task.family, task.address) == (ARN, CLUSTER, "millrace-gateway", "10.0.2.106")


@pytest.mark.parametrize("told", [None, [], {}, {"TaskARN": 7}, {"TaskARN": ""}])
def test_invalid_task_metadata_is_refused(told: object) -> None:
    with pytest.raises(ValueError):
        read_task(told)


@pytest.mark.parametrize(
    "containers",
    [
        None,
        7,
        [7],
        [{"Networks": 7}],
        [{"Networks": [{"NetworkMode": "awsvpc", "IPv4Addresses": 7}]}],
        [{"Networks": [{"NetworkMode": "awsvpc", "IPv4Addresses": ["not an address", 7]}]}],
        "x",
    ],
)
def test_a_task_without_a_usable_address_has_an_empty_address(containers: object) -> None:
    assert read_task({"TaskARN": ARN, "Containers": containers}).address == ""
