"""The example output of docs/extending.md shows its own errors."""

import asyncio
import sys

import pytest

from tests.support import builders
from tests.support.builders import VIDEO, picture
from tests.support.installed_output import EXAMPLE


async def test_an_error_of_the_example_ends_its_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLE))
    from gop_check.output import GopCheck

    monkeypatch.delitem(sys.modules, "gop_check.output")
    stream = builders.stream()
    check = GopCheck(stream)
    running = asyncio.create_task(check.run(stream))
    await asyncio.sleep(0)
    stream.set_tracks(VIDEO, None, {}, True)
    monkeypatch.setattr(check, "on_unit", lambda unit: [][0])
    stream.push(picture(0, True))
    with pytest.raises(IndexError):
        await running
    assert check.report()["keyFrames"] == 0
