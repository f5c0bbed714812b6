"""Programs of transport streams whose sound changes while they are pushed."""

from __future__ import annotations

import itertools
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.live.program_intake import ProgramIntake
from gateway.live.track_changes import KeepsChanging
from gateway.media.track import AccessUnit, Codec, Kind
from tests.support import builders
from tests.support.builders import Recorder
from tests.unit.formats.ts.test_program_reader import (
    FILLING,
    data_pes,
    made,
    packets_of,
    pat,
    pid_at,
    pmt,
    section_packet,
)
from tests.unit.live.test_unusual_bodies import Converter


class Rig:
    """A push of a transport stream. given: what its converters get."""

    def __init__(self, **channel: Any) -> None:
        self.hub = builders.hub()
        self.publisher = builders.publish(self.hub, **channel)
        self.sink = Recorder()
        self.publisher.stream.attach(self.sink)
        self.converters: list[Converter] = []
        self.intake = ProgramIntake(self.publisher, self._make)

    def _make(self, deliver: Callable[[AccessUnit], None]) -> Converter:
        self.converters.append(Converter(deliver))
        return self.converters[-1]

    def receive(self, name: str) -> None:
        """Takes a stream of `RECIPES`. They all have the same PIDs."""
        self.intake.receive(made(name).read_bytes(), time.monotonic())

    def sound(self) -> list[AccessUnit]:
        return [unit for unit in self.sink.units if unit.track.kind is Kind.AUDIO]


@asynccontextmanager
async def rig(**channel: Any) -> AsyncIterator[Rig]:
    one = Rig(**channel)
    yield one
    one.hub.drain()
    await one.hub.drained()


async def test_sound_that_needs_no_conversion_any_more_is_published_itself() -> None:
    async with rig() as push:
        push.receive("ac3")
        assert {unit.payload for unit in push.sound()} == {b"made"}
        converted = len(push.sound())
        push.receive("h264")
        push.intake.finish(time.monotonic())
        assert [converter.closed for converter in push.converters] == [1]
        later = push.sound()[converted:]
        assert len(later) > 100
        assert b"made" not in {unit.payload for unit in later[5:]}
        assert later[-1].track.codec is Codec.AAC
        assert push.sink.tracks[-1].audio == later[-1].track


async def test_late_sound_of_an_ended_conversion_is_not_published() -> None:
    async with rig() as push:
        push.receive("ac3")
        late = push.sound()[-1]
        push.receive("h264")
        before = len(push.sink.items)
        push.converters[0].deliver(late)
        assert len(push.sink.items) == before
        push.receive("ac3")
        late = push.sound()[-1]
        push.publisher.close()
        before = len(push.sink.items)
        push.converters[-1].deliver(late)
        assert len(push.sink.items) == before


# Frames of 8 kbit/s and 22,050 Hz (ISO/IEC 13818-3), and of AC-3 with 32 kbit/s.
LAYER_2, LAYER_3 = (head + bytes(size - 4) for head, size in ((b"\xff\xf5\x10\xc0", 52), (b"\xff\xf3\x10\xc0", 26)))
AC3 = b"\x0b\x77\0\0\0\x40" + bytes(122)


def sound_packet(pid: int, payload: bytes, counter: int) -> bytes:
    """A PES packet whose end only the next one shows."""
    packet = data_pes(pid, payload, 900 * counter, 0xC0)
    head = packet.index(b"\0\0\1\xc0")
    return packet[:3] + bytes((0x30 | counter % 16,)) + packet[4 : head + 4] + b"\0\0" + packet[head + 6 :]


async def test_codecs_that_alternate_end_the_push() -> None:
    """Each change starts the conversion again, in a client of its own."""
    tables = section_packet(0, pat({1: 0x20})) + section_packet(0x20, pmt(1, [(3, 0x100, b"")]))
    packets = [sound_packet(0x100, (LAYER_2 + LAYER_3) * 2, n) for n in range(5)]
    async with rig(isCMAF=True) as push:
        push.intake.receive(tables + FILLING + b"".join(packets[:2]), 0.0)
        with pytest.raises(KeepsChanging):
            push.intake.receive(b"".join(packets[2:]), 0.0)
        push.intake.finish(0.0)  # with the changes of the last packet
        assert [converter.closed for converter in push.converters] == [1]


async def test_streams_that_alternate_end_the_push() -> None:
    async with rig() as push:
        push.intake.receive(section_packet(0, pat({1: 0x20})), 0.0)
        with pytest.raises(KeepsChanging):
            for n in range(50):
                table = section_packet(0x20, pmt(1, [(0x81, 0x100 + n, b"")], n % 32), n % 16)
                sound = b"".join(sound_packet(0x100 + n, AC3, k) for k in range(2))
                push.intake.receive(table + FILLING * 22 + sound, 0.0)
        push.intake.finish(0.0)
        assert {converter.closed for converter in push.converters} == {1}


async def test_all_sound_of_a_program_may_begin_and_change_at_once() -> None:
    async with rig() as push:
        push.intake.receive(section_packet(0, pat({1: 0x20})), 0.0)
        for n in range(2):
            pids = [0x100 + 16 * n + k for k in range(8)]
            table = section_packet(0x20, pmt(1, [(0x81, pid, b"") for pid in pids], n), n)
            sound = b"".join(sound_packet(pid, AC3, k) for k in range(2) for pid in pids)
            push.intake.receive(table + FILLING * 22 + sound, 5.0 * n)
        assert [converter.closed for converter in push.converters] == [1] * 8 + [0] * 8


PICTURES, SOUND = (0x1B, 0x100, b""), (0x0F, 0x101, b"")
PMT_PID = 0x1000
Shares = list[tuple[float, list[tuple[int, int, bytes]]]]


def receive_with_maps(push: Rig, maps: Shares) -> list[tuple[bool, bool]]:
    """Takes a stream of 3 s. From each share of it on, its map has these streams, and only their packets come.

    Returns which kinds were announced.
    """
    packets = packets_of("h264")
    for at in range(0, len(packets), 7):
        data = FILLING * 8
        for packet in packets[at : at + 7]:
            number = sum(at / len(packets) >= share for share, _ in maps) - 1
            streams, pid = maps[number][1], pid_at(packet, 0)
            if pid == PMT_PID:
                data += section_packet(PMT_PID, pmt(1, streams, number), packet[3] & 15)
            elif pid < 0x100 or pid in [stream[1] for stream in streams]:
                data += packet
        push.intake.receive(data, 100.0 + 30 * at / len(packets))
    push.intake.finish(130.0)
    return [(tracks.video is not None, tracks.audio is not None) for tracks in push.sink.tracks]


async def test_a_program_that_leaves_its_pictures_out_continues_with_sound_alone() -> None:
    """Players stop where one of two announced tracks has no more media."""
    async with rig() as push:
        announced = receive_with_maps(push, [(0.0, [PICTURES, SOUND]), (0.3, [SOUND]), (0.6, [PICTURES, SOUND])])
        assert announced == [(True, True), (False, True), (True, True)]
        before, after = (push.sink.items.index(tracks) for tracks in push.sink.tracks[1:])
        alone, both = (
            [unit for unit in items if isinstance(unit, AccessUnit)]
            for items in (push.sink.items[before:after], push.sink.items[after:])
        )
        assert {unit.track.kind for unit in alone} == {Kind.AUDIO}
        assert next(unit.key for unit in both if unit.track.kind is Kind.VIDEO)


async def test_pictures_that_a_program_leaves_out_for_a_moment_are_not_announced_anew() -> None:
    async with rig() as push:
        announced = receive_with_maps(push, [(0.0, [PICTURES, SOUND]), (0.3, [SOUND]), (0.34, [PICTURES, SOUND])])
        assert announced == [(True, True)]


async def test_a_program_that_leaves_its_sound_out_continues_with_silence() -> None:
    async with rig() as push:
        announced = receive_with_maps(push, [(0.0, [PICTURES, SOUND]), (0.3, [PICTURES]), (0.7, [PICTURES, SOUND])])
        assert announced == [(True, True)]
        times = [unit.dts for unit in push.sound()]
        assert max(after - before for before, after in itertools.pairwise(times)) < 90_000


async def test_a_program_without_media_keeps_its_tracks() -> None:
    async with rig() as push:
        announced = receive_with_maps(push, [(0.0, [PICTURES, SOUND]), (0.3, [(0x06, 0x102, b"\x05\x04KLVA")])])
        assert announced == [(True, True)]


@pytest.mark.parametrize(
    ("names", "expected"),
    [(["aac", "h264"], [(False, True), (True, True)]), (["h264", "aac"], [(True, True), (False, True)])],
)
async def test_an_encoder_that_starts_again_may_use_the_pid_of_its_pictures_for_sound(
    names: list[str], expected: list[tuple[bool, bool]]
) -> None:
    """ffmpeg numbers the streams that it has, from 0x100 on."""
    async with rig() as push:
        data, now = b"".join(made(name).read_bytes() for name in names), 100.0
        for at in range(0, len(data), 1316):
            push.intake.receive(data[at : at + 1316], now := now + 0.1)
        push.intake.finish(now)
        assert [(tracks.video is not None, tracks.audio is not None) for tracks in push.sink.tracks] == expected
        assert not push.publisher.stream.pushed_tracks.audio
        last = [unit for unit in push.sink.units if unit.track is push.sink.tracks[-1].audio]
        assert len(last) > 60
        assert push.intake.expected == {kind for kind, has in zip(Kind, expected[-1], strict=True) if has}


async def test_pictures_of_a_codec_that_cannot_be_used_end_those_before() -> None:
    async with rig() as push:
        announced = receive_with_maps(push, [(0.0, [PICTURES, SOUND]), (0.3, [(0x02, 0x100, b""), SOUND])])
        assert announced == [(True, True), (False, True)]
        assert push.publisher.unusable.left_out == "MPEG-2 video"


async def test_sound_and_pictures_that_are_both_exchanged_are_announced_together() -> None:
    """Otherwise there is an epoch of a few pictures without sound; hls.js stood still there for 8 s."""
    async with rig() as push:
        data, now = made("aac").read_bytes() + made("still").read_bytes(), 100.0
        for at in range(0, len(data), 1316):
            push.intake.receive(data[at : at + 1316], now := now + 0.1)
        push.intake.finish(now)
        first, second = push.sink.tracks
        assert first.video is None and first.audio and second.audio and first.audio.config != second.audio.config
        assert len([unit for unit in push.sink.units if unit.track is second.video]) >= 50
