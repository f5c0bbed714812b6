"""The events of a history: what the database stored, and what each gateway asked, was told and served.

All times are seconds of CLOCK_MONOTONIC of the machine on which the whole history was made.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any


class Result(StrEnum):
    """The answer to an operation. UNKNOWN: an error, or none; the operation may take effect at any later time."""

    OK = "ok"
    HELD = "held"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Row:
    """The stored claim of a stream."""

    claim: str
    node: str
    left: bool = False


@dataclass(frozen=True, slots=True)
class Change:
    """A committed change of one row, as a trigger in the same transaction wrote it.

    number: rises in the order in which the database changed the rows of one stream.
    before, after: None: there is no row. process: the gateway process that made the change; "": unknown.
    """

    number: int
    time: float
    stream: str
    before: Row | None
    after: Row | None
    process: str = ""


@dataclass(frozen=True, slots=True)
class Call:
    """A claim or a release of a gateway process, from its first byte to its answer.

    node: id of the process in the registry. replaces: the claim that a claim may replace; "": none.
    left: of a release, whether the row stays for the next node. found: the claim of the row that refused a claim.
    """

    process: str
    node: str
    kind: str  # "claim" or "release"
    stream: str
    claim: str
    began: float
    ended: float
    result: Result
    replaces: str = ""
    left: bool = False
    found: str = ""


@dataclass(frozen=True, slots=True)
class Read:
    """A consistent read of one row by a gateway process. claim: "": no row."""

    process: str
    stream: str
    claim: str
    began: float
    ended: float


@dataclass(frozen=True, slots=True)
class Service:
    """The time in which a gateway process had a stream. reason: why it ended; "": the process was killed."""

    process: str
    stream: str
    began: float
    ended: float
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Stop:
    """The time in which a process executed nothing (SIGSTOP). killed: it never continued."""

    process: str
    began: float
    ended: float
    killed: bool = False


@dataclass(frozen=True)
class History:
    """Everything that the checker reads. ended: the time at which recording stopped."""

    changes: Sequence[Change] = ()
    calls: Sequence[Call] = ()
    reads: Sequence[Read] = ()
    services: Sequence[Service] = ()
    stops: Sequence[Stop] = ()
    ended: float = field(default=float("inf"))


def save(history: History, file: Path) -> None:
    """Writes one event a line, so that a history can be checked again."""
    with file.open("w") as out:
        out.write(json.dumps({"ended": history.ended}) + "\n")
        for name in ("changes", "calls", "reads", "services", "stops"):
            for event in getattr(history, name):
                out.write(json.dumps({"event": name} | asdict(event)) + "\n")


def load(file: Path) -> History:
    """Reads what `save` has written."""
    first, *lines = (json.loads(line) for line in file.read_text().splitlines())
    found: dict[str, list[Any]] = {}
    for line in lines:
        found.setdefault(line.pop("event"), []).append(line)
    return History(
        [_change(line) for line in found.get("changes", ())],
        [Call(**line | {"result": Result(line["result"])}) for line in found.get("calls", ())],
        [Read(**line) for line in found.get("reads", ())],
        [Service(**line) for line in found.get("services", ())],
        [Stop(**line) for line in found.get("stops", ())],
        first["ended"],
    )


def _change(line: dict[str, Any]) -> Change:
    before, after = (Row(**line[name]) if line[name] else None for name in ("before", "after"))
    return Change(**line | {"before": before, "after": after})


def of_witness(
    process: str, lines: Iterable[Mapping[str, Any]], ended: float
) -> tuple[list[Call], list[Read], list[Service]]:
    """Returns the calls, reads and services of one gateway process.

    lines: what `witness.py` wrote, in order. ended: when the process was killed or the recording stopped; calls
    without an answer and streams without an end last until then.
    """
    node = ""
    calls: list[Call] = []
    reads: list[Read] = []
    services: list[Service] = []
    open_calls: dict[int, Mapping[str, Any]] = {}
    open_services: dict[int, Mapping[str, Any]] = {}
    for line in lines:
        match line["what"]:
            case "asked":
                open_calls[line["number"]] = line
                node = line.get("node") or node
            case "answered":
                asked = open_calls.pop(line["number"])
                if asked["kind"] == "read":
                    if line["result"] == Result.OK:
                        reads.append(Read(process, asked["stream"], line["found"], asked["time"], line["time"]))
                else:
                    calls.append(_call(process, asked, line["time"], Result(line["result"]), line["found"]))
            case "began":
                open_services[line["number"]] = line
            case "ended":
                began = open_services.pop(line["number"])
                services.append(Service(process, began["stream"], began["time"], line["time"], line["reason"]))
    calls += [_call(process, one, ended, Result.UNKNOWN, "") for one in open_calls.values() if one["kind"] != "read"]
    services += [Service(process, one["stream"], one["time"], ended) for one in open_services.values()]
    return calls, reads, services


def _call(process: str, asked: Mapping[str, Any], ended: float, result: Result, found: str) -> Call:
    names = ("node", "kind", "stream", "claim", "replaces", "left")
    return Call(
        process=process,
        began=asked["time"],
        ended=ended,
        result=result,
        found=found,
        **{name: asked[name] for name in names},
    )
