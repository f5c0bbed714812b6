"""Whether a process runs, and whether the owner of a resource is dead."""

from __future__ import annotations

import os
import subprocess
import sys

from gateway.lib.process import alive, is_dead, owner


def test_a_running_process_is_alive_and_an_ended_one_is_not() -> None:
    assert alive(os.getpid()) and alive(1)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert not alive(ended.pid)
    assert alive(10**30)  # no such number: not known to be dead


def test_an_owner_is_dead_if_its_process_has_ended() -> None:
    own = owner()
    machine, pid, _ = own.split("/")
    assert not is_dead(own, own)
    assert is_dead(f"{machine}/{pid}/earlier", own)
    assert is_dead(f"{machine}/4194304/x", own)
    assert not is_dead(f"{machine}/{os.getppid()}/x", own)


def test_owners_on_other_machines_never_count_as_dead() -> None:
    own = owner()
    for name in ("elsewhere/4194304/x", "", "/", f"{own.split('/')[0]}/x/y", f"{own.split('/')[0]}/²/y"):
        assert not is_dead(name, own)
