"""Sound that a target's protocol cannot carry is left out, unless nothing else is there."""

from collections.abc import Container

from gateway.media.track import Codec, Tracks
from gateway.ports.errors import OutputUnsupported


def check_sound(tracks: Tracks, carried: Container[Codec], carrier: str) -> list[str]:
    """Returns a warning for sound that is left out. Raises OutputUnsupported if the tracks are only such sound.

    carried: the codecs of sound that `carrier` can carry.
    """
    audio = tracks.audio
    if audio is None or audio.codec in carried:
        return []
    if tracks.video is None:
        raise OutputUnsupported(f"{carrier} cannot carry this sound: {audio.codec}")
    return [f"the sound is left out: {carrier} cannot carry {audio.codec}"]
