"""Shared and divided resources of several workers: ports, settings, run folder, and limits of a reload."""

import errno
import os
import socket
import sys
from pathlib import Path

import pytest

from gateway.app.doctor import CheckState, check_processes
from gateway.cluster.members.worker_slot import WorkerSlot
from gateway.lib.control_group import cores
from gateway.lib.sockets import ListenError, listen, listen_shared, port_of
from gateway.ports.errors import StoreUnusable
from gateway.processes.master import OpenSockets, needs_restart, run_folder
from gateway.processes.worker_settings import (
    settings_for_worker,
    with_host_registry,
    with_memory_limit,
    worker_count,
)
from gateway.settings import Settings, SettingsError, load


def settings(*overrides: str) -> Settings:
    return load(environ={}, overrides=["data=var", *overrides])


def slot(count: int = 4) -> WorkerSlot:
    return WorkerSlot("0a1b2c3d", 2, 1, count, Path("/run/millrace"), "made by the master")


# ---- ports ----


def test_connections_to_one_port_are_spread_over_the_workers():
    shares = listen_shared("http", "127.0.0.1", 0, 3)
    try:
        port = port_of(shares[0])
        assert {port_of(share) for share in shares} == {port}
        clients = [socket.create_connection(("127.0.0.1", port), 5) for _ in range(90)]
        taken = [0, 0, 0]
        for n, (one,) in enumerate(shares):
            one.setblocking(False)
            while True:
                try:
                    one.accept()[0].close()
                except BlockingIOError:
                    break
                taken[n] += 1
        for client in clients:
            client.close()
        assert sum(taken) == 90
        assert min(taken) > 5, "the kernel gives each some"
    finally:
        for one in (one for share in shares for one in share):
            one.close()


def test_queued_connections_wait_for_the_next_owner_of_the_socket():
    (first,) = listen_shared("http", "127.0.0.1", 0, 1)
    old = first[0].dup()
    with socket.create_connection(("127.0.0.1", port_of(first)), 5) as client:
        first[0].close()
        old.setblocking(True)
        accepted, _ = old.accept()
        with accepted:
            accepted.sendall(b"here")
            assert client.recv(4) == b"here"
    old.close()


def test_a_port_shared_by_workers_is_in_use_for_other_gateways():
    shares = listen_shared("http", "127.0.0.1", 0, 2)
    port = port_of(shares[0])
    try:
        for attempt in (lambda: listen("http", "127.0.0.1", port), lambda: listen_shared("http", "127.0.0.1", port, 2)):
            with pytest.raises(ListenError, match=f"http: 127.0.0.1:{port} is in use"):
                attempt()
    finally:
        for one in (one for share in shares for one in share):
            one.close()


def test_only_the_first_worker_gets_the_ports_of_one_process():
    ports = ("rtmp.port", "http.port", "ws.port", "srt.port", "srt.srtla_port", "webrtc.port", "admin.port")
    config = settings(*(f"{port}=0" for port in ports))
    opened = OpenSockets.open(config.listeners(), 2)
    try:
        assert set(opened.of(1)) == {"rtmp", "http", "ws", "srt", "srtla", "webrtc", "admin"}
        assert set(opened.of(2)) == {"rtmp", "http", "ws", "srt", "webrtc"}
        assert opened.ports["admin"] and opened.ports["rtmps"] is None
        assert not {fd for fds in opened.of(1).values() for fd in fds} & {
            fd for fds in opened.of(2).values() for fd in fds
        }
    finally:
        opened.close()


def test_a_port_in_use_leaves_no_other_sockets_open():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        before = len(os.listdir("/proc/self/fd"))
        config = settings("rtmp.port=0", "http.port=0", "ws.port=0", f"admin.port={port}")
        with pytest.raises(ListenError, match="admin"):
            OpenSockets.open(config.listeners(), 3)
        assert len(os.listdir("/proc/self/fd")) == before


# ---- settings ----


def test_limits_of_the_node_are_divided_among_its_workers():
    divided = settings_for_worker(
        settings("limits.publishers=10", "workers.most=9", "recording.spool_bytes=1000"), slot(4)
    )
    assert (divided.limits.publishers, divided.workers.most, divided.recording.spool_bytes) == (3, 3, 250)
    assert settings_for_worker(settings(), slot(4)).limits.publishers == 0, "no bound stays none"


def test_workers_without_a_configured_registry_get_a_local_one():
    found = with_host_registry(settings(), slot())
    assert found.registry == f"sqlite:///{Path('var/nodes.db').absolute()}"
    assert found.cluster.secret.get_secret_value() == "made by the master"


def test_a_configured_registry_and_secret_are_kept():
    found = with_host_registry(
        settings("registry=dynamodb://video-streaming", "cluster.secret=ours alone to know"), slot()
    )
    assert found.registry == "dynamodb://video-streaming"
    assert found.cluster.secret.get_secret_value() == "ours alone to know"


def test_zero_workers_means_one_per_core():
    assert worker_count(settings("serve.workers=3")) == 3
    assert worker_count(settings("serve.workers=0")) == cores() >= 1


@pytest.mark.parametrize(
    ("limit", "vod"),
    [("4294967296", 3_221_225_472), ("17179869184", 6_000_000_000), ("max", 6_000_000_000)],
)
def test_a_vod_job_leaves_memory_of_the_container_to_the_others(limit: str, vod: float, tmp_path: Path):
    for name, text in (("proc/self/cgroup", "0::/"), ("sys/fs/cgroup/memory.max", limit)):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(f"{text}\n")
    assert with_memory_limit(settings(), tmp_path).vod.memory == vod
    assert with_memory_limit(settings("vod.memory=0"), tmp_path).vod.memory == 0, "the operator's own"


def test_a_reload_lists_options_that_need_a_restart():
    old = settings("serve.workers=2")
    assert (
        needs_restart(old, settings("serve.workers=2", "stream.linger=5", "log.level=debug"), Settings.listeners) == []
    )
    changed = settings("serve.workers=3", "rtmp.port=1936", "admin.host=0.0.0.0")
    assert needs_restart(old, changed, Settings.listeners) == ["serve.workers", "admin", "rtmp"]
    elsewhere = load(environ={}, overrides=["data=other", "serve.workers=2"])
    assert needs_restart(old, elsewhere, Settings.listeners) == ["data"]


# ---- what the commands say of it ----


@pytest.mark.parametrize(
    ("workers", "most", "spreads", "state", "words"),
    [
        (1, 1, True, CheckState.OK, "one, on one core"),
        (1, 8, True, CheckState.OK, "one, on one core; serve.workers = 0 uses all 8 cores"),
        (4, 4, True, CheckState.OK, "4 share the ports, on 4 cores"),
        (4, 2, True, CheckState.WARNING, "4 share the ports, on 2 cores: more than there are cores only cost memory"),
        (
            4,
            4,
            False,
            CheckState.MISSING,
            "serve.workers is 4, but only Linux spreads connections over several processes",
        ),
    ],
)
def test_the_doctor_compares_processes_and_cores(workers: int, most: int, spreads: bool, state: CheckState, words: str):
    found = check_processes(settings(f"serve.workers={workers}"), most, spreads)
    assert (found.state, found.text) == (state, words)


def test_several_workers_are_refused_on_other_systems_than_linux(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(SettingsError, match=r"serve\.workers is 2, but only Linux"):
        settings("serve.workers=2")
    assert settings("serve.workers=0").serve.workers == 0


# ---- the folder of what runs ----


def test_the_run_folder_is_private_and_locked_by_one_master(tmp_path: Path):
    with run_folder(tmp_path / "run") as folder:
        assert folder.stat().st_mode & 0o777 == 0o700
        taken = pytest.raises(StoreUnusable, match=f"process {os.getpid()} runs on this data folder already")
        with taken, run_folder(tmp_path / "run"):
            raise AssertionError
    with run_folder(tmp_path / "run"):
        pass


def test_files_of_an_earlier_master_in_the_run_folder_are_removed(tmp_path: Path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "ffffffff.1.sock").touch()
    (tmp_path / "run" / "ffffffff.1.counters").touch()
    with run_folder(tmp_path / "run") as folder:
        assert [path.name for path in folder.iterdir()] == ["lock"]


def test_the_run_folder_moves_if_its_path_is_too_long_for_sockets(tmp_path: Path):
    long = tmp_path / ("x" * 100)
    long.mkdir()
    with run_folder(long / "run") as folder:
        assert len(str(folder)) < 60
        assert folder.stat().st_mode & 0o777 == 0o700
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(str(folder / "01234567.128-4096.sock"))
    assert not folder.exists()


def test_a_file_system_without_locks_gives_only_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def refuse(*arguments: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    with run_folder(tmp_path / "run"):
        assert "start no second gateway here" in "".join(capsys.readouterr())


def test_a_run_folder_that_cannot_be_created_gives_a_clear_error(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreUnusable, match="cannot be used"), run_folder(tmp_path / "file" / "run"):
        raise AssertionError
