"""The limits of this process's control group, in files as of Linux: versions 1 and 2, hosts and containers."""

import os
from pathlib import Path

import pytest

from gateway.lib.control_group import cores, memory_limit, processor_quotas

OWN_CORES = len(os.sched_getaffinity(0))
GROUPS = "sys/fs/cgroup"
V1_UNLIMITED = "9223372036854771712"


def machine(root: Path, group: str, **files: str) -> Path:
    """Writes `/proc/self/cgroup` and files below `/sys/fs/cgroup`. files: text by path, with `__` for `/`."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(group)
    for name, text in files.items():
        path = root / GROUPS / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    return root


@pytest.mark.parametrize(
    ("quota", "most"), [("max 100000", 9999), ("150000 100000", 2), ("10000 100000", 1), ("nonsense", 9999)]
)
def test_a_container_has_the_cores_of_its_quota(tmp_path: Path, quota: str, most: int) -> None:
    root = machine(tmp_path, "0::/\n", **{"cpu.max": quota})
    assert cores(root) == min(most, OWN_CORES)


@pytest.mark.parametrize("group", ["/docker/4f", "/kubepods/pod1/4f", "/../.."])
def test_a_container_that_sees_the_path_of_its_host_reads_its_own_folder(tmp_path: Path, group: str) -> None:
    root = machine(tmp_path, f"0::{group}\n", **{"cpu.max": "100000 100000", "memory.max": "2000"})
    assert (cores(root), memory_limit(root)) == (1, 2000)


def test_the_quota_of_a_service_is_in_the_folder_of_its_group(tmp_path: Path) -> None:
    """`CPUQuota=` and `MemoryMax=` of systemd (systemd.resource-control(5))."""
    service = "system.slice__millrace.service"
    root = machine(
        tmp_path,
        "0::/system.slice/millrace.service\n",
        **{f"{service}__cpu.max": "100000 100000", f"{service}__memory.max": "3000"},
    )
    assert (cores(root), memory_limit(root)) == (1, 3000)


def test_the_smallest_limit_of_all_groups_above_counts(tmp_path: Path) -> None:
    root = machine(
        tmp_path,
        "0::/pod/gateway\n",
        **{
            "pod__gateway__cpu.max": "max 100000",
            "pod__gateway__memory.max": "9000",
            "pod__cpu.max": "50000 100000",
            "pod__memory.max": "5000",
        },
    )
    assert (cores(root), memory_limit(root)) == (1, 5000)


@pytest.mark.parametrize("path", ["/", "/ecs/task/4f"])
def test_version_1_has_a_folder_for_each_controller(tmp_path: Path, path: str) -> None:
    root = machine(
        tmp_path,
        f"9:name=systemd:{path}\n4:memory:{path}\n1:cpu,cpuacct:{path}\n0::/\n",
        **{
            "cpu__cpu.cfs_quota_us": "50000",
            "cpu__cpu.cfs_period_us": "100000",
            "cpuacct__cpuacct.usage": "2500000000",
            "memory__memory.limit_in_bytes": "4000",
        },
    )
    assert (cores(root), memory_limit(root)) == (1, 4000)
    (quota,) = processor_quotas(root)
    assert (quota.cores, quota.used) == (0.5, 2.5)


def test_version_1_without_limits_has_none(tmp_path: Path) -> None:
    root = machine(
        tmp_path,
        "4:memory:/\n1:cpu:/\n",
        **{
            "cpu__cpu.cfs_quota_us": "-1",
            "cpu__cpu.cfs_period_us": "100000",
            "memory__memory.limit_in_bytes": V1_UNLIMITED,
        },
    )
    assert (cores(root), memory_limit(root), list(processor_quotas(root))) == (OWN_CORES, None, [])


def test_another_system_has_no_limits(tmp_path: Path) -> None:
    assert (cores(tmp_path), memory_limit(tmp_path), list(processor_quotas(tmp_path))) == (OWN_CORES, None, [])


def test_a_quota_comes_with_the_time_that_its_group_has_used(tmp_path: Path) -> None:
    root = machine(tmp_path, "0::/\n", **{"cpu.max": "150000 100000", "cpu.stat": "usage_usec 2500000\nuser_usec 1"})
    (quota,) = processor_quotas(root)
    assert (quota.cores, quota.used) == (1.5, 2.5)
