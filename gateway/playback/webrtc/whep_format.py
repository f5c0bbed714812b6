"""The playback format `whep`: always on, because it costs nothing without viewers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from gateway.live.stream import Stream
from gateway.media.track import Codec
from gateway.outputs.browser.opus_sound import opus_sound
from gateway.packaging.rtp.output import KIND, RtpOutput
from gateway.packaging.rtp.sound_feed import SoundFeed
from gateway.packaging.services import PackagingServices
from gateway.playback.play_format import PlayAddress, PlayFormat

ADDRESS: Final = PlayAddress("whep", "whep", "WHEP")


def has_sound(stream: Stream) -> bool:
    """Whether viewers can hear a stream: it has sound, and that is Opus or is converted on this node."""
    audio = None if stream.tracks is None else stream.tracks.audio
    return audio is not None and (audio.codec is Codec.OPUS or opus_sound(stream) is not None)


def _attach_sound(stream: Stream, feed: SoundFeed) -> Callable[[], None]:
    """Attaches a feed to the Opus sound of a stream. Returns the function that detaches it."""
    sound = opus_sound(stream)
    if sound is None:
        stream.attach(feed, replay=False)
        return lambda: stream.detach(feed)
    sound.acquire(feed)
    return lambda: sound.release(feed)


def _packager(services: PackagingServices) -> Callable[[Stream], RtpOutput]:
    def make(stream: Stream) -> RtpOutput:
        return RtpOutput(stream, lambda feed: _attach_sound(stream, feed), services.feeds)

    return make


FORMAT: Final = PlayFormat(output=KIND, flag="", addresses=(ADDRESS,), packager=_packager, pulled=True)
