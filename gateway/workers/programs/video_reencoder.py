"""The common part of the workers that decode the video of one stream and encode it again."""

from abc import ABC, abstractmethod
from fractions import Fraction

from gateway.media.track import AccessUnit, Tracks
from gateway.workers.programs.codec import DecodedPicture, VideoEncoder, estimate_frame_rate
from gateway.workers.programs.filters import PreparedVideo
from gateway.workers.programs.program import ParentLink


class VideoReencoder(ABC):
    """Decodes the video, and holds the first pictures until the frame rate is known. Then opens the encoder.

    A subclass opens the encoder and encodes the pictures.
    """

    def __init__(self, link: ParentLink) -> None:
        self._link = link
        self._tracks = Tracks(None, None)
        self._video: PreparedVideo | None = None
        self._encoder: VideoEncoder | None = None
        self._held: list[DecodedPicture] = []  # until the frame rate is known

    def finish(self) -> None:
        """Sends the last units and the end."""
        self._flush()
        self._link.send_end()

    def _decode(self, unit: AccessUnit) -> None:
        assert self._video is not None, "units come after their tracks"
        for picture in self._video.decode(unit):
            self._on_picture(picture)

    def _on_picture(self, picture: DecodedPicture) -> None:
        if self._encoder is not None:
            self._encode(picture)
            return
        self._held.append(picture)
        if self._is_rate_known():
            self._release()

    def _release(self) -> None:
        """Opens the encoder, and encodes the held pictures."""
        held, self._held = self._held, []
        if held:
            self._open(held[0], self._rate([picture.pts for picture in held]))
            for picture in held:
                self._encode(picture)

    def _rate(self, times: list[int]) -> Fraction:
        assert self._video is not None
        return estimate_frame_rate(times, self._video.decoder.track.timescale, self._declared_rate())

    def _flush(self) -> None:
        """Sends all delayed units, and closes the encoder."""
        if self._video is not None:
            for picture in self._video.flush():
                self._on_picture(picture)
            self._release()
        if self._encoder is not None:
            self._link.send_units(self._encoder.flush())
            self._encoder = None

    def _declared_rate(self) -> float | None:
        """Returns the frames per second that the source declares; None if unknown."""
        return None if self._video is None else self._video.decoder.declared_rate

    @abstractmethod
    def _is_rate_known(self) -> bool:
        """Returns whether the held pictures suffice to determine the frame rate."""

    @abstractmethod
    def _open(self, picture: DecodedPicture, rate: Fraction) -> None:
        """Opens an encoder for pictures like this one. rate: frames per second."""

    @abstractmethod
    def _encode(self, picture: DecodedPicture) -> None:
        """Encodes and sends a picture. The encoder is open."""
