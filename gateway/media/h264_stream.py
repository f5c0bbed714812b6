"""H.264 as recorders write it: start codes or lengths, parameter sets aside or among the pictures, made one form."""

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
class Sample:
    """One access unit, length-prefixed as `config` says. key: decoding may start here."""

    config: bytes
    key: bool
    payload: bytes


class H264Samples:
    """Access units of one recording in the form of ISO-BMFF, with an avcC record that fits them.

    Length-prefixed ones pass unchanged. Of Annex B the delimiters go, and the parameter sets that the record has. New
    parameter sets at a key frame make a new record. Nothing comes out before a record is known.
    """

    def __init__(self, config: bytes) -> None:
        """config: the container's avcC record, empty where it has none. Raises InvalidData."""
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
        """How many pictures may be decoded ahead of one that is shown before them; 0 where it is not said."""
        try:
            return (h264.parse_sps(self._sps[0]).reorder or 0) if self._sps else 0
        except InvalidData:
            return 0

    def take(self, payload: bytes, flagged: bool) -> Sample | None:
        """The sample of this access unit; None while there is no avcC record. Raises InvalidData for a broken one.

        flagged: the container calls it a key frame.
        """
        units, prefixed = self._split(payload)
        kinds = [unit[0] & 0x1F for unit in units]
        key = h264.SLICE_IDR in kinds or (flagged and _recovers(units, kinds))
        if key and h264.SPS in kinds:
            self._adopt([u for u, k in zip(units, kinds, strict=True) if k in _SETS])
        if not self.config:
            return None
        if prefixed:
            return Sample(self.config, key, payload)
        spare = {*self._sps, *self._pps}
        kept = [u for u, k in zip(units, kinds, strict=True) if k != h264.AUD and (k not in _SETS or u not in spare)]
        return Sample(self.config, key, nal.join([bytes(u) for u in kept], self._length_size))

    def _split(self, payload: bytes) -> tuple[Sequence[bytes | memoryview], bool]:
        """The NAL units, and whether they were length-prefixed.

        A sample that begins with 0 0 1 may be either form: with lengths that fill it exactly it is taken for these, but
        for 0 0 0 1, which would be a unit of one byte.
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
        """The parameter sets of a key frame; picture parameter sets stay where it brings none."""
        sps = tuple(dict.fromkeys(bytes(u) for u in units if u[0] & 0x1F == h264.SPS))
        pps = tuple(dict.fromkeys(bytes(u) for u in units if u[0] & 0x1F == h264.PPS)) or self._pps
        if not pps or (self.config and set(sps) <= set(self._sps) and set(pps) <= set(self._pps)):
            return
        config = bytearray(h264.build_avcc(list(sps), list(pps)))
        config[4] = 0xFC | (self._length_size - 1)
        self.config, self._sps, self._pps = bytes(config), sps, pps


def _recovers(units: Sequence[bytes | memoryview], kinds: list[int]) -> bool:
    """Whether a recovery point stands in front, as in an open group of pictures."""
    return any(k == h264.SEI and len(u) > 1 and u[1] == _RECOVERY_POINT for u, k in zip(units, kinds, strict=True))
