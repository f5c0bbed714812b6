"""Sends the pictures of one stream to its WebRTC viewers.

Each picture is packetised once, with the numbers of the feed: its sequence numbers and RTP timestamps. Each viewer has
numbers of its own. They differ from those of the feed by two values, which stay fixed between two bursts:

- `viewer.shift` is added to sequence numbers.
- `viewer.offset` is added to timestamps.

Viewers with the same payload type, shift and offset are one group. The packets of a picture are made once per group.

A viewer joins with a burst: all pictures since the last key frame. So it shows the current picture at once. A burst has
the numbers just before the next live picture. Its timestamps are a few ticks apart and end with that of the current
picture. So the viewer decodes all pictures quickly, and shows the last one.

A viewer that cannot decode (PLI) gets the burst again. The numbers that it has seen must not be used twice. So its
shift grows by the packets of the burst, and its offset by the ticks of the burst. It keeps both from then on.

Without a key frame in the cache, or if the GOP is too large, there is no burst. The viewer is `waiting`: it gets
nothing until the next key frame, for which the publisher is asked.

A viewer moves to another feed, such as a smaller rendition, with `take`. It stays in its current feed until the new
feed has a key frame. Then the new feed computes shift and offset so that the numbers of the viewer go on. The
timestamps of a rendition may be earlier than those that the viewer has seen: then the offset lifts them.

Lost packets are repeated from the burst of the viewer, or from the last live packets of the feed (`SentPackets`). A
number before the last burst is never looked up there: it was used for another packet of that viewer.

A picture is written to many viewers in slices, so that the event loop is not held. The next picture, a burst or a move
first writes the rest, so that packets stay in order.

The feed is attached to its stream only while it has viewers. Only the feed changes the shift, the offset, `live_from`
and `waiting` of a viewer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Final

from gateway.live.sink import EndReason, SinkNeeds
from gateway.live.stream import Stream
from gateway.media.clock import VIDEO_CLOCK
from gateway.media.errors import InvalidData
from gateway.media.reordering import ReorderingWatch
from gateway.media.track import AccessUnit, Kind, MediaTrack, TimedData, Tracks
from gateway.packaging.rtp.burst import RtpBurst, packets_of
from gateway.packaging.rtp.clock import VIDEO_RTX_SSRC, VIDEO_SSRC, timestamp
from gateway.packaging.rtp.viewer import RtpViewer, first_shift
from gateway.packaging.sliced_writes import SLICE_VIEWERS, SlicedWrites
from gateway.protocols.rtp import retransmission
from gateway.protocols.rtp.packetizers.packetizer import MAX_PAYLOAD, RtpPacketizer, packetizer_of
from gateway.protocols.rtp.rtcp import SenderReport, ntp_time
from gateway.protocols.rtp.sender import group_runs
from gateway.protocols.rtp.sent_packets import SentPackets

MAX_BURST: Final = 1_500_000  # bytes of a GOP that a viewer gets at once; with more it waits for the next key frame
_RESTART_SECONDS: Final = 2.0  # between two bursts for one viewer
_BURST_TICKS: Final = 1_200  # length of a burst, 13 ms; longer if the burst has more pictures than ticks
_MAX_REPEATED: Final = 256  # packets that one request may ask for; others are ignored


class VideoFeed:
    """A sink that packetises each picture once; see the top of this file. count: counts sent bytes."""

    def __init__(self, stream: Stream, count: Callable[[int], None]) -> None:
        self.stream = stream
        self._count = count
        # By payload type, shift and offset. The inner dict is an ordered set.
        self._groups: dict[tuple[int, int, int], dict[RtpViewer, None]] = {}
        # Viewers that move here at the next key frame, with their current feed and the function to call then.
        self._coming: dict[RtpViewer, tuple[VideoFeed, Callable[[RtpViewer], None]]] = {}
        self._track: MediaTrack | None = None
        self._packetizer: RtpPacketizer | None = None
        self._order: ReorderingWatch | None = None  # of the track
        self._sequence = 0  # sequence number of the next packet
        self._sent = SentPackets()
        self._stamp = 0  # timestamp of the last picture
        self._packets = self._octets = 0
        self._attached = False
        self._gop: list[tuple[AccessUnit, list[bytes]]] = []  # the pictures of the last burst with their payloads
        self._writes = SlicedWrites()

    # ---- viewers ----

    def join(self, viewer: RtpViewer) -> None:
        """Begins to send pictures to a viewer. The stream has pictures of the codec that the viewer expects."""
        if not self._attach():
            viewer.on_end(self.stream.ended or EndReason.OUTPUT_OFF)
            return
        self._writes.write_rest()
        frames = self._current_gop()
        count = sum(len(payloads) for _, payloads in frames)
        viewer.shift = first_shift(self._sequence - count)
        self._add(viewer)
        self._send_burst(viewer, frames, self._sequence - count + viewer.shift)

    def leave(self, viewer: RtpViewer) -> None:
        """Removes a viewer, also one that waits to move here. Idempotent."""
        self._coming.pop(viewer, None)
        self._remove(viewer)
        if not self._groups and not self._coming:
            self._reset()

    def take(self, viewer: RtpViewer, current: VideoFeed, moved: Callable[[RtpViewer], None]) -> None:
        """Moves a viewer of another feed with the same codec here, at the next key frame. Then `moved` is called."""
        if self._attach():
            self._coming[viewer] = current, moved

    def _attach(self) -> bool:
        """Attaches the feed to its stream. Returns False if the stream has ended: then `on_end` detached the feed."""
        if not self._attached:
            self._attached = True
            self.stream.attach(self, SinkNeeds(cache=False, audio=False))
        return self._attached

    def _move_here(self, stamp: int) -> None:
        """Takes over the viewers that wait for a key frame. stamp: the timestamp of this key frame.

        behind: ticks by which the key frame is earlier than the viewer's last picture; from 1 << 31 on, it is later.
        """
        coming, self._coming = self._coming, {}
        for viewer, (current, moved) in coming.items():
            current._writes.write_rest()
            current._remove(viewer)
            behind = current._stamp + viewer.offset - stamp & 0xFFFFFFFF
            viewer.shift = (current._sequence + viewer.shift - self._sequence) & 0xFFFF
            viewer.offset = behind + 1 if behind < 1 << 31 else 0
            viewer.live_from = self._packets
            self._add(viewer)
            moved(viewer)
            current.leave(viewer)

    def _add(self, viewer: RtpViewer) -> None:
        self._groups.setdefault((viewer.types.video, viewer.shift, viewer.offset), {})[viewer] = None

    def _remove(self, viewer: RtpViewer) -> None:
        key = (viewer.types.video, viewer.shift, viewer.offset)
        members = self._groups.get(key, {})
        if members.pop(viewer, self) is None and not members:
            del self._groups[key]

    # ---- what viewers ask for ----

    def repeat(self, viewer: RtpViewer, sequences: Iterable[int], now: float) -> None:
        """Sends lost packets again (RFC 4585 §6.2.1), if they are still known and the viewer's share allows it."""
        types, rate = viewer.types, self.stream.received.bitrate / 8
        for sequence in islice(sequences, _MAX_REPEATED):
            packet = viewer.make_burst_packet(sequence)
            if packet is None and self._was_live(viewer, sequence):
                stored = self._sent.get((sequence - viewer.shift) & 0xFFFF)
                packet = None if stored is None else _renumbered(stored, types.video, sequence, viewer.offset)
            if packet is None:
                continue
            for _ in range(viewer.count_copies(sequence)):
                if not viewer.take_repair_bytes(len(packet), rate, now):
                    return
                sent = packet
                if types.video_rtx >= 0:
                    number = viewer.next_rtx_sequence()
                    sent = retransmission.wrap(packet, types.video_rtx, VIDEO_RTX_SSRC, number)
                viewer.sender.send((sent,))
                self._count(len(sent))

    def _was_live(self, viewer: RtpViewer, sequence: int) -> bool:
        """Whether a viewer got this number after its last burst.

        For earlier numbers, `_sent` has other packets. SRTP forbids to send them: a number may have one content only.
        """
        age = (self._sequence + viewer.shift - 1 - sequence) & 0xFFFF
        return age < self._packets - viewer.live_from

    def refresh(self, viewer: RtpViewer) -> None:
        """Sends the GOP again to a viewer that cannot decode (RFC 4585 §6.3.1).

        Between two bursts are at least two seconds, and at least `burst_seconds`. So bursts never have more bytes than
        the stream in the same time.
        """
        now = time.monotonic()
        if viewer.waiting:
            self.stream.request_key_frame(now)
        elif now - viewer.started >= max(_RESTART_SECONDS, viewer.burst_seconds) and not viewer.is_starting:
            self._writes.write_rest()
            frames = self._current_gop()
            first = self._sequence + viewer.shift
            self._remove(viewer)
            viewer.shift = (viewer.shift + sum(len(payloads) for _, payloads in frames)) & 0xFFFF
            viewer.offset = viewer.offset + len(frames) * _ticks_apart(len(frames)) & 0xFFFFFFFF
            self._add(viewer)
            self._send_burst(viewer, frames, first)

    def report(self, wall: float, stamp: int) -> SenderReport:
        """Returns a sender report. stamp: the RTP timestamp of the moment `wall`, seconds since 1970."""
        return SenderReport(VIDEO_SSRC, ntp_time(wall), stamp, self._packets & 0xFFFFFFFF, self._octets & 0xFFFFFFFF)

    # ---- Sink ----

    def on_tracks(self, tracks: Tracks) -> None:
        track = tracks.video
        changed = self._track is not None and (track is None or track.codec is not self._track.codec)
        if track != self._track:
            self._writes.write_rest()
            self._gop = []
            self._track = track
            self._packetizer = packetizer_of(track) if track is not None else None
            self._order = ReorderingWatch(track) if track is not None else None
        if changed:  # the session description has the codec; the viewer has to connect again
            self.close(EndReason.OUTPUT_OFF)

    def on_unit(self, unit: AccessUnit) -> None:
        if unit.track.kind is not Kind.VIDEO or self._packetizer is None:
            return
        if self._order is not None and self._order.finds(unit):  # a viewer that connects again gets converted pictures
            self.close(EndReason.OUTPUT_OFF)
            return
        self._writes.write_rest()
        if unit.key:
            self._gop = []
        payloads = _payloads(self._packetizer, unit)
        if not payloads:
            return
        first, stamp = self._sequence, timestamp(unit, VIDEO_CLOCK)
        if unit.key and self._coming:
            self._move_here(stamp)
        self._stamp = stamp
        self._sequence = (first + len(payloads)) & 0xFFFF
        self._sent.add(packets_of(payloads, 0, first, stamp), time.monotonic())
        self._packets += len(payloads)
        self._octets += sum(map(len, payloads))
        self._writes.start(self._write(payloads, first, stamp, unit.key))

    def on_timed(self, timed: TimedData) -> None:
        """Does nothing, because WebRTC has no script data."""

    def on_end(self, reason: EndReason) -> None:
        self.close(reason)

    def on_failed(self, error: Exception) -> None:
        """Ends all viewers of this feed after a bug in it. They connect again, and the stream continues."""
        self.close(EndReason.OUTPUT_OFF)
        asyncio.get_running_loop().call_exception_handler({"message": "a feed failed", "exception": error})

    def close(self, reason: EndReason) -> None:
        """Ends all viewers. Idempotent."""
        viewers = [viewer for members in self._groups.values() for viewer in members]
        self._groups, self._coming = {}, {}
        self._reset()
        for viewer in viewers:
            viewer.on_end(reason)

    def _reset(self) -> None:
        if self._attached:
            self._attached = False
            self.stream.detach(self)
        self._writes.stop()
        self._track = self._packetizer = self._order = None
        self._sent = SentPackets()
        self._gop = []

    # ---- sending ----

    def _write(self, payloads: list[bytes], first: int, stamp: int, key: bool) -> Iterator[None]:
        """Sends one picture to all viewers; yields after every SLICE_VIEWERS viewers."""
        for group, members in [(group, tuple(members)) for group, members in self._groups.items()]:
            type, shift, offset = group
            runs = group_runs(packets_of(payloads, type, first + shift, stamp + offset & 0xFFFFFFFF))
            size, sent = sum(map(len, payloads)), 0
            current = self._groups.get(group, {})
            for index, viewer in enumerate(members):
                if index and not index % SLICE_VIEWERS:
                    self._count(sent * size)
                    sent = 0
                    yield
                if viewer not in current:  # it left while others were written to
                    continue
                if viewer.waiting:
                    if not key:
                        continue
                    viewer.waiting = False
                viewer.send(runs)
                sent += 1
            self._count(sent * size)

    # ---- the beginning ----

    def _send_burst(self, viewer: RtpViewer, frames: Sequence[tuple[int, list[bytes]]], first: int) -> None:
        """Sends the GOP so far as a burst; if `frames` is empty, the viewer waits. first: sequence number."""
        viewer.live_from = self._packets
        if not frames:
            viewer.waiting = True
            self.stream.request_key_frame(time.monotonic())
            return
        if viewer.offset:
            frames = [(stamp + viewer.offset & 0xFFFFFFFF, payloads) for stamp, payloads in frames]
        rate = self.stream.received.bitrate / 8
        size = sum(len(payload) for _, payloads in frames for payload in payloads)
        viewer.start(RtpBurst(frames, viewer.types.video, first & 0xFFFF), rate)
        viewer.burst_seconds = size / rate if rate else 0.0
        self._count(size)

    def _current_gop(self) -> list[tuple[int, list[bytes]]]:
        """Returns timestamp and payloads of each picture since the last key frame; none if there are too many bytes.

        The last timestamp is that of the last picture. The payloads are kept in `_gop` for the next viewer.
        """
        units = [unit for unit in self.stream.gop.units() if unit.track.kind is Kind.VIDEO]
        if not units or self._packetizer is None or sum(len(unit.payload) for unit in units) > MAX_BURST:
            return []
        gop, packetizer = self._gop, self._packetizer.for_burst(len(units))
        is_stale = gop and (len(gop) > len(units) or gop[0][0] is not units[0] or gop[-1][0] is not units[len(gop) - 1])
        if is_stale or packetizer is not self._packetizer:  # with picture ids, every burst differs
            gop = self._gop = []
        gop += [(unit, _payloads(packetizer, unit)) for unit in units[len(gop) :]]
        step = _ticks_apart(len(gop))
        self._stamp = timestamp(units[-1], VIDEO_CLOCK)
        first = self._stamp - (len(gop) - 1) * step
        return [((first + number * step) & 0xFFFFFFFF, payloads) for number, (_, payloads) in enumerate(gop)]


def _ticks_apart(pictures: int) -> int:
    """Returns the ticks between two pictures of a burst: few, but at least one."""
    return max(1, min(8, _BURST_TICKS // max(1, pictures)))


def _payloads(packetizer: RtpPacketizer, unit: AccessUnit) -> list[bytes]:
    """Returns the payloads of a picture; none if it is invalid. Players of other formats drop it, too."""
    try:
        return packetizer.split(unit.payload, MAX_PAYLOAD, unit.key)
    except InvalidData:
        return []


def _renumbered(packet: bytes, type: int, sequence: int, offset: int) -> bytes:
    stamp = (int.from_bytes(packet[4:8], "big") + offset & 0xFFFFFFFF).to_bytes(4, "big")
    return bytes((packet[0], packet[1] & 0x80 | type)) + sequence.to_bytes(2, "big") + stamp + packet[8:]
