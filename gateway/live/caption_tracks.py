"""Which captions players of a stream are offered."""

from gateway.channels.captions import TEXT_SOURCES
from gateway.live.stream import Stream
from gateway.media.caption_track import CaptionTrack


def caption_tracks(stream: Stream) -> tuple[CaptionTrack, ...] | None:
    """Returns the captions in the pictures that the channel names; if it names none, those that were found.

    Empty: there are none. None: pictures have room for captions, and none were found yet.
    """
    configured = tuple(track for track in stream.channel.captions if track.source not in TEXT_SOURCES)
    if configured:
        return configured
    names = stream.received.captions.listed
    return None if names is None else tuple(CaptionTrack(name, name) for name in names)
