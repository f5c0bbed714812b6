"""The ports and the address of a process."""

from __future__ import annotations

import pytest

from gateway.app.own_address import OwnAddress
from gateway.channels.addresses import OpenPorts
from gateway.ports.nodes import Node, NodeRole
from gateway.settings import load

PORTS = OpenPorts(http=8080, rtmp=1935)


def own_address(*overrides: str) -> OwnAddress:
    return OwnAddress(load(environ={}, overrides=["http.advertise=192.0.2.7:8080", *overrides]))


async def test_before_the_ports_are_open_there_is_no_address():
    own = own_address("registry=sqlite:///registry.db")
    assert (own.address, own.ports.opened()) == ("", {})


async def test_other_nodes_get_the_address_and_the_ports():
    own = own_address("registry=sqlite:///registry.db")
    await own.announce(PORTS)
    node = own.as_node("n1", NodeRole.EDGE, "c1")
    assert (own.address, node.address, node.channel) == ("192.0.2.7:8080", "192.0.2.7:8080", "c1")
    assert node.shown["address"] == "192.0.2.7"
    assert node.shown["ports"]["rtmp"] == 1935


async def test_a_single_node_looks_for_no_address():
    own = own_address()
    await own.announce(PORTS)
    assert (own.address, own.ports["http"]) == ("", 8080)


async def test_the_registry_gets_the_site_the_address_for_viewers_and_the_load():
    own = own_address("registry=sqlite:///r.db", "cluster.site=berlin", "playback.node_url=https://e2.example.com/")
    await own.announce(PORTS)
    own.load = lambda: {"free": {"cpuPercent": 30.0, "mbps": None, "percent": 30.0}, "viewers": 2}
    node = own.as_node("n1.2", NodeRole.EDGE)
    assert (node.site, node.url, node.free, node.host) == ("berlin", "https://e2.example.com", 30.0, "n1")
    assert node.shown["viewers"] == 2


@pytest.mark.parametrize("shown", [{}, {"site": 1, "url": None, "free": 5}, {"free": {"percent": "x"}}, {"free": {}}])
def test_rows_of_other_versions_have_no_site_and_count_as_free(shown):
    node = Node("n1", NodeRole.EDGE, "a:80", shown=shown)
    assert (node.site, node.url, node.free) == ("", "", 100.0)
