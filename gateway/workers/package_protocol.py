"""Messages between the gateway and the package worker: one request, then progress, then a result or an error text.

The request is SETUP, the result DONE (a PackageResult) or FAILED. The play worker gets a PlayRequest.
"""

from dataclasses import dataclass
from typing import Final

from gateway.ports.films import FilmCaptions
from gateway.workers.vod_bounds import Bounds

# JPEG qualities, those of the MediaConvert jobs of the old system.
POSTER_QUALITY: Final = 20
THUMBNAIL_QUALITY: Final = 5


@dataclass(frozen=True, slots=True)
class VodEncoding:
    """Encoder settings for the pictures of a VOD.

    crf: constant quality of x264, lower is better. preset: of x264.
    max_bits: maximum bits per second, and the buffer size in bits. segment: seconds.
    """

    crf: float
    preset: str
    max_bits: int
    segment: float


@dataclass(frozen=True, slots=True)
class PackageRequest:
    """Request to convert the file `source` to files named after `base` in the empty folder `folder`.

    previews: whether to make pictures for the time bar of players too.
    """

    source: str
    folder: str
    base: str
    encoding: VodEncoding
    bounds: Bounds
    previews: bool = False


@dataclass(frozen=True, slots=True)
class PlayRequest:
    """Request to play the file `path`.

    width, height: maximum size of the pictures. pace: playback speed, 1 is real time.
    longest: maximum seconds of the file; 0: no limit.
    """

    path: str
    width: int
    height: int
    pace: float
    longest: float


@dataclass(frozen=True, slots=True)
class PackageResult:
    """The result of a package worker.

    segments: number of segments; they are numbered from 1. duration: seconds.
    width, height: of the encoded pictures, 0 without video. poster: whether a poster was made.
    warning: sentences about what of the file is missing; "": nothing. previews: whether pictures for the time bar were
    made. captions: of the file, each as WebVTT with a playlist.
    """

    segments: int
    duration: float
    width: int
    height: int
    poster: bool
    warning: str = ""
    previews: bool = False
    captions: tuple[FilmCaptions, ...] = ()
