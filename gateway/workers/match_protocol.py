"""The messages between the gateway and the match worker.

The gateway sends SETUP, the tracks to match, and then the source. The worker sends the matched stream, or FAILED.
"""

from __future__ import annotations

from enum import IntEnum


class MatchMessage(IntEnum):
    """Kinds of frames of the match worker, in addition to `wire.StreamMessage`.

    SETUP: to the worker: JSON of StreamForm with "preset" and "threads". FAILED: from the worker: a text.
    """

    SETUP = 16
    FAILED = 17
