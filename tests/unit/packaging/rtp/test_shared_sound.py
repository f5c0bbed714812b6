"""SoundFeed with many viewers: two units share a packet, where they follow each other."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.live.sink import EndReason
from gateway.media import opus
from gateway.media.track import AccessUnit, Codec, Kind, MediaTrack, Tracks
from gateway.packaging.rtp.clock import AUDIO_RATE, timestamp
from gateway.packaging.rtp.sound_feed import JOINED_FROM, SoundFeed
from gateway.packaging.rtp.viewer import PayloadTypes, RtpViewer
from tests.support.examples import examples
from tests.support.time_outs import at_most

OPUS = MediaTrack(Kind.AUDIO, Codec.OPUS, 48_000, b"")
UNIT_MS = 20


class Sender:
    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def send(self, packets: Sequence[bytes]) -> None:
        self.sent += packets

    def send_rtcp(self, packet: bytes) -> None: ...

    @property
    def stamps(self) -> list[int]:
        return [int.from_bytes(packet[4:8], "big") for packet in self.sent]

    @property
    def payloads(self) -> list[bytes]:
        return [packet[12:] for packet in self.sent]


def unit(at_ms: float, size: int = 40, toc: int = 0xFC) -> AccessUnit:
    return AccessUnit(OPUS, round(at_ms * 48), 0, True, 1.7e9, bytes((toc,)) + bytes((int(at_ms) & 0xFF,)) * size)


def frames_of(packet: bytes) -> list[bytes]:
    """The frames of an Opus packet as a receiver reads them (RFC 6716 §3.2.2 to §3.2.4), each with its TOC."""
    toc, body = packet[0], packet[1:]
    alone = bytes((toc & 0xFC,))
    if toc & 3 == 0:
        return [alone + body]
    if toc & 3 == 1:
        assert len(body) % 2 == 0
        return [alone + body[: len(body) // 2], alone + body[len(body) // 2 :]]
    assert toc & 3 == 2, "this feed makes no packets of three frames"
    size, begin = (body[0], 1) if body[0] < 252 else (body[0] + 4 * body[1], 2)
    assert begin + size <= len(body)
    return [alone + body[begin : begin + size], alone + body[begin + size :]]


def feed(viewers: int) -> tuple[SoundFeed, list[Sender]]:
    made = SoundFeed(lambda _: lambda: None, lambda _: None)
    senders = [Sender() for _ in range(viewers)]
    for sender in senders:
        ends: list[EndReason] = []
        made.join(RtpViewer(sender, PayloadTypes(audio=111), ends.append))
    return made, senders


async def test_with_few_viewers_each_unit_goes_at_once() -> None:
    made, senders = feed(JOINED_FROM - 1)
    for n in range(4):
        made.on_unit(unit(n * UNIT_MS))
        assert [len(sender.sent) for sender in senders] == [n + 1] * len(senders)


async def test_with_many_viewers_two_units_share_a_packet() -> None:
    made, senders = feed(JOINED_FROM)
    units = [unit(n * UNIT_MS, 40 + n % 3) for n in range(8)]
    for each in units:
        made.on_unit(each)
    pairs = list(zip(units[::2], units[1::2], strict=True))
    for sender in senders:
        assert sender.payloads == [opus.joined(a.payload, b.payload) for a, b in pairs]
        assert sender.stamps == [timestamp(a, AUDIO_RATE) for a, _ in pairs]
        numbers = [int.from_bytes(packet[2:4], "big") for packet in sender.sent]
        assert numbers == list(range(numbers[0], numbers[0] + 4))


@pytest.mark.parametrize(
    "second",
    [unit(60), unit(UNIT_MS, toc=0x78), unit(UNIT_MS, toc=0xFD), unit(UNIT_MS, 1170)],
    ids=["a gap", "another configuration", "two frames already", "too long"],
)
async def test_units_that_cannot_share_a_packet_go_alone_and_in_order(second: AccessUnit) -> None:
    made, senders = feed(JOINED_FROM)
    for each in (unit(0), second):
        made.on_unit(each)
    assert senders[0].payloads == [unit(0).payload, second.payload]
    assert senders[0].stamps == [timestamp(unit(0), AUDIO_RATE), timestamp(second, AUDIO_RATE)]


async def test_times_that_a_publisher_rounded_are_no_gap() -> None:
    made, senders = feed(JOINED_FROM)
    for each in (unit(0), unit(UNIT_MS + 1)):
        made.on_unit(each)
    assert len(senders[0].sent) == 1


async def test_long_units_do_not_wait() -> None:
    made, senders = feed(JOINED_FROM)
    for each in (unit(0, toc=0x1C), unit(60, toc=0x1C)):
        made.on_unit(each)
    assert len(senders[0].sent) == 2


async def test_a_unit_of_an_ended_worker_is_not_sent_with_the_next_one() -> None:
    made, senders = feed(JOINED_FROM)
    made.on_unit(unit(0))
    made.on_tracks(Tracks(None, OPUS, {}, 1))
    assert senders[0].sent == []
    for each in (unit(UNIT_MS), unit(2 * UNIT_MS)):
        made.on_unit(each)
    assert senders[0].payloads == [opus.joined(unit(UNIT_MS).payload, unit(2 * UNIT_MS).payload)]


async def test_a_unit_without_a_next_one_is_sent_soon() -> None:
    made, senders = feed(JOINED_FROM)
    made.on_unit(unit(0))
    async with asyncio.timeout(at_most(10)):
        while not senders[0].sent:
            await asyncio.sleep(0.01)
    made.on_unit(unit(1_000))
    made.on_unit(unit(1_020))
    assert senders[0].payloads == [unit(0).payload, opus.joined(unit(1_000).payload, unit(1_020).payload)]
    assert [packet[1] >> 7 for packet in senders[0].sent] == [1, 1]


@settings(max_examples=examples(80, 200), deadline=None)
@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(1, 600)), min_size=1, max_size=60))
def test_changes_to_shared_packets_and_back_are_seamless(steps: list[tuple[int, int]]) -> None:
    """steps: viewers that come or go, and the size of the next unit. One viewer watches all the time."""

    async def play() -> None:
        made, (watched, *_) = feed(JOINED_FROM - 1)
        others, units = list[RtpViewer](), list[AccessUnit]()
        for number, (change, size) in enumerate(steps):
            for _ in range(change):
                others.append(RtpViewer(Sender(), PayloadTypes(audio=111), lambda reason: None))
                made.join(others[-1])
            for _ in range(min(-change, len(others))):
                made.leave(others.pop())
            units.append(unit(number * UNIT_MS, size))
            made.on_unit(units[-1])
        made._send_waiting()
        frames = [frame for payload in watched.payloads for frame in frames_of(payload)]
        assert frames == [each.payload for each in units], "none is lost, repeated or out of order"
        spans = zip(watched.stamps, map(opus.packet_samples, watched.payloads), strict=True)
        assert all((b - a) & 0xFFFFFFFF == samples for (a, samples), (b, _) in pairwise(spans))
        numbers = [int.from_bytes(packet[2:4], "big") for packet in watched.sent]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
        assert [packet[1] >> 7 for packet in watched.sent] == [1] + [0] * (len(numbers) - 1)

    asyncio.run(play())
