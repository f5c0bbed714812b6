"""Finds out whether the pictures of a track are shown in another order than they are sent (B-frames)."""

from collections.abc import Iterable
from math import inf
from typing import Final

from gateway.media.codecs import sps_of
from gateway.media.errors import InvalidData
from gateway.media.track import AccessUnit, Codec, Kind, MediaTrack

_BASELINE: Final = 66
_ENOUGH: Final = 4  # pictures; if pictures are reordered, one of so many has a composition offset
_ROUNDING: Final = 0.002  # seconds by which the milliseconds of both times may differ


def declared_reordering(track: MediaTrack) -> bool | None:
    """Whether the parameter sets allow reordering; None if they do not specify it."""
    if track.codec not in (Codec.H264, Codec.H265):
        return False  # a unit of VP8, VP9 or AV1 contains its hidden pictures
    try:
        sps = sps_of(track)
    except InvalidData:
        return None
    if sps is not None and track.codec is Codec.H264 and sps.profile == _BASELINE:
        return False  # ITU-T H.264 §A.2.1: only I and P slices
    return None if sps is None or sps.reorder is None else sps.reorder > 0


def has_reordering(track: MediaTrack, units: Iterable[AccessUnit]) -> bool:
    """Whether the pictures of a video track are reordered.

    units: of one GOP, from its key frame on; units of other tracks are ignored. Without enough units, the parameter
    sets or an offset decide: an encoder may announce reordering and never use it, and AMD's shows each picture one
    later than it is sent.
    """
    declared = declared_reordering(track)
    if declared is False:
        return False
    count, least, last, may_reorder = 0, track.timescale * _ROUNDING, -inf, declared is True
    for unit in units:
        if unit.track.kind is Kind.VIDEO:
            shown, has_offset = unit.dts + unit.cts, abs(unit.cts) > least
            if shown < last - least or (declared and has_offset):
                return True
            count, last, may_reorder = count + 1, max(last, shown), may_reorder or has_offset
    return may_reorder and count < _ENOUGH


class ReorderingWatch:
    """Notices pictures of a track that are shown in another order than they are sent. Hot path.

    After a change of the publisher or its settings, pictures of the same codec may have B-frames.
    """

    __slots__ = ("_dts", "_is_possible", "_least", "_shown")

    def __init__(self, track: MediaTrack) -> None:
        self._is_possible = declared_reordering(track) is not False
        self._least = track.timescale * _ROUNDING
        self._dts = self._shown = -inf

    def finds(self, picture: AccessUnit) -> bool:
        """Whether a picture is shown before an earlier one, although it is sent later."""
        dts, shown = picture.dts, picture.dts + picture.cts
        found = self._is_possible and dts > self._dts and shown < self._shown - self._least
        self._dts, self._shown = dts, shown
        return found
