"""Sound and pictures of a stream in the forms of WebRTC. They are made only while somebody watches.

These outputs are hidden: no channel field switches them on, and no status lists them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.live.output import OutputSpec
    from gateway.live.shelf import StreamShelf
    from gateway.live.stream import Stream
    from gateway.outputs.services import OutputServices


def browser_specs(services: OutputServices, renditions: StreamShelf) -> list[OutputSpec]:
    """Returns the specs of `opus` and `browserpictures`. renditions: those for browsers."""
    from gateway.live.output import OutputSpec
    from gateway.outputs.browser import browser_pictures, opus_sound

    shelves, settings = (services.hub, renditions), services.settings.transcode
    # Everybody who may watch can start a conversion. So a part of the workers is left for all other outputs.
    most = services.workers.limit
    workers = services.workers.share(max(1, most * 3 // 4), "conversions for WebRTC viewers are busy (workers.most)")
    encoders = workers.share(max(1, most // 2), "conversions of pictures for WebRTC viewers are busy (workers.most)")

    def pictures(stream: Stream) -> browser_pictures.BrowserPictures:
        return browser_pictures.BrowserPictures(stream, shelves, encoders, settings, services.dropped)

    def sound(stream: Stream) -> opus_sound.OpusSound:
        return opus_sound.OpusSound(stream, workers)

    return [
        # Renditions and additional tracks may have another sound than the source.
        OutputSpec(opus_sound.OUTPUT, sound, lambda stream: True, on_demand=True, listed=False),
        OutputSpec(browser_pictures.OUTPUT, pictures, lambda stream: stream.is_source, on_demand=True, listed=False),
    ]
