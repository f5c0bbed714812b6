"""A transport stream of a pull: its units, and when it is left to the demux worker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator

import pytest

from gateway.channels.channel import Channel
from gateway.formats.ts.program_reader import ProgramUnit
from gateway.inputs.demux_client import Item
from gateway.inputs.pull.program_source import ProgramSource, chained
from gateway.lib.tasks import Tasks
from gateway.media.track import AccessUnit, Codec, Kind, Tracks
from gateway.ports.errors import OutputUnsupported
from tests.unit.formats.ts.test_hostile_streams import PICTURES, packets, program
from tests.unit.formats.ts.test_program_reader import made, read

PACKET = 188


async def chunks(*pieces: bytes) -> AsyncGenerator[bytes]:
    for piece in pieces:
        yield piece


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


async def played(source: ProgramSource) -> list[Item]:
    found: list[Item] = []
    while (item := await source.next()) is not None:
        found.append(item)
    return found


def units(items: list[Item], kind: Kind) -> list[AccessUnit]:
    return [item for item in items if isinstance(item, AccessUnit) and item.track.kind is kind]


def source_of(stream: AsyncIterator[bytes], *, for_fragments: bool = False) -> ProgramSource:
    return ProgramSource(stream, Channel({"id": "c1", "isCMAF": for_fragments}))


@pytest.mark.parametrize("size", [1_000, 7 * PACKET, 1 << 20])
@pytest.mark.parametrize("name", ["h264", "h265", "wrap"])
async def test_the_units_of_the_reader_come_unchanged(name: str, size: int) -> None:
    data = made(name).read_bytes()
    source = source_of(chunks(*cut(data, size)))
    assert await source.probe(5) is None
    items = await played(source)
    tracks = items[0]
    assert isinstance(tracks, Tracks) and tracks.video is not None and tracks.audio is not None
    assert sum(isinstance(item, Tracks) for item in items) == 1
    expected = [event.unit for event in read(data) if isinstance(event, ProgramUnit)]
    for kind in Kind:
        wanted = [unit for unit in expected if unit.track.kind is kind]
        found = units(items, kind)
        assert [unit.payload for unit in found] == [unit.payload for unit in wanted]
        assert [(unit.dts, unit.cts) for unit in found] == [(unit.dts, unit.cts) for unit in wanted]


@pytest.mark.parametrize("name", ["mp2", "ac3", "eac3", "mp3"])
async def test_streams_for_a_worker_keep_all_bytes(name: str) -> None:
    pieces = cut(made(name).read_bytes(), 30_000)
    stream = chunks(*pieces)
    source = source_of(stream)
    first = await source.probe(5)
    assert first is not None
    assert b"".join([data async for data in chained([*first, source.unread], stream)]) == b"".join(pieces)


async def test_others_get_a_turn_between_the_slices_of_a_large_chunk() -> None:
    """Also while tracks are looked for, which a hostile stream never has."""
    empty = b"".join(packets(b"\0\0\1" * 55, 800))
    source = source_of(chunks(program(PICTURES) + empty))
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with Tasks("others") as tasks:
        tasks.start(others())
        assert await source.probe(5) is not None
        assert turns >= len(empty) // 16_384


async def test_encrypted_pictures_are_refused_with_words() -> None:
    source = source_of(chunks(program([(0xDB, 0x100, b""), (0xCF, 0x101, b"")]), b"\x47" * 188))
    with pytest.raises(OutputUnsupported, match=r"its pictures are encrypted H\.264"):
        await source.probe(5)


@pytest.mark.parametrize("data", [b"", b"ID3\x04" + bytes(400), b"\x47" * 400])
async def test_other_bytes_are_left_to_the_worker(data: bytes) -> None:
    source = source_of(chunks(data))
    first = await source.probe(5)
    assert first is not None and b"".join(first) == data


async def test_sound_that_is_announced_and_does_not_come_is_waited_for_only_some_time() -> None:
    data = made("h264").read_bytes()
    of_sound = 0x101
    packets = cut(data, PACKET)
    silent = b"".join(packet for packet in packets if int.from_bytes(packet[1:3], "big") & 0x1FFF != of_sound)
    assert len(silent) < len(data)
    source = source_of(chunks(*cut(silent, 2_000)))
    first = await source.probe(1)
    assert first is not None and b"".join(first) != silent, "not to the end"


async def test_it_begins_with_a_key_frame() -> None:
    data = made("h264").read_bytes()
    wanted = [event.unit for event in read(data[40_000 // PACKET * PACKET :]) if isinstance(event, ProgramUnit)]
    source = source_of(chunks(data[40_000 // PACKET * PACKET :]))
    assert await source.probe(5) is None
    pictures = units(await played(source), Kind.VIDEO)
    assert pictures[0].key and len(pictures) <= sum(unit.track.kind is Kind.VIDEO for unit in wanted)


async def test_sound_that_becomes_another_codec_ends_it() -> None:
    source = source_of(chunks(made("h264").read_bytes(), made("ac3").read_bytes()))
    assert await source.probe(5) is None
    with pytest.raises(OutputUnsupported, match="its tracks have changed"):
        await played(source)


async def test_a_program_with_other_pids_goes_on() -> None:
    source = source_of(chunks(made("h264").read_bytes(), made("h265").read_bytes()))
    assert await source.probe(5) is None
    items = await played(source)
    codecs = [item.video.codec for item in items if isinstance(item, Tracks) and item.video is not None]
    assert codecs == [Codec.H264, Codec.H265]


@pytest.mark.parametrize("for_fragments", [False, True])
async def test_mp3_is_left_to_a_worker_if_fragments_of_mp4_have_it(for_fragments: bool) -> None:
    source = source_of(chunks(made("h264-mp3").read_bytes()), for_fragments=for_fragments)
    assert (await source.probe(5) is None) is not for_fragments
