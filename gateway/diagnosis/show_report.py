"""The report of a show: its numbers, and what the events log has of its time. It names no viewer and no address."""

import asyncio
import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from gateway.diagnosis.event_log import EventLog, first_id
from gateway.diagnosis.experience import PAGES, summary
from gateway.diagnosis.show import Show, Watched
from gateway.lib.rfc3339 import rfc3339
from gateway.ports.events import EventType, StoredEvent
from gateway.ports.stores import EventQuery

MAX_EVENTS: Final = 500  # of one type; `incomplete` says that there were more
_AFTER: Final = 3_600.0  # seconds after the end in which recordings of the show may become ready
_TYPES: Final = (
    *(EventType.STREAM_HEALTH, EventType.PUBLISH_STARTED, EventType.PUBLISH_ENDED, EventType.PUBLISH_REFUSED),
    *(EventType.OUTPUT_FAILED, EventType.CUE, EventType.RECORDING_READY),
)
# A spreadsheet runs a text with such a beginning as a formula; some of them also after spaces (console/app/csv.js).
_FORMULA: Final = re.compile(r"\s*[=+\-@\uff1d\uff0b\uff0d\uff20]|[\t\r\n]")


def figures(show: Show) -> dict[str, Any]:
    """Returns what the list of shows has of a show. end: None while it lasts. watched: seconds of all viewers."""
    return {
        "id": show.id,
        "start": rfc3339(show.start),
        "end": None if show.end is None else rfc3339(show.end),
        "title": show.title,
        "peak": show.all.peak,
        "mean": round(show.mean, 2),
        "watched": round(show.all.seconds),
    }


def latest_before(show: Show, shows: Sequence[Show]) -> Show | None:
    """Returns the show before this one. shows: of the channel, newest first."""
    return next((one for one in shows if one.start < show.start), None)


async def report(channel: str, show: Show, before: Show | None, events: EventLog) -> dict[str, Any]:
    """Returns the report as JSON. before: the show before it. Raises StoreUnavailable."""
    end = show.seen if show.end is None else show.end
    found = await asyncio.gather(*(_events(events, channel, show.start, end, kind) for kind in _TYPES))
    health, begun, ended, refused, failed, cues, ready = found
    return {
        **figures(show),
        "seconds": round(show.seconds, 1),
        "peakAt": rfc3339(show.peak_at) if show.peak_at else None,
        "viewers": [{"protocol": name, **_watched(one, show)} for name, one in sorted(show.viewers.items())],
        "pages": _pages(show),
        "curve": {"step": show.step, "viewers": show.curve},
        "sent": show.sent,
        "received": show.received,
        "experience": summary(show.experience) | {"seconds": round(show.seconds)},
        "health": list(_faults(health)),
        "interruptions": list(_pauses(begun, ended)),
        "refusals": _refusals(refused),
        "failures": [{"at": rfc3339(event.time), "output": str(event.data.get("output", ""))} for event in failed],
        "captions": show.captions,
        "cues": [{"at": rfc3339(event.time), **_members(event, "type", "seconds")} for event in cues],
        "recordings": [_recording(event) for event in ready if event.data.get("kind") != "clip"],
        "clips": [_recording(event) for event in ready if event.data.get("kind") == "clip"],
        "incomplete": any(len(one) >= MAX_EVENTS for one in found),
        "before": None if before is None else {**figures(before), "seconds": round(before.seconds, 1)},
    }


async def _events(events: EventLog, channel: str, start: float, end: float, kind: EventType) -> list[StoredEvent]:
    """Returns the events of one type, the oldest first."""
    of_recordings = kind is EventType.RECORDING_READY
    last = end + _AFTER if of_recordings else end
    query = EventQuery(MAX_EVENTS, channel, str(kind), first_id(start), first_id(last + 0.001))
    return [event for event in reversed(await events.newest(query)) if not of_recordings or _is_of(event, start, end)]


def _is_of(event: StoredEvent, start: float, end: float) -> bool:
    """Whether a recording began in the show."""
    began = event.data.get("start")
    return event.time <= end if not isinstance(began, int | float) else start - 1 <= began <= end


def _faults(events: Sequence[StoredEvent]) -> Iterator[dict[str, Any]]:
    """Yields each fault with its times. to: None if it lasted to the end. The text of an output may name its target."""
    open_faults: dict[tuple[str, str], dict[str, Any]] = {}
    for event in events:
        code = str(event.data.get("code", ""))
        of_output = code == "output_failing"
        key = code, str(event.data.get("value")) if of_output else ""
        if event.data.get("state") == "begun":
            text = "" if of_output else str(event.data.get("text", ""))
            open_faults.setdefault(key, {"code": code, "text": text, "from": rfc3339(event.time)})
        elif key in open_faults:
            yield {**open_faults.pop(key), "to": rfc3339(event.time)}
    for fault in open_faults.values():
        yield {**fault, "to": None}


def _pauses(begun: Sequence[StoredEvent], ended: Sequence[StoredEvent]) -> Iterator[dict[str, Any]]:
    """Yields the times in which a publisher was away and returned."""
    starts = [event.time for event in begun]
    for event in ended:
        if back := next((at for at in starts if at > event.time), None):
            yield {"from": rfc3339(event.time), "to": rfc3339(back)}


def _refusals(events: Sequence[StoredEvent]) -> list[dict[str, Any]]:
    """Returns how many pushes were refused, by protocol and reason."""
    counts = Counter((str(event.data.get("protocol", "")), str(event.data.get("reason", ""))) for event in events)
    return [{"protocol": protocol, "reason": reason, "count": n} for (protocol, reason), n in counts.most_common()]


def _recording(event: StoredEvent) -> dict[str, Any]:
    began = event.data.get("start")
    start = rfc3339(began if isinstance(began, int | float) else event.time)
    return {"kind": str(event.data.get("kind", "")), "start": start, **_members(event, "seconds", "bytes")}


def _members(event: StoredEvent, *names: str) -> dict[str, Any]:
    return {name: event.data.get(name) for name in names}


def _watched(watched: Watched, show: Show) -> dict[str, Any]:
    mean = watched.seconds / show.seconds if show.seconds else 0.0
    return {"peak": watched.peak, "mean": round(mean, 2), "watched": round(watched.seconds)}


def _pages(show: Show) -> list[dict[str, Any]]:
    """Returns how many players began in each page, the most first."""
    counts = Counter[str]()
    for totals in show.experience.values():
        counts.update(dict(zip(PAGES, totals.pages.counts, strict=True)))
    return [{"page": page, "players": count} for page, count in counts.most_common() if count]


def as_csv(report: Mapping[str, Any]) -> str:
    """Returns a report as lines of a name and a value. Names of members of a list have its numbers, from 1."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(("name", "value"))
    writer.writerows((name, _cell(value)) for name, value in _flat("", report))
    return text.getvalue()


def _flat(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    pairs = value.items() if isinstance(value, Mapping) else enumerate(value, 1) if isinstance(value, list) else None
    if pairs is None:
        yield name, value
        return
    for key, member in pairs:
        yield from _flat(f"{name}.{key}" if name else str(key), member)


def _cell(value: Any) -> str:
    if isinstance(value, str):
        return f"'{value}" if _FORMULA.match(value) else value
    return "" if value is None else json.dumps(value)
