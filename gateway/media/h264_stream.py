"""Converts recorded H.264 to ISO-BMFF samples.

Recorders write start codes or lengths, and parameter sets inside or outside the samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from gateway.media import h264, nal
from gateway.media.errors import InvalidData

_SHORT_START: Final = b"\x00\x00\x01"
_SETS: Final = (h264.SPS, h264.PPS)
_RECOVERY_POINT: Final = 6  # payload type, ITU-T H.264 §D.1


@dataclass(slots=True)
class H264AccessUnit:
    """One access unit, with the NAL unit lengths of `config`, its avcC record. key: whether decoding may start here."""

    config: bytes
    key: bool
    payload: bytes


class H264Samples:
    """Converts the access units of one recording to ISO-BMFF form, with a matching avcC record.

    Length-prefixed access units pass unchanged. From Annex B access units, it removes delimiters and the parameter sets
    that the record contains. New parameter sets at a key frame make a new record. Nothing is returned before a record
    exists.
    """

    def __init__(self, config: bytes) -> None:
        """config: the container's avcC record; empty if the container has no record. Raises InvalidData."""
        self.config = b""
        self._length_size = 4
        self._sps: tuple[bytes, ...] = ()
        self._pps: tuple[bytes, ...] = ()
        if config:
            avcc = h264.parse_avcc(config)
            self._length_size, self._sps, self._pps = avcc.length_size, avcc.sps, avcc.pps
            self.config = config if avcc.sps else b""

    @property
    def reorder(self) -> int:
        """How many pictures may be decoded before a picture that is shown before them; 0 if not specified."""
        try:
            return (h264.parse_sps(self._sps[0]).reorder or 0) if self._sps else 0
        except InvalidData:
            return 0

    def take(self, payload: bytes, flagged: bool) -> H264AccessUnit | None:
        """Returns the sample of this access unit; None while no avcC record exists.

        flagged: whether the container marks it as a key frame.
        Raises InvalidData for a broken access unit.
        """
        units, prefixed = self._split(payload)
        kinds = [unit[0] & 0x1F for unit in units]
        key = h264.SLICE_IDR in kinds or (flagged and _has_recovery_point(units, kinds))
        if key and h264.SPS in kinds:
            self._adopt([u for u, k in zip(units, kinds, strict=True) if k in _SETS])
        if not self.config:
            return None
        if prefixed:
            return H264AccessUnit(self.config, key, payload)
        in_config = {*self._sps, *self._pps}
        remaining = [
            u for u, k in zip(units, kinds, strict=True) if k != h264.AUD and (k not in _SETS or u not in in_config)
        ]
        return H264AccessUnit(self.config, key, nal.join([bytes(u) for u in remaining], self._length_size))

    def _split(self, payload: bytes) -> tuple[Sequence[bytes | memoryview], bool]:
        """Returns the NAL units, and whether they were length-prefixed.

        A sample that begins with 0 0 1 may have either form. It is length-prefixed if the lengths fill it exactly. A
        sample that begins with 0 0 0 1 is always Annex B: as a length, these bytes would mean a unit of one byte.
        """
        if payload.startswith(nal.START_CODE):
            return nal.split_annexb(payload), False
        if payload.startswith(_SHORT_START):
            try:
                if self.config:
                    return nal.views(payload, self._length_size), True
            except InvalidData:
                pass
            return nal.split_annexb(payload), False
        return nal.views(payload, self._length_size), True

    def _adopt(self, units: Sequence[bytes | memoryview]) -> None:
        """Adopts the parameter sets of a key frame. If it has no picture parameter sets, the previous ones remain."""
        sps = tuple(dict.fromkeys(bytes(u) for u in units if u[0] & 0x1F == h264.SPS))
        pps = tuple(dict.fromkeys(bytes(u) for u in units if u[0] & 0x1F == h264.PPS)) or self._pps
        if not pps or (self.config and set(sps) <= set(self._sps) and set(pps) <= set(self._pps)):
            return
        config = bytearray(h264.build_avcc(list(sps), list(pps)))
        config[4] = 0xFC | (self._length_size - 1)
        self.config, self._sps, self._pps = bytes(config), sps, pps


def _has_recovery_point(units: Sequence[bytes | memoryview], kinds: list[int]) -> bool:
    """Whether an SEI message begins with a recovery point, as in an open GOP."""
    return any(k == h264.SEI and len(u) > 1 and u[1] == _RECOVERY_POINT for u, k in zip(units, kinds, strict=True))
