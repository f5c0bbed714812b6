"""Fixtures of the tests of what is deployed."""

from collections.abc import Iterator

import pytest

from tests.support.containers import need_containers, volume
from tests.support.tools import need


@pytest.fixture
def data() -> Iterator[str]:
    """A volume for the data of a container."""
    need_containers()
    need("ffmpeg")
    with volume() as name:
        yield name
