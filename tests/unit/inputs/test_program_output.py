"""ProgramOutput: a transport stream over SRT or UDP whose key frames are far apart."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.inputs.pull.program_output import ProgramOutput
from gateway.media.track import Kind
from gateway.ports.errors import OutputError
from tests.support.inputs import FakeInput
from tests.unit.formats.ts.test_program_reader import made

PACKET = 188


async def test_a_late_key_frame_is_waited_for_while_pictures_come() -> None:
    data, context, services = made("h264").read_bytes(), FakeInput(), SimpleNamespace(workers=None)
    tables, middle = data[: 3 * PACKET], data[40_000 // PACKET * PACKET :]
    given: Any = services
    async with ProgramOutput(given, context, "sender") as output:
        first = float(int(time.monotonic()))  # whole seconds, so that sums are exact
        output.receive(tables + middle[: 20 * PACKET], first)
        for waited in (9, 11, 90):
            output.receive(tables, first + waited)
            output.check(first + waited)
        assert context.problems == ["no key frame for 11 s", "no key frame for 90 s"]
        with pytest.raises(OutputError, match="no key frame for 91 s"):
            output.check(first + 91)
        output.receive(data, first + 91)
        output.check(first + 92)
        assert context.problems[-1] is None
        assert context.recorder.of(Kind.VIDEO)[0].key
