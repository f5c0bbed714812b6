"""The package worker converts one media file to HLS and reports its progress.

`python -m gateway.workers.programs.vod.package_worker <fd>`
"""

from __future__ import annotations

import json
import sys
import traceback
from contextlib import suppress

import av.error
import av.logging

from gateway.workers.package_protocol import PackageRequest, VodMessage
from gateway.workers.programs import program
from gateway.workers.programs.vod.hls_package import package
from gateway.workers.vod_errors import UnusableMedia

# The gateway has closed the link, so the result is not needed any more.
_GONE = (BrokenPipeError, ConnectionResetError)


def work(link: program.ParentLink) -> None:
    """Executes one order, then ends the process.

    The process ends at once, before any codec object is released: a codec that ran out of memory may wait for its
    threads for ever. So it ends within the handler, while the error still holds these objects.
    """
    av.logging.set_level(av.logging.PANIC)

    def progress(done: float, made: float) -> None:
        link.send(VodMessage.PROGRESS, json.dumps([round(done, 4), round(made, 1)]).encode())

    try:
        body = link.receive_order(VodMessage.ORDER)
        if body is None:
            return
        made = package(PackageRequest.from_json(body), progress)
    except _GONE:
        program.exit_now(0)
    except Exception as error:
        words = _told(error)
        if words is None:
            traceback.print_exc()
            program.exit_now(1)
        else:
            with suppress(*_GONE):
                link.send(VodMessage.FAILED, " ".join(words.split()).encode())
            program.exit_now(0)
    else:
        with suppress(*_GONE):
            link.send(VodMessage.DONE, made.to_json())
        program.exit_now(0)


def _told(error: Exception) -> str | None:
    """Returns the message for an error that the user or operator can act on; None for a bug of the gateway."""
    match error:
        case UnusableMedia():
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
    sys.exit(program.run(work))
