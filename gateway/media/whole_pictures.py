"""Makes one unit of each picture that an encoder sends in bodies of RTMP or FLV.

The specifications want one access unit in each body: NAL units with lengths, after a record with the parameter sets.
Encoders also send start codes, empty units, slices or SEI in bodies of their own, parameter sets only in the pictures,
and key frames without their mark. ffmpeg plays all of these, and no browser does.
"""

from dataclasses import replace
from typing import Final

from gateway.media import h264, nal
from gateway.media.errors import InvalidData
from gateway.media.nal_codec import NAL_CODECS
from gateway.media.nal_samples import NalSamples, NalUnits, has_recovery_point
from gateway.media.random_access import RandomAccess, random_access_of
from gateway.media.track import AccessUnit, Codec, MediaTrack

# A slice whose byte behind the header is lower continues a picture: its first bit is 1 where first_mb_in_slice is 0
# (H.264 §7.3.3), or first_slice_segment_in_pic_flag (H.265 §7.3.6.1).
_FIRST: Final = b"\x80"
# The bytes of a NAL unit's header, and the types of slices, of slices where decoding can start, and of units beside
# slices: also private ones of cameras, and those of extensions. Other types count as pictures.
_TYPES: Final = {
    Codec.H264: (1, NAL_CODECS[Codec.H264].slices, frozenset((h264.SLICE_IDR,)), frozenset(range(6, 32))),
    Codec.H265: (2, NAL_CODECS[Codec.H265].slices, frozenset(range(16, 22)), frozenset(range(32, 64))),
}
_SIZE: Final = 4  # bytes of a length. Chromium plays no pictures with shorter ones
_MAX_HELD: Final = 1 << 16  # bytes of units without a picture that wait for one
_MAX_PICTURE: Final = 1 << 24  # bytes of a picture in several bodies; a picture at 60 Mbit/s and 10 a second has 750 kB


def _plain_heads(codec: Codec) -> frozenset[bytes]:
    """Returns the first bytes of slices where decoding cannot start."""
    _, slices, starts, _ = _TYPES[codec]
    heads = (bytes((head,)) for head in range(128))  # without the forbidden bit
    return frozenset(head for head in heads if NAL_CODECS[codec].type_of(head) in slices - starts)


def _corrected(track: MediaTrack, config: bytes) -> MediaTrack:
    """Returns a track with this record, for lengths of four bytes, with the profile and level of its parameter set.

    Decoders read them there, and players choose by the record: RootEncoder up to 2.8.0 writes level 0 for H.265.
    """
    codec, record = NAL_CODECS[track.codec], bytearray(config)
    record[codec.lengths] |= _SIZE - 1
    for sps in codec.parse_record(config).sps[:1]:
        profile = sps[1:4] if track.codec is Codec.H264 else nal.unescape(sps)[3:15]
        record[1 : 1 + len(profile)] = profile
    return replace(track, config=bytes(record))


class WholePictures:
    """Repairs the units of one H.264 or H.265 track of an encoder. It keeps no unit of a stream that is correct.

    A unit for which `is_whole` returns True needs no repair. Others go through `repair`.
    track: with the record in its configuration. It may change, if the pictures bring other parameter sets. Raises
    InvalidData for a record that cannot be read.
    """

    def __init__(self, track: MediaTrack) -> None:
        self._codec = NAL_CODECS[track.codec]
        self._samples = NalSamples(track.codec, track.config)
        self._is_usual = self._samples.length_size == _SIZE
        self.track = _corrected(track, self._samples.config or track.config)
        self._is_h264 = track.codec is Codec.H264
        self._header, self._slices, self._starts, self._additions = _TYPES[track.codec]
        self._plain = _plain_heads(track.codec)
        self._access = random_access_of(track)
        self._has_key = self._has_start = False  # a key frame, and one that its NAL units show
        self._joins = False  # slices of a picture come in several bodies
        self._divides = False  # pictures have start codes, perhaps behind a length, where `is_whole` does not search
        self._picture: AccessUnit | None = None  # waits for further slices
        self._more: list[bytes] = []  # the further slices
        self._more_bytes = 0
        self._held: list[bytes] = []  # units without a picture
        self._held_bytes = 0

    @property
    def has_sets(self) -> bool:
        """Whether SPS and PPS are known. Until then, no unit is published."""
        return self._samples.has_sets

    @property
    def reorder(self) -> int:
        """How many pictures may be decoded before a picture that is shown before them; 0 if not specified."""
        return self._samples.reorder

    def is_whole(self, unit: AccessUnit) -> bool:
        """Whether a unit of this track can be published as it is. Hot path."""
        if not self._has_key or self._joins or self._divides or self._held or not self._is_usual:
            return False
        payload, size, from_bytes = unit.payload, _SIZE, int.from_bytes
        at, end = 0, len(payload)
        # Most pictures are one slice that depends on others.
        if not unit.key and from_bytes(payload[:size], "big") == end - size and payload[size : size + 1] in self._plain:
            return payload[size + self._header : size + self._header + 1] >= _FIRST
        shift, mask, starts = self._codec.shift, self._codec.mask, None
        slices, additions, sps = self._slices, self._additions, self._codec.sps
        for _ in range(nal.MAX_UNITS):
            start = at + size
            at = start + from_bytes(payload[at:start], "big")
            if at > end or at <= start:
                return False
            kind = payload[start] >> shift & mask
            if kind == sps:
                return False
            if starts is None and kind not in additions:
                if kind in slices and payload[start + self._header : start + self._header + 1] < _FIRST:
                    return False
                starts = kind in self._starts
            if at == end:
                return starts is unit.key
        return False

    def repair(self, unit: AccessUnit, has_same_time: bool) -> list[AccessUnit]:
        """Returns the units that can be published now, of this unit and of earlier ones.

        has_same_time: whether its time is that of the unit before. Only then it may continue a picture.

        Raises InvalidData for a unit that has neither lengths nor start codes.
        """
        units, prefixed = self._samples.split(unit.payload)
        self._divides = self._divides or not prefixed
        kinds = [self._codec.type_of(one) for one in units]
        first = next((n for n, kind in enumerate(kinds) if kind not in self._additions), None)
        if first is None:
            self._hold([bytes(one) for one in units])
            return []
        if has_same_time and kinds[first] in self._slices and bytes(units[first][self._header :][:1]) < _FIRST:
            return self._continue(units)
        whole = [*self._held, *map(bytes, units)]
        kinds = list(map(self._codec.type_of, whole))
        has_held, self._held, self._held_bytes = bool(self._held), [], 0
        starts = any(kind in self._starts for kind in kinds)
        key = starts or self._is_marked(unit, whole, kinds)
        if key and self._samples.adopt(whole, kinds):
            self.track = _corrected(unit.track, self._samples.config)
        if not self.has_sets:
            return []
        if not prefixed:
            unit.payload = nal.join(self._samples.without_sets(whole, kinds))
        elif has_held or not self._is_usual or sum(map(len, whole)) + _SIZE * len(whole) != len(unit.payload):
            unit.payload = nal.join(whole)  # the last condition: it has empty units
        unit.track, unit.key = self.track, key
        self._has_key, self._has_start = self._has_key or key, self._has_start or starts
        if not self._joins:
            return [unit]
        waiting = self.finish()
        self._picture = unit
        return waiting

    def finish(self) -> list[AccessUnit]:
        """Returns the picture that waits for further slices, if there is one."""
        picture, more, self._picture, self._more, self._more_bytes = self._picture, self._more, None, [], 0
        if picture is None:
            return []
        if more:
            picture.payload += nal.join(more)
        return [picture]

    def _hold(self, units: list[bytes]) -> None:
        """Keeps units without a picture for the next one. Beyond the bound, none is kept."""
        self._held_bytes += sum(map(len, units))
        if self._held_bytes > _MAX_HELD or len(self._held) + len(units) > nal.MAX_UNITS // 2:
            self._held, self._held_bytes = [], 0
        else:
            self._held += units

    def _continue(self, units: NalUnits) -> list[AccessUnit]:
        """Adds slices to the picture before them. From the first such body on, pictures wait for the next one."""
        self._joins = True
        if self._picture is not None:
            self._more += [*self._held, *map(bytes, units)]
            self._more_bytes += self._held_bytes + sum(map(len, units))
            if self._more_bytes > _MAX_PICTURE or len(self._more) > nal.MAX_UNITS:
                self._picture, self._more, self._more_bytes = None, [], 0
                raise InvalidData(f"a picture of more than {_MAX_PICTURE} bytes or {nal.MAX_UNITS} NAL units")
        self._held, self._held_bytes = [], 0
        return []

    def _is_marked(self, unit: AccessUnit, units: NalUnits, kinds: list[int]) -> bool:
        """Whether decoding may start at a picture whose slices do not say so: its SEI or its mark do."""
        if self._is_h264 and has_recovery_point(units, kinds):
            return unit.key or not self._has_key
        if not unit.key or not self._has_start:
            return unit.key
        return self._is_h264 and self._access(unit.payload) is RandomAccess.OPEN


def record_of(codec: Codec, payload: bytes) -> bytes:
    """Returns the record of the parameter sets in a picture or a header; empty if it lacks some, or is unreadable."""
    samples = NalSamples(codec, b"")
    try:
        units, _ = samples.split(payload)
        samples.adopt(units, list(map(NAL_CODECS[codec].type_of, units)))
    except InvalidData:
        return b""
    return samples.config


def real_codec(config: bytes) -> Codec:
    """Returns the codec of a record that is marked as H.264. Some encoders mark H.265 so."""
    try:
        sps = h264.parse_avcc(config).sps
        if sps and all(NAL_CODECS[Codec.H264].type_of(unit) == h264.SPS for unit in sps):
            return Codec.H264
    except InvalidData:
        pass
    try:
        sets = NAL_CODECS[Codec.H265].parse_record(config).sets
    except InvalidData:
        return Codec.H264
    return Codec.H265 if all(sets) else Codec.H264
