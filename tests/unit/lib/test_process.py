"""Who is alive, and whose is what."""

from __future__ import annotations

import os
import subprocess
import sys

from gateway.lib.process import alive, is_dead, owner


def test_this_process_lives_and_one_that_ended_does_not() -> None:
    assert alive(os.getpid()) and alive(1)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert not alive(ended.pid)
    assert alive(10**30)  # no such number: not known to be dead


def test_an_owner_is_dead_when_its_process_is() -> None:
    own = owner()
    machine, pid, _ = own.split("/")
    assert not is_dead(own, own)
    assert is_dead(f"{machine}/{pid}/earlier", own)
    assert is_dead(f"{machine}/4194304/x", own)
    assert not is_dead(f"{machine}/{os.getppid()}/x", own)


def test_of_another_machine_nobody_knows() -> None:
    own = owner()
    for name in ("elsewhere/4194304/x", "", "/", f"{own.split('/')[0]}/x/y", f"{own.split('/')[0]}/²/y"):
        assert not is_dead(name, own)
