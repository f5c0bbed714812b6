"""Pictures without times of their own, such as the second fields of frames, get times between those of PES packets."""

from collections.abc import Sequence
from itertools import pairwise

import pytest

from gateway.formats.ts.packets import TsCounters
from gateway.formats.ts.pictures import PictureTrack
from gateway.formats.ts.program_tables import StreamEntry, StreamUse
from gateway.media import nal
from gateway.media.track import AccessUnit, Codec

FRAME = 3_600  # ticks at 25 frames a second
HEADS = {"I": 0x65, "P": 0x41, "B": 0x01}
SLICE_TYPES = {"I": 7, "P": 5, "B": 6}
# Kind of picture, presentation and decode time in frames: no picture has the decode time of the one before it.
PICTURES = [("I", 1, 0), ("P", 4, 1), ("B", 2, 2), ("B", 3, 3), ("P", 7, 4), ("B", 5, 5), ("B", 6, 6), ("P", 8, 7)]


def ue(value: int) -> str:
    digits = f"{value + 1:b}"
    return "0" * (len(digits) - 1) + digits


def unit(head: int, bits: str) -> bytes:
    """A NAL unit with these bits after its header, and the trailing bits."""
    bits += "1"
    bits = bits.ljust(-(-len(bits) // 8) * 8, "0")
    return bytes((head,)) + int(bits, 2).to_bytes(len(bits) // 8, "big")


def sets(*, frames_only: bool) -> list[bytes]:
    """Parameter sets without a frame rate and without a number of reordered pictures: 720 x 576, Main profile."""
    # Numbers of frames and of the picture order have four bits, two reference frames.
    size = "1111" + ue(2) + "0" + ue(44) + ue(35 if frames_only else 17) + ("1" if frames_only else "00")
    sps = unit(0x67, f"{77:08b}{0:08b}{40:08b}" + size + "100")  # no cropping and no VUI
    return [sps, unit(0x68, ue(0) + ue(0) + "00" + ue(0) + ue(0) + ue(0) + "000" + "111" + "000")]


def picture(kind: str, field: str = "") -> list[bytes]:
    """The NAL units of a picture. field: the bits of `field_pic_flag` and `bottom_field_flag`."""
    return [unit(HEADS[kind], ue(0) + ue(SLICE_TYPES[kind]) + ue(0) + "0000" + field + "1010" * 8)]


def units_of(pieces: Sequence[tuple[list[bytes], int | None, int | None]]) -> list[AccessUnit]:
    """What is read of PES packets: NAL units, presentation and decode time in ticks."""
    track = PictureTrack(StreamEntry(0x100, 0x1B, StreamUse.VIDEO, Codec.H264), TsCounters())
    units = [unit for units, pts, dts in pieces for unit in track.take(nal.join_annexb(units), pts, dts)]
    return units + track.flush()


@pytest.mark.parametrize("apart", [False, True])
def test_second_fields_are_half_a_frame_later(apart: bool) -> None:
    pieces: list[tuple[list[bytes], int | None, int | None]] = []
    times = []
    for number, (kind, shown, decoded) in enumerate(PICTURES * 2):
        begin = number // 8 * 8
        pts, dts = FRAME * (begin + shown), FRAME * (begin + decoded)
        times.append((dts, pts))
        first = [b"\x09\xf0", *(sets(frames_only=False) if kind == "I" else []), *picture(kind, "10")]
        second = [b"\x09\xf0", *picture("P" if kind == "I" else kind, "11")]
        pieces += [(first, pts, dts), (second, None, None)] if apart else [(first + second, pts, dts)]
    units = units_of(pieces)
    assert [(u.dts, u.dts + u.cts) for u in units[::2]] == times
    assert [b.dts - a.dts for a, b in pairwise(units)] == [FRAME // 2] * 31
    assert all(unit.cts >= 0 for unit in units)


def test_frames_with_macroblocks_of_fields_are_a_frame_apart() -> None:
    pieces = []
    for n in range(0, 20, 2):
        start = sets(frames_only=False) if not n else []
        pieces.append(([*start, *picture("P" if n else "I", "0"), *picture("P", "0")], FRAME * n, FRAME * n))
    assert [unit.dts for unit in units_of(pieces)] == [FRAME * n for n in range(20)]


def test_pictures_whose_rate_is_not_declared_have_that_of_their_pes_packets() -> None:
    """Three pictures in each PES packet, 50 a second."""
    pieces = []
    for n in range(0, 30, 3):
        start = sets(frames_only=True) if not n else []
        pictures = [*picture("P" if n else "I"), *picture("P"), *picture("P")]
        pieces.append((start + pictures, FRAME // 2 * n, FRAME // 2 * n))
    units = units_of(pieces)
    assert [unit.dts for unit in units[3:]] == [FRAME // 2 * n for n in range(3, 30)]
    assert all(not unit.cts for unit in units)
