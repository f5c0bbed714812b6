"""The MP4 box reader: parsed values and refusals of invalid data."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.formats.mp4 import reader
from gateway.formats.mp4.box import box, full_box
from gateway.formats.mp4.fragment import Mp4Sample, fragment
from gateway.formats.mp4.init import init_segment
from gateway.media.errors import InvalidData
from gateway.media.track import Codec, Kind, MediaTrack
from tests.support import mp4

INIT = init_segment(MediaTrack(Kind.AUDIO, Codec.AAC, 48_000, b"\x11\x90"))
SAMPLES = [Mp4Sample(10, -5, True, b"abc"), Mp4Sample(20, 7, False, b""), Mp4Sample(30, 0, False, b"defg")]
PART = fragment(9, 2, 77, SAMPLES)


def test_boxes_with_all_kinds_of_sizes_are_read() -> None:
    large = struct.pack(">I4sQ", 1, b"mdat", 20) + b"abcd"
    data = box(b"free", b"xy") + large + struct.pack(">I4s", 0, b"mdat") + b"rest"
    assert [(b.kind, data[b.payload : b.end]) for b in reader.boxes(data)] == [
        (b"free", b"xy"), (b"mdat", b"abcd"), (b"mdat", b"rest")
    ]  # fmt: skip
    assert mp4.mdat(data) == b"abcdrest"


@pytest.mark.parametrize(
    "data",
    [b"\0\0\0\x08fre", b"\0\0\0\x07free", b"\0\0\0\x09free", struct.pack(">I4sQ", 1, b"mdat", 15), b"\0\0\0\1mdat"],
)
def test_impossible_sizes_are_refused(data: bytes) -> None:
    with pytest.raises(InvalidData):
        list(reader.boxes(data))


def test_too_many_boxes_are_refused() -> None:
    with pytest.raises(InvalidData, match="more than"):
        list(reader.boxes(box(b"free") * (reader.MAX_BOXES + 1)))


def test_find_follows_a_path() -> None:
    found = reader.find(INIT, b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"mp4a")
    assert found is not None
    assert found.kind == b"mp4a"
    assert reader.find(INIT, b"moov", b"udta") is None


def run(flags: int, *numbers: int, version: int = 0) -> bytes:
    return full_box(b"trun", version, flags, struct.pack(f">{len(numbers)}I", *numbers))


def moof(*traf: bytes, tfhd: bytes) -> bytes:
    return box(b"moof", full_box(b"mfhd", 0, 0, bytes(3), b"\x04"), box(b"traf", tfhd, *traf))


def test_defaults_first_sample_flags_and_consecutive_runs_are_read() -> None:
    head = full_box(b"tfhd", 0, 0x020038, struct.pack(">4I", 6, 50, 2, 0x01010000))
    tfdt = full_box(b"tfdt", 0, 0, struct.pack(">I", 900))
    size = len(moof(tfdt, run(0x5, 2, 0, 0), run(0, 1), tfhd=head))
    data = moof(tfdt, run(0x5, 2, size + 8, 0x02000000), run(0, 1), tfhd=head) + box(b"mdat", b"aabbcc")
    (found,) = reader.parse_fragments(data)
    assert (found.track_id, found.base_decode_time) == (6, 900)
    assert found.samples == [
        Mp4Sample(50, 0, True, b"aa"),
        Mp4Sample(50, 0, False, b"bb"),
        Mp4Sample(50, 0, False, b"cc"),
    ]


def test_trex_defaults_apply_if_the_fragment_has_no_values() -> None:
    head = full_box(b"tfhd", 0, 0x3, struct.pack(">IQI", 6, 0, 1))
    size = len(moof(run(0x1, 1, 0), tfhd=head))
    data = moof(run(0x1, 1, size + 8), tfhd=head) + box(b"mdat", b"xyz")
    (found,) = reader.parse_fragments(data, defaults={6: (3, 3, 0)})
    assert found.samples == [Mp4Sample(3, 0, True, b"xyz")]


def test_composition_offsets_are_signed_only_in_version_1() -> None:
    head = full_box(b"tfhd", 0, 0x020000, struct.pack(">I", 1))
    for version, cts in ((0, 0xFFFFFFFF), (1, -1)):
        (found,) = reader.parse_fragments(moof(run(0x800, 1, 0xFFFFFFFF, version=version), tfhd=head))
        assert found.samples[0].cts == cts


def test_runs_of_too_many_samples_are_refused() -> None:
    head = full_box(b"tfhd", 0, 0x020000, struct.pack(">I", 1))
    with pytest.raises(InvalidData, match="trun of"):
        reader.parse_fragments(moof(run(0, 1 << 31), tfhd=head))
    with pytest.raises(InvalidData, match="trun of"):
        reader.parse_fragments(moof(run(0, 60_000), tfhd=head) * 2)


def test_samples_outside_of_the_data_are_refused() -> None:
    for cut in range(1, 8):
        with pytest.raises(InvalidData):
            reader.parse_fragments(PART[:-cut])


def test_errors_name_the_missing_box() -> None:
    with pytest.raises(InvalidData, match="moov"):
        mp4.parse_init(b"")
    with pytest.raises(InvalidData, match="tkhd"):
        mp4.parse_init(box(b"moov", box(b"trak")))
    with pytest.raises(InvalidData, match="tfhd"):
        reader.parse_fragments(box(b"moof", box(b"traf")))
    empty = INIT.replace(b"mp4a", b"\xff\xff\xff\xff", 1)
    assert mp4.parse_init(empty)[0].entry == b"\xff" * 4


@given(st.data())
def test_damaged_files_are_read_or_refused(data: st.DataObject) -> None:
    good = bytearray(data.draw(st.sampled_from([INIT, PART, INIT + PART])))
    for _ in range(data.draw(st.integers(1, 4))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    bad = bytes(good[: data.draw(st.integers(0, len(good)))])
    for parse in (mp4.parse_init, reader.parse_fragments, mp4.mdat):
        try:
            parse(bad)
        except InvalidData:
            continue
