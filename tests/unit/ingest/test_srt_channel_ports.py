"""Which ports of channels are open: those that stored channels have."""

from __future__ import annotations

from typing import Any, cast

from gateway.channels.channel import Channel
from gateway.ingest.srt.channel_ports import ChannelPorts
from gateway.lib.sockets import ListenError
from gateway.live.health_report import HealthFinding


class Port:
    def __init__(self, number: int) -> None:
        self.port = number

    def read(self) -> None:
        """Reads nothing."""


class Rig:
    """Ports without sockets. taken: numbers that are in use, at first by another program."""

    def __init__(self, *taken: int) -> None:
        self.open: list[Any] = []
        self.reads: list[Any] = []
        self.taken = set(taken)
        self.pushed: list[tuple[str, str]] = []
        self.requests: dict[int, Any] = {}
        self.findings: dict[str, HealthFinding] = {}
        self.ports = ChannelPorts(self.findings, cast(Any, self), self.reads, self._bind, self._push)

    def add(self, port: Port) -> None:
        self.open.append(port)

    def remove(self, port: Port) -> None:
        self.open.remove(port)
        self.taken.discard(port.port)

    def _bind(self, number: int, request: Any) -> Any:
        if number in self.taken:
            raise ListenError(f"{number} is in use")
        self.taken.add(number)
        self.requests[number] = request
        return Port(number)

    def _push(self, channel: Channel, address: str) -> Any:
        self.pushed.append((channel.key, address))

    def tell(self, *channels: Channel, is_all: bool = False) -> list[int]:
        self.ports.follow({channel.id: channel for channel in channels}, is_all)
        assert [port.read for port in self.open] == self.reads
        return [port.port for port in self.open]


def channel(id: str, port: int, key: str = "key") -> Channel:
    return Channel({"id": id, "key": key, "srtPort": port})


def test_a_changed_channel_moves_its_port_and_others_stay() -> None:
    rig = Rig()
    assert rig.tell(channel("a", 1_001), channel("b", 1_002), channel("c", 0)) == [1_001, 1_002]
    assert rig.tell(channel("a", 1_003)) == [1_002, 1_003]
    assert rig.tell(channel("b", 0)) == [1_003]
    rig.ports.follow({"a": None}, False)
    assert rig.open == []


def test_a_channel_that_is_no_longer_stored_loses_its_port() -> None:
    rig = Rig()
    rig.tell(channel("a", 1_001), channel("b", 1_002))
    assert rig.tell(channel("b", 1_002), is_all=True) == [1_002]


def test_a_port_moves_from_one_channel_to_another_in_one_list() -> None:
    rig = Rig()
    rig.tell(channel("b", 1_001))
    assert rig.tell(channel("a", 1_001), channel("b", 1_002), is_all=True) == [1_001, 1_002]


def test_a_port_in_use_is_tried_again_and_two_channels_never_share_one() -> None:
    rig = Rig(1_001)
    assert rig.tell(channel("a", 1_001)) == []
    assert "1001 is in use" in rig.findings["a"].text
    rig.taken.clear()
    assert rig.tell(channel("a", 1_001), is_all=True) == [1_001]
    assert rig.tell(channel("a", 1_001), channel("b", 1_001), is_all=True) == [1_001]
    assert list(rig.findings) == ["b"]
    assert rig.tell(channel("a", 1_001), channel("b", 0), is_all=True) == [1_001]
    assert rig.findings == {}


def test_callers_push_with_the_newest_key_whatever_their_stream_id_is() -> None:
    rig = Rig()
    rig.tell(channel("a", 1_001, "old"))
    rig.tell(channel("a", 1_001, "new"))
    rig.requests[1_001]("publish:other?sign=x", "192.0.2.1")
    assert rig.pushed == [("new", "192.0.2.1")]
