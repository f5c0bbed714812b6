"""Runs the asynchronous tests of a folder on both event loops. A folder's conftest imports the hook."""

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Returns the gateway's own event loop and that of asyncio, which differ in details."""
    return {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}
