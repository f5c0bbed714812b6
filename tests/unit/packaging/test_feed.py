"""Feeds: shared bytes, batches, late viewers."""

from __future__ import annotations

import asyncio
import re
import socket
import time
from collections.abc import Sequence

import pytest

from gateway.lib import viewer_memory
from gateway.lib.viewer_memory import ViewerMemory
from gateway.live.sink import EndReason
from gateway.live.stream import Stream
from gateway.media.track import AccessUnit, TimedData, Tracks
from gateway.packaging.feed import Feed, FeedCounts
from gateway.packaging.sliced_writes import SlicedWrites
from gateway.packaging.viewer import Viewer, reset_on_close
from tests.support import builders
from tests.support.builders import AUDIO, VIDEO, picture, sound


class Words:
    """A rendering that a reader can read."""

    def render_head(self, tracks: Tracks, dts_ms: int, later: Sequence[Tracks] = ()) -> bytes:
        return b"<head %d>" % dts_ms

    def render_change(self, tracks: Tracks, dts_ms: int) -> bytes:
        return b"<change %d>" % tracks.epoch

    def render_still(self, unit: AccessUnit, dts_ms: int) -> bytes:
        return b""

    def render_unit(self, unit: AccessUnit) -> bytes:
        if unit.cts < 0:
            return b""  # left out
        return b"%s%d " % (b"V" if unit.track is VIDEO else b"A", unit.dts)

    def render_timed(self, timed: TimedData) -> bytes:
        return b"T%d " % timed.dts


class Plain:
    kind = "flv"

    def wrap(self, data: bytes) -> bytes:
        return b"[" + data + b"]"

    def last(self, reason: EndReason) -> bytes:
        return b"<end>"


class Wire:
    """A transport whose peer reads nothing until the test says so."""

    def __init__(self, stalled: bool = False) -> None:
        self.written = b""
        self.waiting = 0
        self.stalled = stalled
        self.aborted = False

    def write(self, data: bytes) -> None:
        assert not self.aborted
        self.written += data
        if self.stalled:
            self.waiting += len(data)

    def is_closing(self) -> bool:
        return self.aborted

    def get_write_buffer_size(self) -> int:
        return self.waiting

    def abort(self) -> None:
        self.aborted = True

    def get_extra_info(self, name: str) -> None:
        return None

    def drain(self) -> None:
        self.waiting, self.stalled = 0, False


FRAMING = Plain()
FAR_BEHIND = 100_000  # bytes: many times three seconds of these streams


def viewer(wire: Wire, limit: int = 1000, ends: list[EndReason] | None = None) -> Viewer:
    told = ends if ends is not None else []
    return Viewer(wire, FRAMING, limit, "127.0.0.1", told.append)


def live(stall: float = 30.0, counts: FeedCounts | None = None) -> tuple[Stream, Feed]:
    stream = builders.stream()
    stream.set_tracks(VIDEO, AUDIO, {}, True)
    feed = Feed(stream, Words(), 0.05, stall, counts or FeedCounts())
    feed._writes = SlicedWrites(lambda seconds: None)  # writing costs nothing, also on a busy machine
    return stream, feed


async def test_the_first_viewer_gets_headers_and_the_gop():
    stream, feed = live()
    for unit in (picture(0, True), sound(10), picture(33)):
        stream.push(unit)
    wire = Wire()
    feed.join(viewer(wire))
    assert wire.written == b"[<head 0>V0 A10 V33 ]"
    assert stream.viewers["flv"] == 1
    stream.push(picture(66))
    feed.flush()
    assert stream.tally.sent == len(wire.written) > 21


async def test_a_later_viewer_gets_the_same_in_one_piece():
    stream, feed = live()
    stream.push(picture(0, True))
    feed.join(viewer(Wire()))
    stream.push(picture(33))
    feed.flush()
    wire = Wire()
    feed.join(viewer(wire))
    assert wire.written == b"[<head 0>V0 V33 ]"


async def test_a_viewer_that_joins_between_two_flushes_gets_every_unit_once():
    stream, feed = live()
    stream.push(picture(0, True))
    feed.join(viewer(Wire()))
    feed._cost = 1.0  # as if writing took long: everything waits for the timer
    feed._last_flush = 1e18
    stream.push(picture(33))
    wire = Wire()
    feed.join(viewer(wire))
    stream.push(picture(66))
    feed.flush()
    assert wire.written == b"[<head 0>V0 ][V33 V66 ]"


async def test_a_picture_does_not_wait_for_the_timer_that_sound_has_set():
    stream, feed = live()
    stream.push(picture(0, True))
    wire = Wire()
    feed.join(viewer(wire))
    stream.push(sound(10))
    assert wire.written.endswith(b"V0 ]"), "sound waits for the next picture"
    stream.push(picture(33))
    assert wire.written.endswith(b"[A10 V33 ]")
    assert feed._timer is None


async def test_a_picture_waits_while_writing_takes_much_of_the_time():
    stream, feed = live()
    stream.push(picture(0, True))
    wire = Wire()
    feed.join(viewer(wire))
    feed._cost = 1.0
    feed._last_flush = 1e18
    stream.push(sound(10))
    stream.push(picture(33))
    assert wire.written.endswith(b"V0 ]")
    assert feed._timer is not None
    feed.flush()


async def test_a_picture_that_the_rendering_leaves_out_writes_nothing():
    """An empty HTTP chunk would end the answer (RFC 9112 §7.1)."""
    stream, feed = live()
    stream.push(picture(0, True))
    wire = Wire()
    feed.join(viewer(wire))
    before = wire.written
    stream.push(picture(33, cts=-1))
    feed.flush()
    assert wire.written == before
    stream.push(picture(66))
    feed.flush()  # a busy machine writes later
    assert wire.written == before + b"[V66 ]"


async def test_a_key_frame_always_begins_a_batch():
    stream, feed = live()
    stream.push(picture(0, True))
    wire = Wire()
    feed.join(viewer(wire))
    feed._cost, feed._last_flush = 1.0, 1e18
    stream.push(sound(50))
    stream.push(picture(66, True))
    feed.flush()
    assert wire.written.endswith(b"[A50 ][V66 ]")


async def test_a_batch_waits_for_the_whole_bound_from_its_first_unit_if_writes_are_expensive(
    monkeypatch: pytest.MonkeyPatch,
):
    stream, feed = live()
    stream.push(picture(0, True))
    feed.join(viewer(Wire()))
    loop, waits = asyncio.get_running_loop(), []
    monkeypatch.setattr(loop, "call_later", lambda wait, call: waits.append(wait) or loop.call_at(1e9, call))
    feed._cost, feed._last_flush = 1.0, time.monotonic() - feed.flush_seconds
    stream.push(picture(33))
    stream.push(picture(66))
    assert waits == [feed.flush_seconds]


async def test_a_late_viewer_rejoins_at_a_key_frame_with_the_headers_it_missed():
    stream, feed = live()
    stream.push(picture(0, True))
    slow, quick = Wire(stalled=True), Wire()
    feed.join(viewer(slow, limit=3))
    feed.join(viewer(quick))
    feed.flush_seconds = 0.0  # flush every frame
    stream.push(picture(33))
    slow.waiting = FAR_BEHIND
    for dts in (66, 99):
        stream.push(picture(dts))
    assert slow.written.endswith(b"[V33 ]")
    stream.set_tracks(VIDEO, AUDIO, {"encoder": "new"}, True)
    slow.drain()
    stream.push(picture(132))
    assert slow.written.endswith(b"[V33 ]")
    stream.push(picture(165, True))
    assert slow.written.endswith(b"[V33 ][<change 0>][V165 ]")
    assert quick.written.endswith(b"[V99 ][<change 0>][V132 ][V165 ]")


async def test_the_first_burst_does_not_make_a_viewer_late():
    stream, feed = live()
    stream.push(picture(0, True))
    wire = Wire(stalled=True)
    feed.join(viewer(wire, limit=8))
    feed.flush_seconds = 0.0
    stream.push(picture(33))
    assert wire.written.endswith(b"[V33 ]")


async def test_a_viewer_that_reads_nothing_is_disconnected():
    counts = FeedCounts()
    stream, feed = live(stall=0.0001, counts=counts)
    stream.push(picture(0, True))
    wire = Wire(stalled=True)
    feed.join(viewer(wire, limit=1))
    feed.flush_seconds = 0.0
    for dts in range(33, 33_000, 33):
        stream.push(picture(dts))
    assert wire.aborted
    assert counts.stalled == 1
    assert counts.dropped > 1


async def test_a_slow_viewer_that_still_reads_is_not_disconnected():
    stream, feed = live(stall=0.0001)
    stream.push(picture(0, True))
    wire = Wire(stalled=True)
    feed.join(viewer(wire, limit=1))
    feed.flush_seconds = 0.0
    wire.waiting = 100_000
    for dts in range(33, 3_300, 33):
        wire.waiting -= 10
        stream.push(picture(dts))
    assert not wire.aborted


async def test_every_viewer_gets_the_end_once():
    stream, feed = live()
    ends: list[EndReason] = []
    wire = Wire()
    feed.join(viewer(wire, ends=ends))
    stream.push(picture(0, True))
    stream.end(EndReason.KICKED)
    feed.close(EndReason.KICKED)
    assert wire.written.endswith(b"<end>")
    assert ends == [EndReason.KICKED]
    assert stream.viewers["flv"] == 0


async def test_without_viewers_the_feed_does_no_work():
    stream, feed = live()
    one = viewer(Wire())
    feed.join(one)
    feed.leave(one)
    feed.leave(one)
    stream.push(picture(0, True))
    assert stream._sinks == ()
    assert feed._pending == []


async def test_a_new_epoch_sends_new_headers_and_forgets_the_old_gop():
    stream, feed = live()
    stream.push(picture(0, True))
    wire = Wire()
    feed.join(viewer(wire))
    stream.set_tracks(VIDEO, AUDIO, {}, False)
    stream.push(picture(1000, True))
    feed.flush()
    assert wire.written == b"[<head 0>V0 ][<change 1>][V1000 ]"
    late = Wire()
    feed.join(viewer(late))
    assert late.written == b"[<head 1000>V1000 ]"


async def test_viewers_wait_for_a_key_frame_if_the_gop_is_too_large():
    stream = builders.stream(gop_bytes=30)
    stream.set_tracks(VIDEO, None, {}, True)
    feed = Feed(stream, Words(), 0.0, 30.0)
    stream.push(picture(0, True))
    feed.join(viewer(Wire()))
    for dts in range(33, 990, 33):
        stream.push(picture(dts))
    wire = Wire()
    feed.join(viewer(wire))
    stream.push(picture(990))
    stream.push(picture(1023, True))
    assert wire.written == b"[<head 0>][V1023 ]"
    assert feed._gop_bytes <= 30


async def test_viewers_wait_for_a_key_frame_if_the_gop_is_too_long():
    stream, feed = live()
    stream.push(picture(0, True))
    feed.join(viewer(Wire()))
    for dts in range(40, 15_001, 40):
        stream.push(picture(dts))
        feed.flush()
    whole, wire = Wire(), Wire()
    feed.join(viewer(whole))
    assert whole.written.startswith(b"[<head 0>V0 V40 ") and whole.written.endswith(b"V15000 ]")
    stream.push(picture(15_040))
    feed.flush()
    feed.join(viewer(wire))
    stream.push(sound(15_050))
    stream.push(picture(15_080))
    feed.flush()
    assert wire.written == b"[<head 0>]"
    stream.push(picture(60_000, True))
    feed.flush()
    assert wire.written == b"[<head 0>][V60000 ]"


def hear(stream: Stream, feed: Feed, begin: int, end: int) -> None:
    for dts in range(begin, end, 20):
        stream.push(sound(dts))
        feed.flush()


def heard(wire: Wire) -> list[int]:
    return [int(dts) for dts in re.findall(rb"A(\d+)", wire.written)]


async def test_while_pictures_have_stopped_viewers_begin_with_sound():
    stream, feed = live()
    early, wire, gone = Wire(), Wire(), viewer(Wire())
    stream.push(picture(0, True))
    feed.join(viewer(early))
    hear(stream, feed, 20, 60_000)
    feed.join(viewer(wire))
    feed.join(gone)
    feed.leave(gone)
    assert b"V" not in wire.written
    assert 59_000 <= heard(wire)[0] < heard(wire)[-1] == 59_980, "at most the last second"
    hear(stream, feed, 60_000, 60_100)
    assert heard(wire)[-1] == 60_080
    assert heard(early) == list(range(20, 60_100, 20))


async def test_viewers_that_began_with_sound_wait_for_a_key_frame_when_pictures_go_on():
    stream, feed = live()
    early, slow, wire = Wire(), Wire(), Wire()
    stream.push(picture(0, True))
    late = viewer(slow)
    for one in (viewer(early), late):
        feed.join(one)
    late.late = True
    hear(stream, feed, 20, 20_000)
    assert heard(slow)[0] > 15_000, "a late viewer continues with sound"
    feed.join(viewer(wire))
    stream.push(sound(20_000))
    stream.push(picture(20_010))
    feed.flush()
    hear(stream, feed, 20_020, 20_100)
    assert early.written.endswith(b"[V20010 ][A20020 ][A20040 ][A20060 ][A20080 ]")
    assert wire.written.endswith(b"[A20000 ]") and slow.written.endswith(b"[A20000 ]")
    for dts in (20_100, 20_140):
        stream.push(picture(dts, dts == 20_100))
        feed.flush()
    assert all(each.written.endswith(b"[V20100 ][V20140 ]") for each in (early, slow, wire))


async def test_the_first_viewer_while_pictures_have_stopped_hears_sound_after_two_seconds():
    publisher = builders.publish(builders.hub())
    publisher.set_tracks(VIDEO, AUDIO, {})
    publisher.push(picture(0, True), 0.0)
    for dts in range(20, 20_000, 20):
        publisher.push(sound(dts), 0.0)
    feed, wire = Feed(publisher.stream, Words(), 0.05, 30.0), Wire()
    feed.join(viewer(wire))
    hear(publisher.stream, feed, 20_000, 23_000)
    assert heard(wire) == list(range(22_000, 23_000, 20))
    feed.close(EndReason.KICKED)


async def test_viewers_who_stayed_get_sound_and_then_a_key_frame_when_a_publisher_returns():
    hub = builders.hub()
    first = builders.publish(hub)
    first.set_tracks(VIDEO, AUDIO, {})
    first.push(picture(0, True), 1.0)
    feed, wire = Feed(first.stream, Words(), 0.05, 30.0), Wire()
    feed.join(viewer(wire))
    first.close()
    second = builders.publish(hub)
    second.set_tracks(VIDEO, AUDIO, {})
    for unit in (picture(0), sound(10), picture(40), sound(50), picture(80, True), picture(120)):
        second.push(unit, 1.0)
    feed.flush()
    assert re.findall(rb"<change 1>|[VA]\d+", wire.written) == [
        b"V0", b"<change 1>", b"A43", b"A83", b"V113", b"V153",
    ]  # fmt: skip
    hub.drain()
    await hub.drained()


async def test_the_first_picture_after_a_break_fills_the_hole_of_earlier_viewers():
    class Stills(Words):
        def render_still(self, unit: AccessUnit, dts_ms: int) -> bytes:
            return b"<still %d>" % dts_ms

    stream = builders.stream()
    stream.set_tracks(VIDEO, AUDIO, {}, True)
    feed = Feed(stream, Stills(), 0.05, 30.0)
    stayed, joined = Wire(), Wire()
    feed.join(viewer(stayed))
    for unit in (picture(0, True), picture(40), sound(50)):
        stream.push(unit)
    stream.set_tracks(VIDEO, AUDIO, {}, False)
    for unit in (sound(5000), picture(5000, True), picture(5040)):
        stream.push(unit)
    feed.join(viewer(joined))
    stream.set_tracks(VIDEO, AUDIO, {"encoder": "new"}, True)
    for unit in (picture(5080), picture(5120, True), picture(9000, True)):
        stream.push(unit)
    stream.set_tracks(VIDEO, AUDIO, {}, False)
    stream.push(picture(9040, True))
    feed.flush()
    assert re.findall(rb"<\w+ \d+>|[VA]\d+", stayed.written)[1:] == [
        b"V0", b"V40", b"A50", b"<change 1>", b"A5000", b"<still 41>", b"V5000", b"V5040",
        b"<change 1>", b"V5080", b"V5120", b"V9000", b"<change 2>", b"V9040",
    ]  # fmt: skip
    assert b"still" not in joined.written
    feed.close(EndReason.KICKED)


async def test_without_video_a_viewer_gets_up_to_a_second_of_sound():
    stream = builders.stream()
    stream.set_tracks(None, AUDIO, {}, True)
    feed = Feed(stream, Words(), 0.0, 30.0)
    feed.join(viewer(Wire()))
    for dts in range(0, 2500, 20):
        stream.push(sound(dts))
        feed.flush()
    wire = Wire()
    feed.join(viewer(wire))
    assert wire.written.startswith(b"[<head 2000>A2000 A2020 ")


async def test_after_the_first_burst_was_read_only_the_limit_counts():
    stream, feed = live()
    stream.push(picture(0, True))
    wire = Wire(stalled=True)
    one = viewer(wire, limit=8)
    feed.join(one)
    feed.flush_seconds = 0.0
    wire.drain()
    stream.push(picture(33))
    wire.stalled = True
    for dts in (66, 99):
        stream.push(picture(dts))
    wire.waiting = FAR_BEHIND
    for dts in (132, 165):
        stream.push(picture(dts))
    assert one.late
    assert wire.written.endswith(b"[V66 ][V99 ]")


async def test_bytes_are_counted_by_kind_of_viewer():
    counts = FeedCounts()
    stream, feed = live(counts=counts)
    stream.push(picture(0, True))
    one, other = Wire(), Wire()
    feed.join(viewer(one))
    feed.join(viewer(other))
    stream.push(picture(33))
    feed.flush()
    assert counts.sent == {"flv": len(one.written) + len(other.written)}


def test_a_connection_that_is_reset_on_close_leaves_no_data_to_the_kernel():
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        accepted, _ = server.accept()
        reset_on_close(accepted.fileno())
        accepted.close()
        with pytest.raises(ConnectionResetError):
            client.recv(1)


class Link:
    """A transport over a link of `rate` bytes a second and a kernel buffer of `kernel`; `pass_` moves the time."""

    def __init__(self, rate: float, kernel: int = 128 * 1024) -> None:
        self.rate, self.kernel = rate, kernel
        self.got: list[bytes] = []
        self._queued = 0.0

    def pass_(self, seconds: float) -> None:
        self._queued = max(0.0, self._queued - self.rate * seconds)

    def write(self, data: bytes | memoryview) -> None:
        self.got.append(bytes(data))
        self._queued += len(data)

    def get_write_buffer_size(self) -> int:
        return max(0, int(self._queued) - self.kernel)

    def is_closing(self) -> bool:
        return False

    def abort(self) -> None:
        raise AssertionError("cut")

    def get_extra_info(self, name: str) -> None:
        return None


RATE = 5_250_000  # bytes a second: 42 Mbit/s, with key frames of 1.4 MB every second
KEY = 1_400_000


def play_42_mbit(feed: Feed, stream: Stream, links: list[Link], frames: int = 360) -> None:
    """Frames at 30 a second, each flushed as it comes, in the links' time."""
    feed.flush_seconds = 0.0
    rest = (RATE - KEY) // 29
    for number in range(frames):
        dts = 1000 + number * 1000 // 30
        stream.push(picture(dts, number % 30 == 0, size=KEY if number % 30 == 0 else rest))
        feed.flush()
        for link in links:
            link.pass_(1 / 30)


class Sized(Words):
    """A rendering that gives the payload of units unchanged."""

    def render_unit(self, unit: AccessUnit) -> bytes:
        return unit.payload


@pytest.mark.parametrize("rate", [1.31, 1.5, 2.4])
async def test_a_link_with_a_third_more_bandwidth_than_the_stream_loses_nothing(rate: float):
    counts = FeedCounts()
    stream = builders.stream(gop_bytes=16_000_000)
    stream.set_tracks(VIDEO, None, {}, True)
    feed = Feed(stream, Sized(), 0.0, 30.0, counts, ViewerMemory(64_000_000))
    stream.push(picture(0, True))
    link = Link(RATE * rate)
    feed.join(Viewer(link, FRAMING, 786_432, "127.0.0.1", lambda reason: None))
    play_42_mbit(feed, stream, [link])
    assert counts.dropped == 0
    assert len(b"".join(link.got)) > 12 * RATE - KEY


async def test_a_link_that_is_too_slow_loses_whole_gops_and_goes_on_with_key_frames():
    counts = FeedCounts()
    stream = builders.stream(gop_bytes=16_000_000)
    stream.set_tracks(VIDEO, None, {}, True)
    feed = Feed(stream, Sized(), 0.0, 30.0, counts, ViewerMemory(64_000_000))
    stream.push(picture(0, True))
    link = Link(RATE * 0.6)
    one = Viewer(link, FRAMING, 786_432, "127.0.0.1", lambda reason: None)
    feed.join(one)
    play_42_mbit(feed, stream, [link], frames=1200)
    assert counts.dropped > 100
    sizes = [len(piece) - 2 for piece in link.got[1:]]
    begins = [at for at, size in enumerate(sizes) if size == KEY]
    gops = [sizes[a:b] for a, b in zip(begins, [*begins[1:], len(sizes)], strict=True)]
    assert len(gops) > 10
    whole = sum(len(gop) == 30 for gop in gops)
    assert whole >= len(gops) // 2, "one GOP is cut where the viewer falls behind, the others are whole"


@pytest.mark.parametrize("kernel", [0, KEY], ids=["nothing is sent", "the kernel takes a key frame"])
async def test_the_backlog_of_a_viewer_that_reads_nothing_is_bounded(kernel: int):
    stream = builders.stream(gop_bytes=16_000_000)
    stream.set_tracks(VIDEO, None, {}, True)
    feed = Feed(stream, Sized(), 0.0, 0.0, FeedCounts())
    stream.push(picture(0, True))
    link = Link(0, kernel=kernel)
    feed.join(Viewer(link, FRAMING, 786_432, "127.0.0.1", lambda reason: None))
    first = link.get_write_buffer_size()
    play_42_mbit(feed, stream, [link], frames=300)
    assert feed.backlog(0) - KEY <= link.get_write_buffer_size() <= feed.backlog(0) + first


async def test_new_headers_count_towards_the_limit_too():
    """A publisher that changes its metadata again and again fills no queue without bound."""
    stream, feed = live()
    stream.push(picture(0, True))
    wire = Wire(stalled=True)
    one = viewer(wire, limit=100)
    feed.join(one)
    for number in range(100):
        stream.set_tracks(VIDEO, AUDIO, {"number": float(number)}, True)
    assert one.late
    assert wire.waiting <= feed.backlog(100) + len(b"[<head 0>V0 ]")


async def test_a_thousand_stalled_viewers_share_one_bound():
    most = 64_000_000
    backlogs = ViewerMemory(most)
    stream = builders.stream(gop_bytes=16_000_000)
    stream.set_tracks(VIDEO, None, {}, True)
    feed = Feed(stream, Sized(), 0.0, 0.0, FeedCounts(), backlogs)
    stream.push(picture(0, True))
    good, stalled = Link(RATE * 4, kernel=2 * KEY), [Wire(stalled=True) for _ in range(300)]
    feed.join(Viewer(good, FRAMING, 786_432, "127.0.0.1", lambda reason: None))
    viewers = [viewer(wire, limit=786_432) for wire in stalled]
    for one in viewers:
        feed.join(one)
    feed.flush_seconds = 0.0
    rest = (RATE - KEY) // 29
    for number in range(90):
        stream.push(picture(1000 + number * 33, number % 30 == 0, size=KEY if number % 30 == 0 else rest))
        feed.flush()
        good.pass_(1 / 30)
        assert backlogs.bytes <= most + KEY, "a viewer without waiting bytes always gets the next batch"
    assert sum(wire.waiting for wire in stalled) <= most
    assert all(one.late for one in viewers)
    assert len(good.got) == 91
    for one in [*viewers, *feed.viewers()]:
        feed.leave(one)
    assert backlogs.bytes == 0


async def test_a_viewer_that_joins_without_free_memory_begins_at_the_next_key_frame():
    backlogs = ViewerMemory(1000)
    stream, feed = live()
    feed.backlogs = backlogs
    stream.push(picture(0, True))
    backlogs.bytes = 990
    wire = Wire()
    feed.join(viewer(wire))
    assert wire.written == b"[<head 0>]"
    feed.flush_seconds = 0.0
    stream.push(picture(33))
    stream.push(picture(66, True))
    assert wire.written == b"[<head 0>][V66 ]"


async def test_a_viewer_that_reads_nothing_is_disconnected_sooner_when_memory_is_short(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(viewer_memory, "TIGHT_SECONDS", 0.0001)
    counts = FeedCounts()
    stream, feed = live(stall=3600.0, counts=counts)
    feed.backlogs = ViewerMemory(1_000_000)
    stream.push(picture(0, True))
    wire = Wire(stalled=True)
    one = viewer(wire, limit=1)
    feed.join(one)
    feed.flush_seconds = 0.0
    wire.waiting = FAR_BEHIND
    for dts in range(33, 33_000, 33):
        stream.push(picture(dts))
        if dts == 16_500:
            assert not wire.aborted
            feed.backlogs.bytes += 900_000
    assert wire.aborted
    assert counts.stalled == 1


async def test_a_batch_for_many_viewers_is_written_in_slices_and_in_order(monkeypatch: pytest.MonkeyPatch):
    """Viewers that join, leave or change tracks in between get every unit exactly once."""
    monkeypatch.setattr("gateway.packaging.sliced_writes.SLICE_SECONDS", 0.0)
    stream, wires, viewers = builders.stream(), [], []
    stream.set_tracks(VIDEO, AUDIO, {}, True)
    feed = Feed(stream, Words(), 0.0, 0)

    def join() -> Wire:
        wire = Wire()
        viewers.append(Viewer(wire, FRAMING, FAR_BEHIND, "127.0.0.1", lambda reason: None))
        feed.join(viewers[-1])
        wires.append(wire)
        return wire

    stream.push(picture(0, key=True))
    for _ in range(100):
        join()
    told = [len(wire.written) for wire in wires]
    stream.push(picture(40))
    feed.flush()
    given = [len(wire.written) > before for wire, before in zip(wires, told, strict=True)]
    assert given == [True] * 32 + [False] * 68
    late = join()
    feed.leave(viewers[50])
    wires[50].aborted = True
    stream.push(picture(80))
    feed.flush()
    assert all(b"V40 " in wire.written for wire in wires if wire is not wires[50]), "the older batch comes first"
    for _ in range(5):
        await asyncio.sleep(0)
    stream.push(picture(120))
    feed.flush()
    stream.set_tracks(VIDEO, None, {}, False)
    assert b"V" not in wires[50].written.split(b"]", 1)[1]
    for wire in wires:
        if wire is not wires[50]:
            found = [time for time in (b"V0 ", b"V40 ", b"V80 ", b"V120 ", b"<change") if wire.written.count(time) == 1]
            assert len(found) == 5 and sorted(found[:4], key=lambda t: wire.written.index(t)) == found[:4]
    assert late in wires
    feed.close(EndReason.KICKED)
    assert all(wire.written.endswith(b"<end>") for wire in wires if wire is not wires[50])


async def test_a_turn_of_the_loop_writes_one_slice_for_any_number_of_batches(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("gateway.packaging.sliced_writes.SLICE_SECONDS", 0.0)
    stream, wires = builders.stream(), [Wire() for _ in range(320)]
    stream.set_tracks(VIDEO, AUDIO, {}, True)
    feed = Feed(stream, Words(), 0.0, 0)
    stream.push(picture(0, key=True))
    for wire in wires:
        feed.join(Viewer(wire, FRAMING, FAR_BEHIND, "127.0.0.1", lambda reason: None))
    for number in range(1, 7):
        stream.push(picture(40 * number))
        feed.flush()
        before = [len(wire.written) for wire in wires]
        await asyncio.sleep(0)
        assert sum(len(wire.written) > had for wire, had in zip(wires, before, strict=True)) == 32
    feed.close(EndReason.KICKED)
