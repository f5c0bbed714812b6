"""The report of a show: its numbers with the events of its time, and its form as CSV."""

import csv
import io
import json
from typing import Any, cast

import pytest

from gateway.diagnosis.event_log import EventIds, stored_event
from gateway.diagnosis.show import Show
from gateway.diagnosis.show_report import as_csv, latest_before, report
from gateway.lib.rfc3339 import rfc3339
from gateway.ports.events import Event, EventType, StoredEvent
from gateway.ports.stores import EventQuery

START = 1_800_000_000.0


class Log:
    """An events log in memory."""

    def __init__(self) -> None:
        self._ids = EventIds()
        self.events: list[StoredEvent] = []

    def add(self, type: EventType, at: float, /, **data: Any) -> None:
        self.events.append(stored_event(Event(type, START + at, "c1", data), self._ids.next(START + at), "n1"))

    async def newest(self, query: EventQuery) -> list[StoredEvent]:
        found = [e for e in self.events if e.type == query.type and query.since <= e.id < query.before]
        return sorted(found, key=lambda event: event.id, reverse=True)[: query.limit]


def show(seconds: float = 100, start: float = START) -> Show:
    made = Show(start, "Concert", start)
    made.sample(start + 10, {"hls": 2})
    made.end = start + seconds
    return made


async def made(log: Log, before: Show | None = None) -> dict[str, Any]:
    return await report("c1", show(), before, cast(Any, log))


async def test_faults_have_their_times_and_name_no_target():
    log, at = Log(), EventType.STREAM_HEALTH
    log.add(at, -5, code="fps_low", text="before", state="begun")
    log.add(at, 10, code="gop_long", text="6 s", state="begun")
    log.add(at, 20, code="gop_long", text="6 s", state="ended")
    log.add(at, 30, code="output_failing", value="relay rtmp://a", text="relay rtmp://a fails", state="begun")
    log.add(at, 40, code="output_failing", value="relay rtmp://b", text="relay rtmp://b fails", state="begun")
    log.add(at, 50, code="output_failing", value="relay rtmp://a", text="relay rtmp://a fails", state="ended")
    found = await made(log)
    assert [(one["code"], one["text"], one["from"], one["to"]) for one in found["health"]] == [
        ("gop_long", "6 s", rfc3339(START + 10), rfc3339(START + 20)),
        ("output_failing", "", rfc3339(START + 30), rfc3339(START + 50)),
        ("output_failing", "", rfc3339(START + 40), None),
    ]
    assert "rtmp://" not in json.dumps(found)


async def test_refusals_and_pauses_name_no_address():
    log = Log()
    log.add(EventType.PUBLISH_STARTED, -1, protocol="rtmp", peer="192.0.2.1:5")
    log.add(EventType.PUBLISH_REFUSED, 5, protocol="srt", refusal="wrong", peer="192.0.2.9:5")
    log.add(EventType.PUBLISH_REFUSED, 6, protocol="srt", refusal="wrong", peer="192.0.2.9:6")
    log.add(EventType.PUBLISH_ENDED, 20, protocol="rtmp", peer="192.0.2.1:5")
    log.add(EventType.PUBLISH_STARTED, 24, protocol="rtmp", peer="192.0.2.1:6")
    log.add(EventType.PUBLISH_ENDED, 99, protocol="rtmp", peer="192.0.2.1:6")
    found = await made(log)
    assert found["refusals"] == [{"protocol": "srt", "reason": "wrong", "count": 2}]
    assert found["interruptions"] == [{"from": rfc3339(START + 20), "to": rfc3339(START + 24)}]
    assert "192.0.2" not in json.dumps(found)


async def test_recordings_belong_to_the_show_in_which_they_began():
    log, at = Log(), EventType.RECORDING_READY
    log.add(at, 130, kind="video", start=START + 50, seconds=50.0, bytes=9, key="c1/mp4/a.mp4")
    log.add(at, 140, kind="ondemand", start=START + 110, seconds=10.0, bytes=9)  # of the next show
    log.add(at, 60, kind="clip", start=START + 40, seconds=5.0, bytes=3)
    log.add(EventType.CUE, 70, id="b1", type="out", seconds=30.0)
    found = await made(log)
    assert found["recordings"] == [{"kind": "video", "start": rfc3339(START + 50), "seconds": 50.0, "bytes": 9}]
    assert [clip["seconds"] for clip in found["clips"]] == [5.0]
    assert found["cues"] == [{"at": rfc3339(START + 70), "type": "out", "seconds": 30.0}]


async def test_a_report_compares_with_the_show_before():
    shows = [show(), show(50, START - 1000), show(50, START - 5000)]
    found = await made(Log(), latest_before(shows[0], shows))
    assert (found["before"]["id"], found["before"]["seconds"], found["seconds"]) == (shows[1].id, 50, 100)
    assert latest_before(shows[2], shows) is None


async def test_csv_has_each_value_once_and_no_formula():
    log = Log()
    log.add(EventType.OUTPUT_FAILED, 5, output="=HYPERLINK(1)")
    one = show()
    one.title = '=cmd|"/c calc"!A1'
    found = await report("c1", one, None, cast(Any, log))
    lines = list(csv.reader(io.StringIO(as_csv(found))))
    assert lines[0] == ["name", "value"]
    values = dict(lines[1:])  # type: ignore[arg-type] # pairs
    assert len(values) == len(lines) - 1
    assert (values["title"], values["failures.1.output"]) == ("'" + one.title, "'=HYPERLINK(1)")
    assert (values["peak"], values["viewers.1.protocol"], values["before"]) == ("2", "hls", "")


@pytest.mark.parametrize("title", [" =1+1", "\u00a0@x", "\uff1d1+1", "\n=1", "-1"])
async def test_csv_has_no_text_that_any_spreadsheet_runs(title):
    """The same ones as the CSV files of the console."""
    one = show()
    one.title = title
    lines = list(csv.reader(io.StringIO(as_csv(await report("c1", one, None, cast(Any, Log()))))))
    assert dict(lines[1:])["title"] == "'" + title  # type: ignore[arg-type] # pairs
