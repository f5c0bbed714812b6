"""A job: long work on a VOD or a recording, which continues after its client has disconnected.

The states are those of MediaConvert. `TRANSITIONS` has the state changes. COMPLETE, CANCELED and ERROR are final.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from typing import Any, Final

from gateway.lib.records import read_record


class JobState(StrEnum):
    SUBMITTED = "SUBMITTED"
    PROGRESSING = "PROGRESSING"
    COMPLETE = "COMPLETE"
    CANCELED = "CANCELED"
    ERROR = "ERROR"

    @property
    def finished(self) -> bool:
        return not TRANSITIONS[self]


# A job returns to SUBMITTED if its owner has stopped or died. Another attempt follows.
TRANSITIONS: Final[Mapping[JobState, frozenset[JobState]]] = {
    JobState.SUBMITTED: frozenset((JobState.PROGRESSING, JobState.CANCELED, JobState.ERROR)),
    JobState.PROGRESSING: frozenset(
        (JobState.PROGRESSING, JobState.SUBMITTED, JobState.COMPLETE, JobState.CANCELED, JobState.ERROR)
    ),
    JobState.COMPLETE: frozenset(),
    JobState.CANCELED: frozenset(),
    JobState.ERROR: frozenset(),
}

VOD: Final = "vod"
KVS: Final = "kvs"


@dataclass(frozen=True, slots=True)
class StoredJob:
    """One job as it is stored.

    kind: VOD, KVS.
    source: an object's key, s3://bucket/key or a path.
    created, updated: seconds since 1970.
    progress: percent.
    outputs: by name, such as {"hls": key of the playlist}.
    error: one line, for the state ERROR. warning: one line about what is missing, for the state COMPLETE.
    owner: the process that works on the job.
    attempts: number of starts.
    detail: additional values for this kind.
    version: increases with each change. A change is stored only if it is based on the stored version.
    """

    id: str
    kind: str
    source: str
    created: float
    updated: float
    state: JobState = JobState.SUBMITTED
    progress: int = 0
    outputs: Mapping[str, str] = field(default_factory=dict)
    error: str | None = None
    owner: str = ""
    attempts: int = 0
    detail: Mapping[str, Any] = field(default_factory=dict)
    version: int = 1
    warning: str | None = None

    def to(self, state: JobState, now: float, **changes: Any) -> StoredJob:
        """Returns the next version, in `state`. Raises ValueError if the table does not have this change."""
        if state not in TRANSITIONS[self.state]:
            raise ValueError(f"a job does not change from {self.state} to {state}")
        return replace(self, state=state, updated=now, version=self.version + 1, **changes)

    def as_item(self) -> dict[str, Any]:
        """Returns plain values for a store."""
        item = {field.name: getattr(self, field.name) for field in fields(self)}
        return item | {"state": str(self.state), "outputs": dict(self.outputs), "detail": dict(self.detail)}

    @classmethod
    def of_item(cls, item: Mapping[str, Any]) -> StoredJob:
        """Returns the job for the values of `as_item`. Ignores fields of newer programs."""
        return read_record(cls, item, defaults=True)
