"""Writes movie fragments: a moof and its mdat, for a CMAF chunk (an LL-HLS part) or a complete segment."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from gateway.formats.mp4.box import box

# ISO/IEC 14496-12 §8.8.3.1: sample_depends_on 2 "does not depend on others", 1 "depends", sample_is_non_sync_sample.
KEY_FLAGS = 0x0200_0000
DELTA_FLAGS = 0x0101_0000
# A picture that does not depend on others, but is not a sync sample: its leading pictures need earlier ones.
OPEN_FLAGS = 0x0201_0000

# ISO/IEC 23000-19 §7.3.3: brands of a CMAF segment of fragments and chunks. No msix, because no sidx exists.
STYP = box(b"styp", b"msdh", (0).to_bytes(4, "big"), b"msdhcmfscmffcmfl")

_PREFIX = struct.Struct(">I4s I4sII I4s I4sII")  # moof, mfhd, traf, tfhd with default-base-is-moof
_TFHD_DEFAULTS = struct.Struct(">II")
_TFDT = struct.Struct(">I4sIQ")
_TRUN = struct.Struct(">I4sIIi")
_BOX = struct.Struct(">I4s")

_DEFAULT_BASE_IS_MOOF = 0x020000
_DEFAULT_DURATION, _DEFAULT_FLAGS = 0x08, 0x20
_VERSION_1 = 1 << 24
_DATA_OFFSET, _DURATION, _SIZE, _FLAGS, _CTS = 0x1, 0x100, 0x200, 0x400, 0x800


@dataclass(slots=True)
class Mp4Sample:
    """One sample of a fragment. Do not modify it.

    duration, cts: ticks of the track; cts may be negative.
    key: whether decoding may start here.
    opens: see `OpenKey`.
    """

    opens: ClassVar[bool] = False

    duration: int
    cts: int
    key: bool
    payload: bytes


@dataclass(slots=True)
class OpenKey(Mp4Sample):
    """A key frame that is not a sync sample (ISO/IEC 14496-12 §8.6.2): the start of an open GOP, for example in H.264.

    Pictures that follow it and are shown before it may refer to pictures before it. A class costs less than a field,
    and hundreds of samples are made each second.
    """

    opens: ClassVar[bool] = True


def fragment(
    sequence_number: int,
    track_id: int,
    base_decode_time: int,
    samples: Sequence[Mp4Sample],
    *,
    styp: bool = False,
    events: bytes = b"",
) -> bytes:
    """Returns moof + mdat of these samples.

    sequence_number: written modulo 2**32.
    base_decode_time: decode time of the first sample, ticks.
    styp: adds the box at the start of a segment. events: boxes of events, before the moof.

    Each sample needs four bytes if all have one duration and are sync samples (audio). Video samples need twelve, or
    sixteen with composition offsets.
    Raises struct.error for a duration or decode time that is negative or exceeds 32 or 64 bits; packagers never
    produce one.
    """
    count = len(samples)
    first_duration = samples[0].duration if count else 0
    plain = _plain(samples, first_duration)
    tfhd_flags, tfhd_size, flags = _DEFAULT_BASE_IS_MOOF, 16, _DATA_OFFSET | _DURATION | _SIZE | _FLAGS
    if plain:
        entries = [len(s.payload) for s in samples]
        tfhd_flags, tfhd_size = _DEFAULT_BASE_IS_MOOF | _DEFAULT_DURATION | _DEFAULT_FLAGS, 24
        flags = _DATA_OFFSET | _SIZE
    elif any(s.cts for s in samples):
        entries = [
            n
            for s in samples
            for n in (s.duration, len(s.payload), _flags(s) if s.key else DELTA_FLAGS, s.cts & 0xFFFF_FFFF)
        ]
        flags |= _CTS
    else:
        entries = [n for s in samples for n in (s.duration, len(s.payload), _flags(s) if s.key else DELTA_FLAGS)]
    payloads = [s.payload for s in samples]
    trun_size = 20 + 4 * len(entries)
    traf_size = 8 + tfhd_size + 20 + trun_size
    moof_size = 8 + 16 + traf_size
    head = _PREFIX.pack(
        moof_size, b"moof",
        16, b"mfhd", 0, sequence_number & 0xFFFF_FFFF,
        traf_size, b"traf",
        tfhd_size, b"tfhd", tfhd_flags, track_id,
    )  # fmt: skip
    return b"".join(
        [
            STYP if styp else b"",
            events,
            head,
            _TFHD_DEFAULTS.pack(first_duration, KEY_FLAGS) if plain else b"",
            _TFDT.pack(20, b"tfdt", _VERSION_1, base_decode_time),
            _TRUN.pack(trun_size, b"trun", _VERSION_1 | flags, count, moof_size + 8),
            struct.pack(f">{len(entries)}I", *entries),
            _BOX.pack(8 + sum(map(len, payloads)), b"mdat"),
            *payloads,
        ]
    )


def fragment_size(samples: Sequence[Mp4Sample], *, styp: bool = False) -> int:
    """Returns the number of bytes that `fragment` returns for these samples."""
    duration = samples[0].duration if samples else 0
    if _plain(samples, duration):
        fixed, entry = _TFHD_DEFAULTS.size, 4
    else:
        fixed, entry = 0, 16 if any(s.cts for s in samples) else 12
    fixed += _PREFIX.size + _TFDT.size + _TRUN.size + _BOX.size + (len(STYP) if styp else 0)
    return fixed + entry * len(samples) + sum([len(s.payload) for s in samples])


def _plain(samples: Sequence[Mp4Sample], duration: int) -> bool:
    """Whether all are sync samples of one duration without composition offsets, as in audio."""
    for s in samples:  # noqa: SIM110 — runs for each part, with half the cost of a generator
        if s.cts or not s.key or s.duration != duration or type(s) is OpenKey:
            return False
    return True


def _flags(key: Mp4Sample) -> int:
    return OPEN_FLAGS if key.opens else KEY_FLAGS
