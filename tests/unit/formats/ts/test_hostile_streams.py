"""Media that are made to cost: the work grows with their bytes, and not with what they have in a packet.

The work is counted as lines that run, so that a slow machine changes nothing.
"""

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, TypeAlias

import pytest

from gateway.formats.ts.packets import TsCounters
from gateway.formats.ts.pictures import PictureTrack
from gateway.formats.ts.program_reader import ProgramReader
from gateway.formats.ts.program_tables import S302M, StreamEntry, StreamUse
from gateway.formats.ts.sound_frames import SoundTrack
from gateway.media import h264, nal
from gateway.media.aac import raw_frames
from gateway.media.ac3 import frame_bytes
from gateway.media.errors import InvalidData
from gateway.media.random_access import RandomAccess, random_access_of
from gateway.media.silence import is_silent
from gateway.media.track import Codec, Kind, MediaTrack
from tests.support.builders import VIDEO
from tests.unit.formats.ts.test_program_reader import data_pes, pat, pmt, read, section_packet, units_of

PICTURES, OPUS = [(0x1B, 0x100, b"")], [(0x06, 0x100, b"\x05\x04Opus\x7f\x02\x80\x02")]
SETS = [unit for units in h264.parse_avcc(VIDEO.config).sets for unit in units]
KEY = nal.join_annexb([b"\x09\xf0", *SETS, b"\x65\x88\x84\x21"])


TraceFunction: TypeAlias = Callable[[FrameType, str, Any], Any]


def program(streams: list[tuple[int, int, bytes]]) -> bytes:
    return section_packet(0, pat({1: 0x20})) + section_packet(0x20, pmt(1, streams))


def packets(payload: bytes, count: int, stream_id: int = 0xE0) -> list[bytes]:
    """PES packets of one packet each."""
    made = [bytearray(data_pes(0x100, payload, 3_600 * n, stream_id)) for n in range(count)]
    for n, packet in enumerate(made):
        packet[3] = packet[3] & 0xF0 | n & 15
    return [bytes(packet) for packet in made]


def steps(work: Callable[[], object]) -> int:
    """How many lines of Python run, each as often as it does."""
    count = 0

    def note(frame: FrameType, event: str, argument: object) -> TraceFunction:
        nonlocal count
        count += event == "line"
        return note

    before = sys.gettrace()
    sys.settrace(note)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


def cost(data: bytes, streams: list[tuple[int, int, bytes]]) -> int:
    reader = ProgramReader()
    reader.receive(program(streams))
    return steps(lambda: reader.receive(data))


@pytest.mark.parametrize("unit", [b"", b"\x06", b"\x0c\xff", b"\x41"])
def test_nal_units_of_a_byte_cost_no_step_each(unit: bytes) -> None:
    few, many = (packets(b"\0\0\1\x09\xf0" + (b"\0\0\1" + unit) * n, 128) for n in (1, 25))
    assert cost(b"".join(many), PICTURES) < 1.5 * cost(b"".join(few), PICTURES)


@pytest.mark.parametrize(
    "payload", [b"\0\0\1" * 50, KEY, b"\0\0\1\x65\x80" * 20, b"\0\0\1\x65\x80" + b"\0\0\1\x41" * 30]
)
def test_work_grows_with_the_bytes(payload: bytes) -> None:
    once, twice = (cost(b"".join(packets(payload, n)), PICTURES) for n in (128, 256))
    assert twice < 2.1 * once


def test_more_nal_units_than_an_access_unit_can_have_break_it_and_are_counted() -> None:
    counters = TsCounters()
    track = PictureTrack(StreamEntry(0x100, 0x1B, StreamUse.VIDEO, Codec.H264), counters)
    units = track.take(KEY, 0, 0)
    for n, extra in enumerate((nal.MAX_UNITS - 4, nal.MAX_UNITS - 3, 0), 1):
        units += track.take(KEY + b"\0\0\1\x0c\xff" * extra, 3_600 * n, 3_600 * n)
    units += track.flush()
    assert ([unit.dts for unit in units], counters.damaged) == ([0, 3_600, 10_800], 1)


def test_an_end_of_sequence_is_no_part_of_the_slice_before_it() -> None:
    data = b"".join(packets(KEY + b"\0\0\1\x0a", 2))
    assert {unit.unit.payload for unit in units_of(read(program(PICTURES) + data), VIDEO.kind)} == {
        nal.join([b"\x65\x88\x84\x21"])
    }


def test_the_size_of_an_opus_packet_is_read_up_to_a_bound() -> None:
    track = SoundTrack(StreamEntry(0x100, 0x06, StreamUse.AUDIO, Codec.OPUS, "", b"config"), TsCounters())
    assert steps(lambda: list(track.take(b"\x7f\xe0" + b"\xff" * 900_000, 0, 0))) < 1_000


@pytest.mark.parametrize(
    ("codec", "stream_type", "frame"),
    [
        (Codec.AAC, 0x0F, bytes.fromhex("fff14c8001 3ffc 0000")),
        (Codec.OPUS, 0x06, bytes.fromhex("7fe001fc")),
        (Codec.MP3, 0x03, bytes.fromhex("ffe318c4") + bytes(68)),
        (S302M, 0x06, bytes.fromhex("0001000000")),
    ],
)
def test_the_frames_of_sound_in_a_pes_packet_are_bounded(codec: str, stream_type: int, frame: bytes) -> None:
    counters = TsCounters()
    track = SoundTrack(StreamEntry(0x100, stream_type, StreamUse.AUDIO, codec, "", b"config"), counters)
    assert len(list(track.take(frame * 1_024, 0, 0))) == 1_024 and counters.damaged == 0
    assert len(list(track.take(frame * 2_000, 900, 900))) == 1_024 and counters.damaged == 1
    assert [unit.dts for unit in track.take(frame, 1_800, 1_800)] == [1_800]


def test_a_frame_of_eac3_has_at_most_the_dependent_substreams_that_have_numbers() -> None:
    first, dependent = (bytes.fromhex(f"0b77{head}0334800000") for head in ("00", "40"))
    assert frame_bytes(first + dependent * 8, 0) == 72
    with pytest.raises(InvalidData, match="more than 8"):
        frame_bytes(first + dependent * 100_000, 0)
    track = SoundTrack(StreamEntry(0x100, 0x87, StreamUse.AUDIO, Codec.EAC3), TsCounters())
    assert steps(lambda: list(track.take(first + dependent * 1_000, 0, 0))) < 200_000


@pytest.mark.parametrize("sections", ["1" * 5, "0" * 9])  # of 31 bands and more; of none
def test_sections_of_aac_are_read_up_to_the_bands_of_the_frame(sections: str) -> None:
    # SCE 0, gain, long window, max_sfb 51, no prediction, the codebook of silence
    bits = "0000000" + "00000000" + "0000" + "110011" + "0" + "0000" + sections * (900_000 * 8 // len(sections))
    frame = int(bits[: len(bits) // 8 * 8], 2).to_bytes(len(bits) // 8, "big")
    track = MediaTrack(Kind.AUDIO, Codec.AAC, 1000, b"\x11\x90")
    assert not is_silent(track, frame)
    assert steps(lambda: is_silent(track, frame)) < 1_000


def test_the_frames_of_aac_in_a_message_are_bounded() -> None:
    frame = bytes.fromhex("fff14c8001 1ffc 00")  # of 8 bytes
    assert len(raw_frames(frame * 64)) == 64
    with pytest.raises(InvalidData, match="more than 64"):
        raw_frames(frame * 1_000_000)


def test_a_record_is_read_once_for_all_key_frames() -> None:
    units = 32_000  # empty
    config = b"\1" + bytes(21) + b"\1\x27" + units.to_bytes(2, "big") + bytes(2 * units)
    track = MediaTrack(Kind.VIDEO, Codec.H265, 1000, config)
    assert random_access_of(track)(b"\1\x2a") is RandomAccess.CLEAN
    assert steps(lambda: random_access_of(track)(b"\1\x2a")) < 1_000
