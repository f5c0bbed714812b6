"""The kinds of frames between the gateway and media workers, in addition to `wire.StreamMessage`."""

from enum import IntEnum


class WorkerMessage(IntEnum):
    """The kinds that several workers use. A worker with other kinds defines them from 32 up."""

    SETUP = 16  # to the worker, first: JSON of its settings or of its only request
    FAILED = 17  # from the worker, last: the reason, a text
    NOTE = 18  # from the worker: JSON that describes its work
    PROGRESS = 19  # from the worker: JSON
    DONE = 20  # from the worker, last: JSON of the result
    DATA = 21  # to the worker: bytes
