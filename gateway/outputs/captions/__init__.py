"""The output `captions`: speech to text, put into the stream as captions.

Engines run in `gateway.workers.programs.speech`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.outputs.descriptor import OutputDescriptor

if TYPE_CHECKING:
    from gateway.live.output import OutputSpec
    from gateway.outputs.services import OutputServices


def _make(services: OutputServices) -> OutputSpec:
    from gateway.outputs.captions.captions_output import CaptionsOutput

    engine, workers, dropped = services.settings.captions.engine, services.workers, services.dropped
    return OUTPUT.spec(lambda stream: CaptionsOutput(stream, engine, workers, dropped))


OUTPUT = OutputDescriptor(name="captions", flag="isCaption", make=_make, order=50)
