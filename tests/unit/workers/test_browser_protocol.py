"""Messages between a browser push and its worker."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.media.errors import InvalidData
from gateway.protocols import wire
from gateway.workers.browser_protocol import BrowserPlan, BrowserReport

NOTE = BrowserReport("transcode", None, 3, 1, 0.25, ("audio: A_WHAT is a codec that is not known here",))


def test_plans_and_reports_are_transferred_unchanged() -> None:
    plan = BrowserPlan("fast", 2, 0.25, 3.0)
    assert BrowserPlan.from_json(wire.read_json(wire.write_json(plan.to_json()))) == plan
    assert BrowserReport.from_json(wire.read_json(wire.write_json(NOTE.to_json()))) == NOTE
    assert BrowserReport.from_json(wire.read_json(wire.write_json(BrowserReport().to_json()))) == BrowserReport()


@pytest.mark.parametrize("said", [{}, {"preset": "fast"}, {**BrowserPlan().to_json(), "threads": "many"}])
def test_an_invalid_plan_is_refused(said: dict[str, Any]) -> None:
    with pytest.raises(InvalidData, match="invalid browser plan"):
        BrowserPlan.from_json(said)


def test_numbers_of_a_report_never_lower_a_counter() -> None:
    said = wire.read_json(
        b'{"video":null,"audio":null,"dropped":-1e999,"damaged":-5,"behind":NaN,"unusable_tracks":[]}'
    )
    assert BrowserReport.from_json(said) == BrowserReport()


@pytest.mark.parametrize("change", [{"unusable_tracks": None}, {"dropped": "x"}, {"behind": []}])
def test_an_invalid_report_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidData, match="invalid browser report"):
        BrowserReport.from_json({**NOTE.to_json(), **change})
