"""Feeds: shared bytes, batches, late viewers."""

from __future__ import annotations

import socket

import pytest

from gateway.hub.stream import EndReason, Stream
from gateway.media.track import Tracks
from gateway.media.unit import AccessUnit, Timed
from gateway.packagers.feed import Feed, FeedCounts, Viewer, _reset_on_close
from tests.support import builders
from tests.support.builders import AUDIO, VIDEO, picture, sound


class Words:
    """A rendering that a reader can read."""

    def head(self, tracks: Tracks, dts_ms: int) -> bytes:
        return b"<head %d>" % dts_ms

    def change(self, tracks: Tracks, dts_ms: int) -> bytes:
        return b"<change %d>" % tracks.epoch

    def unit(self, unit: AccessUnit) -> bytes:
        return b"%s%d " % (b"V" if unit.track is VIDEO else b"A", unit.dts)

    def timed(self, timed: Timed) -> bytes:
        return b"T%d " % timed.dts


class Plain:
    kind = "flv"

    def wrap(self, data: bytes) -> bytes:
        return b"[" + data + b"]"

    def last(self, reason: EndReason) -> bytes:
        return b"<end>"


class Wire:
    """A transport whose peer reads nothing until told."""

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


def viewer(wire: Wire, limit: int = 1000, ends: list[EndReason] | None = None) -> Viewer:
    told = ends if ends is not None else []
    return Viewer(wire, FRAMING, limit, "127.0.0.1", told.append)


def live(stall: float = 30.0, counts: FeedCounts | None = None) -> tuple[Stream, Feed]:
    stream = builders.stream()
    stream.set_tracks(VIDEO, AUDIO, {}, True)
    return stream, Feed(stream, Words(), 0.05, stall, counts)


async def test_the_first_viewer_gets_headers_and_the_gop():
    stream, feed = live()
    for unit in (picture(0, True), sound(10), picture(33)):
        stream.push(unit)
    wire = Wire()
    feed.join(viewer(wire))
    assert wire.written == b"[<head 0>V0 A10 V33 ]"
    assert stream.viewers["flv"] == 1


async def test_a_later_viewer_gets_the_same_in_one_piece():
    stream, feed = live()
    stream.push(picture(0, True))
    feed.join(viewer(Wire()))
    stream.push(picture(33))
    feed.flush()
    wire = Wire()
    feed.join(viewer(wire))
    assert wire.written == b"[<head 0>V0 V33 ]"


async def test_nothing_is_lost_or_doubled_for_a_viewer_who_joins_between_two_flushes():
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


async def test_a_late_viewer_rejoins_at_a_key_frame_with_the_headers_it_missed():
    stream, feed = live()
    stream.push(picture(0, True))
    slow, quick = Wire(stalled=True), Wire()
    feed.join(viewer(slow, limit=3))
    feed.join(viewer(quick))
    feed._bound = 0.0  # flush every frame
    for dts in (33, 66, 99):
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
    feed._bound = 0.0
    stream.push(picture(33))
    assert wire.written.endswith(b"[V33 ]")


async def test_a_viewer_that_takes_nothing_is_cut():
    counts = FeedCounts()
    stream, feed = live(stall=0.0001, counts=counts)
    stream.push(picture(0, True))
    wire = Wire(stalled=True)
    feed.join(viewer(wire, limit=1))
    feed._bound = 0.0
    for dts in range(33, 33_000, 33):
        stream.push(picture(dts))
    assert wire.aborted
    assert counts.stalled == 1
    assert counts.dropped > 1


async def test_a_slow_viewer_that_still_reads_is_not_cut():
    stream, feed = live(stall=0.0001)
    stream.push(picture(0, True))
    wire = Wire(stalled=True)
    feed.join(viewer(wire, limit=1))
    feed._bound = 0.0
    wire.waiting = 100_000
    for dts in range(33, 3_300, 33):
        wire.waiting -= 10
        stream.push(picture(dts))
    assert not wire.aborted


async def test_the_end_is_told_to_every_viewer_once():
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


async def test_without_viewers_the_feed_costs_nothing():
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


async def test_a_gop_beyond_its_bytes_is_no_beginning_a_joining_viewer_waits_for_a_key_frame():
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


async def test_once_the_first_burst_was_taken_only_the_limit_counts():
    stream, feed = live()
    stream.push(picture(0, True))
    wire = Wire(stalled=True)
    one = viewer(wire, limit=8)
    feed.join(one)
    feed._bound = 0.0
    wire.drain()
    stream.push(picture(33))
    wire.stalled = True
    for dts in (66, 99, 132, 165):
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


def test_a_peer_that_takes_nothing_is_reset_so_that_the_kernel_lets_go():
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        accepted, _ = server.accept()
        _reset_on_close(accepted.fileno())
        accepted.close()
        with pytest.raises(ConnectionResetError):
            client.recv(1)
