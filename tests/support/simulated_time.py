"""Lets the time of a test without sockets and threads pass at once: how busy the machine is changes nothing."""

from __future__ import annotations

import asyncio
import math
import time
from typing import Any

import pytest


def simulate_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the end of the test, the running loop waits for no timer: its clock, the monotonic one, jumps to it."""
    loop: Any = asyncio.get_running_loop()
    now: float = math.ceil(time.monotonic())  # whole, so that all runs have the same sums
    select = loop._selector.select

    def jump(seconds: float | None) -> Any:
        nonlocal now
        found = select(0 if seconds is not None else None)
        if not found and seconds is not None:
            now += seconds
        return found

    monkeypatch.setattr(loop._selector, "select", jump)
    monkeypatch.setattr(loop, "time", lambda: now)
    monkeypatch.setattr(time, "monotonic", lambda: now)
