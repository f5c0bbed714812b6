"""One running gateway for all tests of a module."""

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from tests.support.gateway import Gateway, running
from tests.support.media import Film
from tests.support.tools import need


def shared_gateway(*programs: str, films: Sequence[Film] = (), **settings: str) -> Any:
    """Returns the fixture `gateway` for a module: a gateway with these settings, which is stopped after the tests.

    programs: what the tests drive. films: made before the gateway starts, because an encoder may need all processors.
    """

    @pytest.fixture(scope="module", name="gateway")
    def start() -> Iterator[Gateway]:
        need(*programs)
        for film in films:
            film.path()
        with running(**settings) as gateway:
            yield gateway

    return start
