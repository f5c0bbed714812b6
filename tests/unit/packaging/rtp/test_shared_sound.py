"""SoundFeed with many viewers: two units share a packet, where they follow each other."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from gateway.live.sink import EndReason
from gateway.media import opus
from gateway.media.track import Codec, Kind, MediaTrack, Tracks
from gateway.media.unit import AccessUnit
from gateway.packaging.rtp.clock import AUDIO_RATE, timestamp
from gateway.packaging.rtp.sound_feed import JOINED_FROM, SoundFeed
from gateway.packaging.rtp.viewer import PayloadTypes, RtpViewer

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
