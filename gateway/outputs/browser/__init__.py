"""Sound and pictures of a stream in the forms of WebRTC. They are made only while somebody watches.

These outputs are hidden: no channel field switches them on, and no status lists them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.live.output import OutputSpec

if TYPE_CHECKING:
    from gateway.live.hub import Hub
    from gateway.live.stream import Stream
    from gateway.outputs.services import OutputServices


def browser_specs(services: OutputServices, renditions: Hub) -> list[OutputSpec]:
    """Returns the specs of `opus` and `browserpictures`. renditions: the hub of renditions for browsers."""
    from gateway.outputs.browser import browser_pictures, opus_sound

    hubs, workers, settings = (services.hub, renditions), services.workers, services.settings.transcode

    def pictures(stream: Stream) -> browser_pictures.BrowserPictures:
        return browser_pictures.BrowserPictures(stream, hubs, workers, settings, services.dropped)

    def sound(stream: Stream) -> opus_sound.OpusSound:
        return opus_sound.OpusSound(stream, workers)

    return [
        # Renditions and further tracks may have another sound than the source.
        OutputSpec(opus_sound.OUTPUT, sound, lambda stream: True, on_demand=True, listed=False),
        OutputSpec(browser_pictures.OUTPUT, pictures, _is_source, on_demand=True, listed=False),
    ]


def _is_source(stream: Stream) -> bool:
    return stream.is_source
