"""AbandonedJobs: finds the running jobs that no process works on any more."""

from collections.abc import Iterable

from gateway.lib.process import is_dead
from gateway.ports.jobs import JobState, StoredJob


class AbandonedJobs:
    """Finds running jobs whose process has ended, or has not written the job for a time.

    It measures with the clock of this machine, because clocks of other machines may be wrong.

    owner: the name of this process. seconds: without a write, after which a job counts as abandoned.
    """

    def __init__(self, owner: str, seconds: float) -> None:
        self._owner, self._seconds = owner, seconds
        self._seen: dict[tuple[str, int], float] = {}  # by id and version: when it was first read

    def find(self, jobs: Iterable[StoredJob], now: float) -> set[str]:
        """Returns the ids of the abandoned jobs. jobs: those that the store has now. now: monotonic time in seconds."""
        running = [job for job in jobs if job.state is JobState.PROGRESSING]
        keys = [(job.id, job.version) for job in running]
        self._seen = {key: self._seen.get(key, now) for key in keys}
        late = {id for (id, _), since in self._seen.items() if now - since > self._seconds}
        return late | {job.id for job in running if is_dead(job.owner, self._owner)}

    def reset(self) -> None:
        """Begins to measure again. Call it when the store does not answer: owners of jobs cannot write either."""
        self._seen.clear()
