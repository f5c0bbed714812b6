"""The output `whep` of a stream: RTP for the viewers by WebRTC."""

from collections.abc import Callable
from typing import Final

from gateway.live.sink import SinkNeeds
from gateway.live.stream import Stream
from gateway.outputs.browser.opus_sound import opus_sound
from gateway.packaging.rtp.output import RtpOutput
from gateway.packaging.rtp.sound_feed import SoundFeed
from gateway.packaging.services import PackagingServices
from gateway.playback.play_format import FormatCode


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


CODE: Final = FormatCode(_packager)
