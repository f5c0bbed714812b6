"""Messages between a browser push and its worker."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest

from gateway.media.errors import InvalidData
from gateway.protocols import wire
from gateway.workers.browser_protocol import BrowserPlan, BrowserReport

NOTE = BrowserReport("transcode", None, 3, 1, 0.25, ("audio: A_WHAT is a codec that is not known here",))


def test_plans_and_reports_are_transferred_unchanged() -> None:
    plan = BrowserPlan("fast", 2, 0.25, 3.0)
    assert wire.decode_record(BrowserPlan, wire.write_json(asdict(plan))) == plan
    assert BrowserReport.decode(wire.write_json(asdict(NOTE))) == NOTE
    assert BrowserReport.decode(wire.write_json(asdict(BrowserReport()))) == BrowserReport()


@pytest.mark.parametrize("said", [{}, {"preset": "fast"}, {**asdict(BrowserPlan()), "threads": "many"}])
def test_an_invalid_plan_is_refused(said: dict[str, Any]) -> None:
    with pytest.raises(InvalidData, match="invalid BrowserPlan"):
        wire.decode_record(BrowserPlan, wire.write_json(said))


def test_numbers_of_a_report_never_lower_a_counter() -> None:
    said = b'{"video":null,"audio":null,"dropped":-1e999,"damaged":-5,"behind":NaN,"unusable_tracks":[]}'
    assert BrowserReport.decode(said) == BrowserReport()


@pytest.mark.parametrize("change", [{"unusable_tracks": None}, {"dropped": "x"}, {"behind": []}])
def test_an_invalid_report_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidData, match="invalid BrowserReport"):
        BrowserReport.decode(wire.write_json({**asdict(NOTE), **change}))
