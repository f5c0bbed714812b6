"""The input `slate`: a picture, a film or a card that is shown while no publisher delivers.

It is encoded once in the form of the last push, and then repeated. The encoding is in
`gateway.workers.programs.slate`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from gateway.channels.inputs import InputKind, InputSpec
from gateway.inputs.descriptor import InputDescriptor, InputServices, InputSource

if TYPE_CHECKING:
    from gateway.inputs.slate.slate_library import SlateLibrary

# One library for each pool of workers, which a gateway has once: equal slates of all its channels are shared.
_libraries: WeakKeyDictionary[Any, SlateLibrary] = WeakKeyDictionary()


def _make(services: InputServices, spec: InputSpec) -> InputSource:
    from gateway.inputs.slate.slate_files import SlateFiles
    from gateway.inputs.slate.slate_library import SlateLibrary, SlateLimits
    from gateway.inputs.slate.slate_source import SlateSource
    from gateway.lib.http_download import HttpDownloader

    settings = services.settings
    library = _libraries.get(services.workers)
    if library is None:
        inputs = settings.inputs
        limits = SlateLimits(
            inputs.slate_seconds, inputs.slate_bytes, settings.watermark.font, settings.transcode.preset
        )
        library = _libraries[services.workers] = SlateLibrary(services.workers, limits)
    downloader = HttpDownloader(
        services.egress, _DOWNLOAD_SECONDS, settings.inputs.slate_file, "inputs.slate_file", tls=services.tls
    )
    return SlateSource(library, SlateFiles(downloader, services.objects, settings.data / "slates"), spec)


_DOWNLOAD_SECONDS = 120.0  # for a whole file

INPUT = InputDescriptor(kind=InputKind.SLATE, make=_make, on_demand=True)
