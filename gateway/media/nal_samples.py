"""Converts H.264 and H.265 of any framing to ISO-BMFF samples with a matching record.

Recorders, cameras and transport streams write start codes or lengths, and parameter sets inside or outside the samples.
"""

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from gateway.media import h264, h265, nal
from gateway.media.errors import InvalidData
from gateway.media.nal_codec import NAL_CODECS, NalCodec
from gateway.media.track import Codec

_RECOVERY_POINT: Final = 6  # payload type, ITU-T H.264 §D.1
# Type and size of an SEI message. No type needs three bytes.
_SEI_HEAD: Final = re.compile(rb"(\xff?+)([^\xff])(\xff*+)([^\xff])", re.DOTALL)
_MAX_SEI_MESSAGES: Final = 32  # that are read in a unit; encoders write a few
_FIRST_IRAP: Final = 16  # H.265 §7.4.2.2: types 16 to 23 are pictures at which decoding can start
_LAST_IRAP: Final = 23

NalUnits: TypeAlias = Sequence[bytes | memoryview]
_Sets: TypeAlias = tuple[tuple[bytes, ...], ...]


@dataclass(slots=True)
class NalSample:
    """One access unit.

    config: its record. payload: NAL units with lengths of the size that the record declares.
    key: whether decoding may start here.
    """

    config: bytes
    key: bool
    payload: bytes


class NalSamples:
    """Converts the access units of one stream to ISO-BMFF form, with a matching record: avcC or hvcC.

    Length-prefixed access units pass unchanged. From Annex B access units, it removes delimiters and the parameter sets
    that the record contains. New parameter sets at a key frame make a new record. Nothing is returned before a record
    exists.

    codec: H264 or H265. config: the container's record; empty if it has none. Raises InvalidData.
    """

    def __init__(self, codec: Codec, config: bytes) -> None:
        self.config = b""
        self._codec = NAL_CODECS[codec]
        self._h264 = codec is Codec.H264
        self.length_size = 4
        self._sets: _Sets = ((),) * len(self._codec.sets)
        if config:
            record = self._codec.parse_record(config)
            self.length_size, self._sets = record.length_size, self._usual(record.sets)
            self.config = config if record.sps else b""
            if self.config and any(len(u).to_bytes(2, "big") + u not in config for u in itertools.chain(*self._sets)):
                self._build(self._sets)  # they had start codes, or an unusual level

    @property
    def has_sets(self) -> bool:
        """Whether SPS and PPS are known, without which no picture can be decoded."""
        return all(self._sets[-2:])

    @property
    def reorder(self) -> int:
        """How many pictures may be decoded before a picture that is shown before them; 0 if not specified."""
        sps = self.sps
        return (sps.reorder or 0) if sps is not None else 0

    @property
    def sps(self) -> h264.H264Sps | h265.H265Sps | None:
        """The first sequence parameter set; None if there is none that can be read."""
        sps = self._sets[-2]  # PPS are the last kind of both codecs
        try:
            return self._codec.parse_sps(sps[0]) if sps else None
        except InvalidData:
            return None

    def take(self, payload: bytes | list[bytes], flagged: bool, *, adopt_sets: bool = False) -> NalSample | None:
        """Returns the sample of this access unit; None while no record exists.

        payload: bytes, or the NAL units of an Annex B access unit.
        flagged: whether the container marks it as a key frame. H.265 ignores this, because its NAL units have marks.
        adopt_sets: whether to adopt its parameter sets even if its NAL units do not show a key frame.
        Raises InvalidData for a broken access unit.
        """
        units, prefixed = self.split(payload) if isinstance(payload, bytes) else (payload, False)
        kinds = [self._codec.type_of(unit) for unit in units]
        if self._h264:
            key = h264.SLICE_IDR in kinds or (flagged and (has_recovery_point(units, kinds) or has_intra(units, kinds)))
        else:
            key = any(_FIRST_IRAP <= kind <= _LAST_IRAP for kind in kinds)
        if key or adopt_sets:
            self.adopt(units, kinds)
        if not self.config:
            return None
        if prefixed and isinstance(payload, bytes):
            return NalSample(self.config, key, payload)
        return NalSample(self.config, key, nal.join(self.without_sets(units, kinds), self.length_size))

    def without_sets(self, units: NalUnits, kinds: Sequence[int]) -> list[bytes]:
        """Returns the units without delimiters and the parameter sets that the record contains. kinds: their types."""
        in_config = {unit for units_of_kind in self._sets for unit in units_of_kind}
        return [
            bytes(u)
            for u, k in zip(units, kinds, strict=True)
            if k != self._codec.delimiter
            and (k not in self._codec.sets or self._usual_set(k, bytes(u)) not in in_config)
        ]

    def split(self, payload: bytes) -> tuple[NalUnits, bool]:
        """Returns the NAL units, and whether they were length-prefixed.

        A sample that begins with 0 0 1 may have either form. It is length-prefixed if the lengths fill it exactly. A
        sample that begins with 0 0 0 1 is always Annex B: as a length, these bytes would mean a unit of one byte.
        """
        if payload.startswith(nal.START_CODE):
            return nal.split_annexb(payload), False
        if payload.startswith(nal.SHORT_START):
            try:
                if self.config:
                    return nal.views(payload, self.length_size), True
            except InvalidData:
                pass
            return nal.split_annexb(payload), False
        units = nal.views(payload, self.length_size)
        inside = units_inside(self._codec, units)
        return (inside, False) if inside else (units, True)

    def adopt(self, units: NalUnits, kinds: Sequence[int]) -> bool:
        """Adopts the parameter sets of a key frame, and returns whether the record changed. kinds: types of its units.

        Kinds that it lacks keep the previous sets. Does nothing without a sequence parameter set unless the record
        lacks a kind, if a kind has no set at all, or if the record contains all these sets.
        """
        if self._codec.sps not in kinds and all(self._sets):
            return False
        typed = list(zip(units, kinds, strict=True))
        found = tuple(tuple(dict.fromkeys(bytes(u) for u, k in typed if k == kind)) for kind in self._codec.sets)
        sets = tuple(new or old for new, old in zip(self._usual(found), self._sets, strict=True))
        if not all(sets) or (self.config and all(set(n) <= set(o) for n, o in zip(sets, self._sets, strict=True))):
            return False
        self._build(sets)
        return True

    def _usual_set(self, kind: int, unit: bytes) -> bytes:
        return h264.usual_sps(unit) if self._h264 and kind == h264.SPS else unit

    def _usual(self, sets: _Sets) -> _Sets:
        """Returns the sets as browsers take them."""
        kinds = zip(self._codec.sets, sets, strict=True)
        return tuple(tuple(self._usual_set(kind, unit) for unit in units) for kind, units in kinds)

    def _build(self, sets: _Sets) -> None:
        """Makes a record of these sets. Raises InvalidData."""
        config = bytearray(self._codec.build_record(*map(list, sets)))
        at = self._codec.lengths
        config[at] = config[at] & 0xFC | (self.length_size - 1)
        self.config, self._sets = bytes(config), sets


def units_inside(codec: NalCodec, units: NalUnits) -> list[bytes]:
    """Returns `units` with those that start codes inside of them divide, or [] if there is nothing to divide.

    Phones (RootEncoder of 2026) and cameras (V380) take all units of a picture for one, and phones of 2016 all slices.
    Beside a slice, only slices are divided (into those of its type), because signed SEI may contain start codes.
    """
    slices = [codec.type_of(unit) in codec.slices for unit in units]
    if not any(slices):
        inside = nal.split_annexb(nal.join_annexb(units))
        return inside if any(codec.type_of(unit) in codec.slices for unit in inside) else []
    if not any(nal.SHORT_START + bytes(unit[:1]) in bytes(unit) for unit in itertools.compress(units, slices)):
        return []
    divided: list[bytes] = []
    for unit, is_slice in zip(units, slices, strict=True):
        divided += nal.split_annexb(nal.join_annexb([unit])) if is_slice else [bytes(unit)]
    return divided


def has_recovery_point(units: NalUnits, kinds: Sequence[int]) -> bool:
    """Whether an SEI NAL unit contains a recovery point, as in an open GOP. kinds: types of the units."""
    return any(
        k == h264.SEI and any(kind == _RECOVERY_POINT for kind, _ in sei_messages(u[1:]))
        for u, k in zip(units, kinds, strict=True)
    )


def has_intra(units: NalUnits, kinds: Sequence[int]) -> bool:
    """Whether parameter sets stand before a picture of I slices only. Broadcasting begins so, with or without SEI.

    kinds: types of the units. Raises InvalidData.
    """
    if h264.SPS not in kinds:
        return False
    slices = [unit for unit, kind in zip(units, kinds, strict=True) if kind in h264.SLICES]
    return bool(slices) and all(map(h264.is_intra_slice, slices))


def sei_messages(rest: memoryview | bytes) -> Iterator[tuple[int, bytes]]:
    """Yields type and content of the first messages in an SEI NAL unit (H.264 §7.3.2.3.1), at most 32.

    rest: the unit after its header. The content of a message that is cut is shorter.
    """
    payload = nal.unescape(bytes(rest)).rstrip(b"\x00")[:-1]  # without the trailing bits
    at = 0
    for _ in range(_MAX_SEI_MESSAGES):
        head = _SEI_HEAD.match(payload, at)
        if head is None:
            return
        # Type and size are each the sum of bytes of 255 and one lower byte.
        at = head.end() + 0xFF * len(head[3]) + head[4][0]
        yield 0xFF * len(head[1]) + head[2][0], payload[head.end() : at]
