"""The watermark: an output that draws on the pictures of a stream.

Drawing and encoding are in `gateway.workers.programs.watermark`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.outputs.descriptor import OutputDescriptor

if TYPE_CHECKING:
    from gateway.live.output import OutputSpec
    from gateway.outputs.services import OutputServices


def _make(services: OutputServices) -> OutputSpec:
    from gateway.outputs.watermark.picture_fetcher import PictureFetcher
    from gateway.outputs.watermark.watermark_output import WatermarkFactory

    settings = services.settings
    pictures = PictureFetcher(services.egress, services.tls)
    factory = WatermarkFactory(services.workers, pictures, settings.watermark, settings.transcode, services.dropped)
    return OUTPUT.spec(factory.make, factory.wanted)


OUTPUT = OutputDescriptor(name="watermark", flag="isWaterMark", make=_make, order=10)
