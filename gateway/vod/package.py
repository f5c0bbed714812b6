"""The package worker: `python -m gateway.vod.package <fd>` makes one film into HLS and tells how far it is."""

from __future__ import annotations

import json
import sys
import traceback
from contextlib import suppress

import av.error
import av.logging

from gateway.media.errors import InvalidData
from gateway.transcode import child
from gateway.vod.order import Order, Say, Unusable
from gateway.vod.packaging import package

# The gateway has gone: nobody wants the rest.
_GONE = (BrokenPipeError, ConnectionResetError)


def work(link: child.Link) -> None:
    """One order, then the end.

    The end comes at once, before anything is let go of: coders that ran out of memory may wait for their threads for
    ever. So it comes within the handler, as long as the error still holds them.
    """
    av.logging.set_level(av.logging.PANIC)
    asked = link.receive()
    if asked is None:
        return

    def progress(done: float) -> None:
        link.send(Say.PROGRESS, json.dumps(round(done, 4)).encode())

    try:
        kind, body = asked
        if kind != Say.ORDER:
            raise InvalidData(f"an order is expected, not a frame of kind {kind}")
        made = package(Order.from_json(body), progress)
    except _GONE:
        child.leave(0)
    except Exception as error:
        words = _told(error)
        if words is None:
            traceback.print_exc()
            child.leave(1)
        else:
            with suppress(*_GONE):
                link.send(Say.FAILED, " ".join(words.split()).encode())
            child.leave(0)
    else:
        with suppress(*_GONE):
            link.send(Say.DONE, made.to_json())
        child.leave(0)


def _told(error: Exception) -> str | None:
    """What somebody can do something about; None for a fault of ours."""
    match error:
        case Unusable():
            return str(error)
        case MemoryError():
            return "not enough memory (vod.memory)"
        case av.error.ExternalError():
            return "the encoder failed, most likely for want of memory (vod.memory)"
        case av.error.FFmpegError():
            return f"libav cannot go on: {error.strerror or error}"
        case OSError():
            return error.strerror or str(error)
    return None


if __name__ == "__main__":
    sys.exit(child.run(work))
