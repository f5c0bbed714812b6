"""Converts H.265 access units of any framing to ISO-BMFF samples with a matching hvcC record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from gateway.media import h265, nal
from gateway.media.errors import InvalidData

_SETS: Final = (h265.VPS, h265.SPS, h265.PPS)
_FIRST_IRAP: Final = 16  # H.265 §7.4.2.2: types 16 to 23 are pictures at which decoding can start
_LAST_IRAP: Final = 23


@dataclass(slots=True)
class H265AccessUnit:
    """One access unit, with NAL unit lengths of four bytes, its hvcC record, and whether decoding may start here."""

    config: bytes
    key: bool
    payload: bytes


class H265Samples:
    """Converts the access units of one stream to ISO-BMFF form, like `H264Samples`.

    Length-prefixed access units pass unchanged. From Annex B access units, it removes delimiters and the parameter sets
    that the record contains. New parameter sets at a key frame make a new record. Nothing is returned before a record
    exists.
    """

    def __init__(self, config: bytes) -> None:
        """config: the container's hvcC record; empty if the container has no record. Raises InvalidData."""
        self.config = b""
        self._length_size = 4
        self._sets: tuple[tuple[bytes, ...], ...] = ((), (), ())
        if config:
            hvcc = h265.parse_hvcc(config)
            self._length_size, self._sets = hvcc.length_size, (hvcc.vps, hvcc.sps, hvcc.pps)
            self.config = config if hvcc.sps else b""

    @property
    def reorder(self) -> int:
        """How many pictures may be decoded before a picture that is shown before them; 0 if not specified."""
        try:
            return h265.parse_sps(self._sets[1][0]).reorder if self._sets[1] else 0
        except InvalidData:
            return 0

    def take(self, payload: bytes, flagged: bool) -> H265AccessUnit | None:
        """Returns the sample of this access unit; None while no hvcC record exists. Raises InvalidData.

        flagged: not used; the units themselves mark key frames.
        """
        prefixed = not payload.startswith((b"\x00\x00\x00\x01", b"\x00\x00\x01"))
        units: Sequence[bytes | memoryview]
        units = nal.views(payload, self._length_size) if prefixed else nal.split_annexb(payload)
        kinds = [unit[0] >> 1 & 0x3F for unit in units]
        key = any(_FIRST_IRAP <= kind <= _LAST_IRAP for kind in kinds)
        if key and h265.SPS in kinds:
            self._adopt(units, kinds)
        if not self.config:
            return None
        if prefixed:
            return H265AccessUnit(self.config, key, payload)
        known = {unit for units_of_kind in self._sets for unit in units_of_kind}
        remaining = [
            bytes(u)
            for u, k in zip(units, kinds, strict=True)
            if k != h265.AUD and (k not in _SETS or bytes(u) not in known)
        ]
        return H265AccessUnit(self.config, key, nal.join(remaining, self._length_size))

    def _adopt(self, units: Sequence[bytes | memoryview], kinds: list[int]) -> None:
        """Adopts the parameter sets of a key frame. Kinds that it lacks keep the previous sets."""
        found = [
            tuple(dict.fromkeys(bytes(u) for u, k in zip(units, kinds, strict=True) if k == kind)) for kind in _SETS
        ]
        sets = tuple(new or old for new, old in zip(found, self._sets, strict=True))
        if not all(sets) or (self.config and all(set(n) <= set(o) for n, o in zip(sets, self._sets, strict=True))):
            return
        config = bytearray(h265.build_hvcc(*(list(units_of_kind) for units_of_kind in sets)))
        config[21] = config[21] & 0xFC | (self._length_size - 1)
        self.config, self._sets = bytes(config), sets
