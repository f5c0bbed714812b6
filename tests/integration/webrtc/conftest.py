"""These tests run on both event loops, but for those of processes of the gateway."""

from tests.support.loops import pytest_asyncio_loop_factories

__all__ = ["pytest_asyncio_loop_factories"]
