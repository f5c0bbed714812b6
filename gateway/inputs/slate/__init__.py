"""The input `slate`: a picture, a film or a card that is shown while no publisher delivers.

It is encoded once in the form of the last push, and then repeated. The encoding is in
`gateway.workers.programs.slate`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final

from gateway.channels.inputs import InputKind, InputSpec
from gateway.inputs.descriptor import InputDescriptor, InputServices, InputSource
from gateway.workers.worker_pool import WorkerPool

if TYPE_CHECKING:
    from gateway.inputs.slate.slate_library import SlateLibrary
    from gateway.workers.slate_protocol import SlateRequest

_DOWNLOAD_SECONDS: Final = 120.0  # for a whole file
_MAX_FILE: Final = 200_000_000  # bytes; a minute of film in studio quality


@lru_cache(maxsize=1)
def _library(workers: WorkerPool, limits: SlateRequest) -> SlateLibrary:
    """Returns the library of a gateway's pool of workers: equal slates of all its channels are shared."""
    from gateway.inputs.slate.slate_library import SlateLibrary

    return SlateLibrary(workers, limits)


def _make(services: InputServices, spec: InputSpec) -> InputSource:
    from gateway.inputs.slate.slate_files import SlateFiles
    from gateway.inputs.slate.slate_source import SlateSource
    from gateway.lib.http_download import HttpDownloader
    from gateway.workers.slate_protocol import SlateRequest

    settings = services.settings
    limits = SlateRequest(font=settings.watermark.font, preset=settings.transcode.preset)
    downloader = HttpDownloader(services.egress, _DOWNLOAD_SECONDS, _MAX_FILE, tls=services.tls)
    files = SlateFiles(downloader, services.objects, settings.data / "slates")
    return SlateSource(_library(services.workers, limits), files, spec)


INPUT = InputDescriptor(kind=InputKind.SLATE, make=_make, on_demand=True)
