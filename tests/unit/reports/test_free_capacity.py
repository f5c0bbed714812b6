"""The free capacity of a node: processor of the machine and of the control group, and bandwidth."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
import structlog

from gateway.playback.viewer_limits import ViewerLimits
from gateway.ports.nodes import Node, NodeRole
from gateway.reports.free_capacity import FreeCapacity, FreeProcessor, HostCapacity
from tests.support.clock import Clock


class Machine:
    """Files as of Linux: two cores for this process, and more for others."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.group = root / "sys/fs/cgroup/system.slice/millrace.service"
        (root / "proc/self").mkdir(parents=True)
        self.group.mkdir(parents=True)
        (root / "proc/self/cgroup").write_text("0::/system.slice/millrace.service\n")
        self.busy(0, 0)

    def busy(self, busy: int, idle: int) -> None:
        """Sets the ticks of each core of this process: half of the idle ones wait for disks. Others are busy."""
        line = f"{busy} 0 0 {idle - idle // 2} {idle // 2} 0 0 0 0 0"
        own = [f"cpu{number} {line}" for number in sorted(os.sched_getaffinity(0))]
        (self.root / "proc/stat").write_text("\n".join(["cpu 9 9", *own, "cpu900 5000 0 0 0 0 0 0 0 0 0", "intr 1"]))

    def used(self, seconds: float, quota: str = "100000 100000") -> None:
        (self.group / "cpu.max").write_text(f"{quota}\n")
        (self.group / "cpu.stat").write_text(f"usage_usec {int(seconds * 1e6)}\nuser_usec 1\n")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def processor(clock: Clock, root: Path) -> FreeProcessor:
    """Returns the measurement of a process whose event loop is idle."""
    return FreeProcessor(clock, root, lambda: 0.0)


def test_the_cores_of_this_process_are_measured_over_the_time_between_two_calls(machine: Machine) -> None:
    clock = Clock(100.0)
    free = processor(clock, machine.root)
    assert free.percent() == 100
    machine.busy(75, 25)
    assert free.percent() == 100, "too soon"
    clock.now += 3
    assert free.percent() == 25
    for idle in range(4):
        machine.busy(75, 25 + 100 * idle)
        clock.now += 3
        free.percent()
    machine.busy(75, 425)
    clock.now += 3
    assert free.percent() == 100, "the busy time was too long ago"


def test_the_quota_of_a_container_counts_if_less_of_it_is_free(machine: Machine) -> None:
    clock = Clock(100.0)
    machine.used(5)
    free = processor(clock, machine.root)
    machine.busy(20, 80)
    machine.used(7.25)
    clock.now += 3
    assert free.percent() == pytest.approx(25)
    machine.busy(40, 160)
    machine.used(9, "max 100000")
    clock.now += 3
    assert free.percent() == pytest.approx(80), "no quota"


def test_without_these_files_all_is_free(tmp_path: Path) -> None:
    clock = Clock(100.0)
    free = processor(clock, tmp_path)
    clock.now += 5
    assert free.percent() == 100


def test_an_event_loop_that_fills_its_core_leaves_nothing_free(machine: Machine) -> None:
    """Its core is half of this machine, and the other half cannot serve this process."""
    clock, loop = Clock(100.0), Clock(7.0)
    free = FreeProcessor(clock, machine.root, loop)
    machine.busy(50, 50)
    clock.now += 3
    loop.now += 3
    assert free.percent() == 0
    for _ in range(4):
        machine.busy(50, 150)
        clock.now += 3
        loop.now += 1.5
        free.percent()
    assert free.percent() == pytest.approx(50)


def test_this_machine_can_be_measured() -> None:
    clock = Clock(100.0)
    free = FreeProcessor(clock)
    clock.now += 5
    assert 0 <= free.percent() <= 100


def test_the_smallest_share_counts(machine: Machine) -> None:
    clock, limits = Clock(100.0), ViewerLimits(0, {})
    capacity = FreeCapacity(processor(clock, machine.root), limits, lambda: 7)
    machine.busy(40, 60)
    clock.now += 3
    assert capacity.shown() == {"free": {"cpuPercent": 60.0, "mbps": None, "percent": 60.0}, "viewers": 7}
    limits.node_mbps = 200
    assert capacity.shown()["free"] == {"cpuPercent": 60.0, "mbps": 200, "percent": 60.0}
    limits._all_bits = 150e6
    assert capacity.shown()["free"] == {"cpuPercent": 60.0, "mbps": 50.0, "percent": 25.0}
    assert capacity.percent == 25.0


async def test_the_busiest_process_is_the_load_of_the_machine(machine: Machine) -> None:
    clock, limits = Clock(100.0), ViewerLimits(0, {})
    own = FreeCapacity(processor(clock, machine.root), limits, lambda: 0)
    siblings = [
        Node("a.2", NodeRole.GATEWAY, "h:1", shown={"free": {"percent": 4.0}}),
        Node("a.3", NodeRole.GATEWAY, "h:1"),
    ]
    assert HostCapacity(own, tuple).percent == 100
    host = HostCapacity(own, lambda: siblings)
    assert host.percent == 4
    with structlog.testing.capture_logs() as lines:
        task = asyncio.create_task(host.log_load(0))
        while not lines:
            await asyncio.sleep(0)
        task.cancel()
    assert lines[0] == {"event": "load", "log_level": "info", "busiest": 96.0}
