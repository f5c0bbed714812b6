"""The package worker converts one media file to HLS and reports its progress.

`python -m gateway.workers.programs.vod.package_worker <fd>`
"""

import json
import sys
from contextlib import suppress
from dataclasses import asdict

from gateway.protocols import wire
from gateway.workers.messages import WorkerMessage
from gateway.workers.package_protocol import PackageRequest
from gateway.workers.programs import program
from gateway.workers.programs.program import LinkClosed
from gateway.workers.programs.vod.hls_package import package
from gateway.workers.programs.vod.media_file import failure_text


def work(link: program.ParentLink) -> None:
    """Executes one request, then ends the process.

    After an error, the process ends before its codec objects are released: a codec whose allocation failed may wait for
    its threads forever. So `exit_now` is called in the handler, while the error still refers to these objects.
    """

    def report_progress(fraction: float, seconds: float) -> None:
        link.send(WorkerMessage.PROGRESS, json.dumps([round(fraction, 4), round(seconds, 1)]).encode())

    try:
        body = link.receive_setup()
        if body is None:
            return
        result = package(wire.decode_record(PackageRequest, body), report_progress)
    except LinkClosed:
        program.exit_now(0)
    except Exception as error:
        text = failure_text(error, "vod.memory")
        if text is None:
            program.log_crash()
            program.exit_now(1)
        else:
            with suppress(LinkClosed):
                link.send(WorkerMessage.FAILED, " ".join(text.split()).encode())
            program.exit_now(0)
    else:
        with suppress(LinkClosed):
            link.send(WorkerMessage.DONE, wire.write_json(asdict(result)))
        program.exit_now(0)


if __name__ == "__main__":
    sys.exit(program.run(work))
