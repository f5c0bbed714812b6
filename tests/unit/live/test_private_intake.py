"""Private data of a transport stream in the stream, and its bounds."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from gateway.formats import id3
from gateway.formats.ts import data_streams
from gateway.formats.ts.data_streams import DataStream
from gateway.formats.ts.data_units import DataUnit
from gateway.formats.ts.muxer import TsMuxer
from gateway.formats.ts.program_tables import StreamEntry, StreamUse
from gateway.live.private_intake import PrivateIntake
from gateway.live.program_intake import ProgramIntake
from gateway.media import nal
from gateway.media.timed_data import MAX_PRIVATE, Metadata, PrivateData
from gateway.media.track import TimedData
from tests.support import builders
from tests.support.builders import VIDEO, Recorder

KLVA = b"\x05\x04KLVA"
ASYNC = StreamEntry(0x200, 0x06, StreamUse.KLV, "klv", descriptors=KLVA)
SYNC = StreamEntry(0x201, 0x15, StreamUse.KLV, "klv", descriptors=b"\x26\x09\x01\x00\xffKLVA\x00\x0f")
OTHER = StreamEntry(0x202, 0x06, StreamUse.PRIVATE, "private", descriptors=b"\x0d\x01\x02")


def take(intake: PrivateIntake, entry: StreamEntry, payload: bytes, dts: int = 0, at: int | None = 5) -> bytes | None:
    timed = intake.take(DataUnit(entry.pid, entry.use, None, payload), entry, dts, at)
    if timed is None:
        return None
    data = timed.value
    assert isinstance(data, PrivateData)
    assert (data.pid, data.stream_type, data.descriptors, data.at) == (
        entry.pid, entry.stream_type, entry.descriptors, at,
    )  # fmt: skip
    return data.payload


def test_data_is_passed_on() -> None:
    assert take(PrivateIntake(), ASYNC, b"klv") == b"klv"
    assert take(PrivateIntake(), OTHER, b"?", at=None) == b"?"


def test_cells_of_synchronous_klv_are_made_again() -> None:
    intake = PrivateIntake()
    assert take(intake, SYNC, b"klv") == b"\0\x01\xdf\0\x03klv"
    assert take(intake, SYNC, b"klv") == b"\0\x02\xdf\0\x03klv"


@pytest.mark.parametrize("use", [StreamUse.SCTE35, StreamUse.TELETEXT])
def test_data_with_other_ways_is_left_to_them(use: StreamUse) -> None:
    assert take(PrivateIntake(), StreamEntry(1, 6, use, ""), b"x") is None


def test_id3_with_a_text_is_metadata_and_other_tags_are_private_data() -> None:
    intake = PrivateIntake()
    for text, wanted in (("x", Metadata("x")), ("é" * 512, Metadata("é" * 512))):
        unit = DataUnit(OTHER.pid, OTHER.use, None, id3.text_tag(text))
        assert intake.take(unit, OTHER, 7, 7) == TimedData(7, wanted, 90_000)
    for tag in (b"ID3\x04", id3.text_tag("é" * 513)):
        assert take(intake, OTHER, tag) == tag
    assert [take(intake, OTHER, b"ID3\x04") for _ in range(60)].count(None) == intake.dropped == 4


def test_units_and_bytes_of_a_second_are_bounded() -> None:
    intake = PrivateIntake()
    assert sum(take(intake, ASYNC, b"x", n) is not None for n in range(100)) == 60
    assert intake.dropped == 40
    assert take(intake, ASYNC, b"x", 90_000) is not None
    assert sum(take(intake, ASYNC, b"x" * 60_000, 180_000) is not None for _ in range(9)) == 4
    assert take(intake, ASYNC, b"x" * (MAX_PRIVATE + 1), 270_000) is None


KLV = DataStream(0x0110, 0x06, KLVA)


async def _pushed(payloads: Sequence[bytes], kind: DataStream = KLV) -> tuple[list[TimedData], dict[str, int]]:
    """The data and the dropped units of a push of six pictures with `payloads` between the last two."""
    publisher = builders.publish(builders.hub())
    recorder = Recorder()
    publisher.stream.attach(recorder)
    intake = ProgramIntake(publisher, lambda give: pytest.fail("no sound needs a worker"))
    muxer = TsMuxer(VIDEO, None)
    muxer.announce(kind)
    data = muxer.write_tables() * 2
    for n in range(6):
        unit = nal.join([(b"\x65" if n == 0 else b"\x41") + b"\xab" * 2000])
        data += muxer.write_video(90_000 + 3000 * n, 0, n == 0, unit).render()
        if n == 4:
            data += b"".join(muxer.write_data(kind, payload, 93_001).render() for payload in payloads)
    intake.receive(data, 0.0)
    intake.finish(0.1)
    return [item for item in recorder.items if isinstance(item, TimedData)], dict(publisher.on_air.dropped)


async def test_klv_of_a_push_is_in_its_stream_at_its_time() -> None:
    timed, dropped = await _pushed([b"k" * 30] * 2)
    found = [each.value for each in timed if isinstance(each.value, PrivateData)]
    assert [(data.payload, data.descriptors) for data in found] == [(b"k" * 30, KLVA)] * 2
    assert {each.timescale for each in timed} == {90_000}
    assert {data.at for data in found} == {93_001 + TsMuxer(VIDEO, None).delay}
    assert not dropped


async def test_the_metadata_of_another_gateway_are_metadata_at_their_time() -> None:
    timed, dropped = await _pushed([id3.text_tag("Goal!")], data_streams.ID3)
    ((klv,), _) = await _pushed([b"k"])
    assert isinstance(klv.value, PrivateData)
    assert (timed, dropped) == ([TimedData(klv.value.at or 0, Metadata("Goal!"), 90_000)], {})


async def test_data_above_the_rate_is_counted() -> None:
    timed, dropped = await _pushed([b"k" * 30] * 70)
    assert (len(timed), dropped) == (60, {"data": 10})
