"""The playback format `whep`: always on, because it costs nothing without viewers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from gateway.live.sink import SinkNeeds
from gateway.live.stream import Stream
from gateway.outputs.browser.opus_sound import opus_sound
from gateway.packaging.rtp.output import KIND, RtpOutput
from gateway.packaging.rtp.sound_feed import SoundFeed
from gateway.packaging.services import PackagingServices
from gateway.playback.play_format import PlayAddress, PlayFormat, PlayListener

if TYPE_CHECKING:
    from gateway.listeners.port_listener import OpenListeners
    from gateway.playback.services import PlayServices


def _attach_sound(stream: Stream, feed: SoundFeed) -> Callable[[], None]:
    """Attaches a feed to the Opus sound of a stream. Returns the function that detaches it."""
    sound = opus_sound(stream)
    if sound is None:
        stream.attach(feed, SinkNeeds(cache=False))
        return lambda: stream.detach(feed)
    sound.acquire(feed)
    return lambda: sound.release(feed)


def _packager(services: PackagingServices) -> Callable[[Stream], RtpOutput]:
    def make(stream: Stream) -> RtpOutput:
        return RtpOutput(stream, lambda feed: _attach_sound(stream, feed), services.feeds)

    return make


def _open(services: PlayServices) -> OpenListeners:
    from gateway.playback.webrtc.whep import open_whep

    return open_whep(services)


FORMAT: Final = PlayFormat(
    output=KIND,
    flag="",
    addresses=(PlayAddress(KIND, KIND, "WHEP"),),
    packager=_packager,
    pulled=True,
    listener=PlayListener("webrtc", _open),
)
