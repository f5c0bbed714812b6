"""The package worker: `python -m gateway.vod.package <fd>` makes one film into HLS and tells how far it is."""

from __future__ import annotations

import json
import sys

import av.logging

from gateway.media.errors import InvalidData
from gateway.transcode import child
from gateway.vod.order import Order, Say, Unusable
from gateway.vod.packaging import package


def work(link: child.Link) -> None:
    """One order, then the end."""
    av.logging.set_level(av.logging.PANIC)
    asked = link.receive()
    if asked is None:
        return
    kind, body = asked
    if kind != Say.ORDER:
        raise InvalidData(f"an order is expected, not a frame of kind {kind}")

    def progress(done: float) -> None:
        link.send(Say.PROGRESS, json.dumps(round(done, 4)).encode())

    try:
        made = package(Order.from_json(body), progress)
    except Unusable as error:
        link.send(Say.FAILED, str(error).encode())
    except (BrokenPipeError, ConnectionResetError):
        raise
    except (OSError, MemoryError) as error:
        words = getattr(error, "strerror", None) or (
            "not enough memory" if isinstance(error, MemoryError) else str(error)
        )
        link.send(Say.FAILED, words.encode())
    else:
        link.send(Say.DONE, made.to_json())


if __name__ == "__main__":
    sys.exit(child.run(work))
