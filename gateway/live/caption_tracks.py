"""Which captions players of a stream are offered."""

from gateway.live.stream import Stream
from gateway.media.caption_track import CaptionTrack


def caption_tracks(stream: Stream) -> tuple[CaptionTrack, ...] | None:
    """Returns the captions of the channel; if it names none, those that were found in the pictures.

    Empty: there are none. None: pictures have room for captions, and none were found yet.
    """
    configured = stream.channel.captions
    if configured:
        return configured
    names = stream.received.captions.listed
    return None if names is None else tuple(CaptionTrack(name, name) for name in names)
