"""RTSP playback: renders units as RTP packets with reports between them. All players receive the same bytes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import structlog

from gateway.live.sink import EndReason
from gateway.live.stream import Stream
from gateway.media import codecs
from gateway.media.clock import AudioClock
from gateway.media.errors import InvalidData
from gateway.media.track import AccessUnit, Kind, MediaTrack, TimedData, Tracks
from gateway.packaging.feed import Feed, Rendering, close_at_end
from gateway.packaging.rtp.clock import AUDIO_SSRC, VIDEO_SSRC, offset_of, timestamp
from gateway.protocols.rtp import rtcp
from gateway.protocols.rtp.packetizers.packetizer import MAX_PAYLOAD, RtpPacketizer, packetizer_of
from gateway.protocols.rtsp.description import SentTrack, sent_track
from gateway.protocols.rtsp.messages import interleaved, interleaved_rtp, split_interleaved

log = structlog.get_logger(__name__)

# The channels of a player for RTP of pictures and of sound; RTCP has the next ones. -1: it did not set this track up.
Channels: TypeAlias = tuple[int, int]
SSRCS: Final = {Kind.VIDEO: VIDEO_SSRC, Kind.AUDIO: AUDIO_SSRC}
_REPORT_MS: Final = 5_000  # of the stream's time between two reports (RFC 3550 §6.2)
_LATE_MS: Final = 2_000  # beyond this difference, the wall clock of the stream begins anew
_SLEW_MS: Final = 1.0  # by which a report may correct it: more would move the pictures of a player


class StreamClock:
    """The wall time of a stream's times. It follows the real one slowly, so that reports agree with each other."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self._begin: float | None = None  # milliseconds since 1970 at the time 0 of the stream

    def wall(self, at_ms: float) -> float:
        """Returns the seconds since 1970 at a time of the stream. at_ms: milliseconds."""
        received = self.stream.received
        real = (time.time() - time.monotonic() + received.last_push) * 1000 - received.last_dts_ms
        begin = self._begin
        if begin is None or abs(real - begin) > _LATE_MS:
            begin = real
        else:
            begin += max(-_SLEW_MS, min(_SLEW_MS, real - begin))
        self._begin = begin
        return (begin + at_ms) / 1000


class _TrackWriter:
    """Writes the packets of one track. Raises InvalidData if its configuration cannot be read."""

    def __init__(self, sent: SentTrack, channel: int) -> None:
        packetizer = packetizer_of(sent.track)
        assert packetizer is not None, "`sent_track` returns tracks with packetizers only"
        self.sent, self.channel = sent, channel
        self._packetizer: RtpPacketizer = packetizer
        self._ssrc = SSRCS[sent.track.kind]
        self._clock = AudioClock(sent.rate, sent.track.timescale) if sent.track.kind is Kind.AUDIO else None
        self._sequence = self._packets = self._octets = 0

    def take_over(self, earlier: _TrackWriter) -> None:
        """Continues the numbers of the writer before a change of the configuration."""
        self._sequence, self._packets, self._octets = earlier._sequence, earlier._packets, earlier._octets

    def write(self, unit: AccessUnit) -> bytes:
        """Returns the packets of a unit, each with its channel and length. Raises InvalidData. Hot path."""
        payloads = self._packetizer.split(unit.payload, MAX_PAYLOAD, unit.key)
        sent, clock = self.sent, self._clock
        if clock is None:
            stamp = timestamp(unit, sent.rate)
        else:
            samples = codecs.samples_per_frame(sent.track, unit.payload) * sent.rate // self._rate_of(unit)
            stamp = (clock.stamp(unit.dts, samples) + offset_of(sent.rate)) & 0xFFFFFFFF
        first = self._sequence
        self._sequence = (first + len(payloads)) & 0xFFFF
        self._packets += len(payloads)
        self._octets += sum(map(len, payloads))
        return interleaved_rtp(self.channel, sent.payload_type, first, stamp, self._ssrc, payloads)

    def _rate_of(self, unit: AccessUnit) -> int:
        """Returns the samples a second of a unit. That of MP3 differs from the rate of its timestamps."""
        return codecs.audio_rate(self.sent.track, unit.payload)

    def report(self, wall: float, at_ms: float, name: str) -> bytes:
        """Returns a sender report. wall: seconds since 1970 at `at_ms` of the stream."""
        stamp = (round(at_ms * self.sent.rate / 1000) + offset_of(self.sent.rate)) & 0xFFFFFFFF
        counts = self._packets & 0xFFFFFFFF, self._octets & 0xFFFFFFFF
        report = rtcp.SenderReport(self._ssrc, rtcp.ntp_time(wall), stamp, *counts)
        return interleaved(self.channel + 1, rtcp.sender_report(report, name))


class RtspRendering:
    """Renders RTP packets for players that set up the same tracks on the same channels.

    A report of both tracks comes first, so that a player shows sound and pictures together from the beginning.
    described: the tracks of the session description. on_change: called when the stream has others: players must ask for
    a new description.
    """

    def __init__(
        self, clock: StreamClock, channels: Channels, described: Sequence[SentTrack], on_change: Callable[[], None]
    ) -> None:
        self._clock, self._name, self._on_change = clock, clock.stream.name, on_change
        self._channels = dict(zip((Kind.VIDEO, Kind.AUDIO), channels, strict=True))
        self._described = {sent.track.kind: sent for sent in described}
        self._writers: dict[Kind, _TrackWriter] = {}
        self._reported_ms = 0
        self._bad = False  # the last unit could not be rendered

    def render_head(self, tracks: Tracks, dts_ms: int, later: Sequence[Tracks] = ()) -> bytes:
        self._set(tracks)
        return self._reports(dts_ms)

    def render_change(self, tracks: Tracks, dts_ms: int) -> bytes:
        self._set(tracks)
        return self._reports(dts_ms)

    def render_still(self, unit: AccessUnit, dts_ms: int) -> bytes:
        return b""

    def render_unit(self, unit: AccessUnit) -> bytes:
        """Returns the packets of a unit, perhaps with reports before them. Hot path."""
        writer = self._writers.get(unit.track.kind)
        if writer is None:
            return b""
        try:
            packets = writer.write(unit)
        except InvalidData as error:
            if not self._bad:
                self._bad = True
                log.info("a unit is left out of RTP", stream=self._name, reason=str(error))
            return b""
        self._bad = False
        at_ms = unit.dts * 1000 // unit.track.timescale
        if packets and not 0 <= at_ms - self._reported_ms < _REPORT_MS:
            return self._reports(at_ms) + packets
        return packets

    def render_timed(self, timed: TimedData) -> bytes:
        return b""

    def _reports(self, at_ms: int) -> bytes:
        self._reported_ms = at_ms
        wall = self._clock.wall(at_ms)
        return b"".join([writer.report(wall, at_ms, self._name) for writer in self._writers.values()])

    def _set(self, tracks: Tracks) -> None:
        for kind, track in ((Kind.VIDEO, tracks.video), (Kind.AUDIO, tracks.audio)):
            channel, described, earlier = self._channels[kind], self._described.get(kind), self._writers.get(kind)
            if described is None:
                if sent_track(track, None) is not None:
                    self._on_change()
                continue
            if channel < 0 or (earlier is not None and earlier.sent.track == track):
                continue
            if track is None or track.codec is not described.track.codec or not _continues(described.track, track):
                self._writers.pop(kind, None)
                self._on_change()
                continue
            writer = _TrackWriter(SentTrack(track, described.rate, described.channels), channel)
            if earlier is not None:
                writer.take_over(earlier)
            self._writers[kind] = writer


def _continues(described: MediaTrack, track: MediaTrack) -> bool:
    """Whether a player can decode a track by the description of an earlier one: pictures bring their configuration."""
    return track.kind is Kind.VIDEO or described.config == track.config


@dataclass(frozen=True, slots=True)
class Described:
    """The tracks that RTP can carry, as a player gets them described. version: grows with each change."""

    tracks: tuple[SentTrack, ...] = ()
    version: int = 0


class RtspOutput:
    """The output `rtsp`. It is always on; without players it costs nothing.

    make_feed: makes a feed of this output's stream.
    """

    def __init__(self, stream: Stream, make_feed: Callable[[Rendering], Feed]) -> None:
        self._stream, self._make_feed = stream, make_feed
        self._clock = StreamClock(stream)
        self._feeds: dict[tuple[Channels, int], Feed] = {}  # by channels, and by the version of the description
        self._described = Described()
        self._batch = b""
        self._packets: Mapping[int, Sequence[bytes]] = {}

    def describe(self) -> Described:
        """Returns the tracks that RTP can carry now."""
        tracks = self._stream.tracks
        video, audio = (tracks.video, tracks.audio) if tracks is not None else (None, None)
        sounds = (unit.payload for unit in self._stream.gop.units() if unit.track.kind is Kind.AUDIO)
        found = sent_track(video, None), sent_track(audio, next(sounds, None))
        sent = tuple(track for track in found if track is not None)
        if sent != self._described.tracks:
            self._described = Described(sent, self._described.version + 1)
        return self._described

    def feed(self, described: Described, channels: Channels) -> Feed:
        """Returns the feed of the players with this description and these channels.

        The caller must limit the channels that it asks for.
        """
        key = channels, described.version
        feed = self._feeds.get(key)
        if feed is None:
            self._feeds = {key: feed for key, feed in self._feeds.items() if len(feed)}
            rendering = RtspRendering(self._clock, channels, described.tracks, lambda: self._renew(key))
            feed = self._feeds[key] = self._make_feed(rendering)
        return feed

    def packets(self, batch: bytes) -> Mapping[int, Sequence[bytes]]:
        """Returns the packets of a batch, by channel. A feed writes it to all players over UDP in turn. Hot path."""
        if batch is not self._batch:
            packets: dict[int, list[bytes]] = {}
            for packet in split_interleaved(batch):
                packets.setdefault(packet.channel, []).append(packet.payload)
            self._batch, self._packets = batch, packets
        return self._packets

    def _renew(self, key: tuple[Channels, int]) -> None:
        """Ends the players whose description is no longer true, after the feed has handled the change."""
        feed = self._feeds.pop(key, None)
        if feed is not None:
            asyncio.get_running_loop().call_soon(feed.close, EndReason.OUTPUT_OFF)

    async def run(self, stream: Stream) -> None:
        await close_at_end(stream, lambda: self._feeds.values())
