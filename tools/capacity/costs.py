"""What nodes spend: cores and network, of measured costs and simulated load."""

from __future__ import annotations

from dataclasses import dataclass

from tools.capacity import measured
from tools.capacity.demand import Asked, Media


@dataclass(frozen=True, slots=True)
class Spent:
    """Cores busy; Gbit/s in and out; MB of memory."""

    cores: float = 0.0
    inward: float = 0.0
    outward: float = 0.0
    memory: float = 0.0

    @property
    def network(self) -> float:
        """The busier direction: a network card has both."""
        return max(self.inward, self.outward)


def of_gateway(streams: int, packaged: float, pulls: int, fetched: float, bits: float, media: Media) -> Spent:
    """A holder's: streams pushed to it, pulls of them by other nodes, what they ask a second, and its bits.

    packaged: the share of the streams that are.
    """
    ingest = measured.INGEST.value + packaged * (measured.PACKAGED.value - measured.INGEST.value)
    return Spent(
        cores=streams * ingest / 60
        + pulls * measured.PULL_OUT.value * media.bitrate / 2.5e6
        + fetched * measured.HANDED.value,
        inward=streams * media.gigabit,
        outward=pulls * media.gigabit + bits / 1e9,
        memory=measured.IDLE_MEMORY.value + streams * (packaged * stream_memory(media) + (1 - packaged) * _gop(media)),
    )


def stream_memory(media: Media) -> float:
    """MB of one packaged stream: its playlist's window twice (segments that left it can still be fetched), a little
    more than that, and what does not grow with it, as measured at 2.5 Mbit/s."""
    beside = measured.STREAM_MEMORY.value - _twice(measured.MEASURED_WINDOW) * 2.5e6 / 8e6
    return beside + _twice(media.window) * media.bitrate / 8e6


def _gop(media: Media) -> float:
    """MB of a stream that is only kept for who comes, with as much for the lists and objects around it."""
    return 2 * media.bitrate * media.gop / 8e6


def _twice(window: float) -> float:
    return 2 * window + 4  # two segments of 2 s


def of_edge(viewers: int, pulls: int, asked: Asked, media: Media, fanout: float = measured.FANOUT.value) -> Spent:
    """An edge's: players of FLV and RTMP, streams pulled for them, and its share of what is asked by HTTP.

    fanout: CPU-s per GB.
    """
    gigabytes = viewers * media.bitrate / 8e9
    return Spent(
        cores=gigabytes * fanout
        + pulls * measured.PULL_IN.value * media.bitrate / 2.5e6
        + asked.playlists * measured.PLAYLIST.value
        + asked.files * measured.SEGMENT.value
        + (asked.fetched + asked.told) * measured.RELAYED.value,
        inward=pulls * media.gigabit + asked.fetched_bits / 1e9,
        outward=viewers * media.gigabit + asked.bits / 1e9,
        memory=measured.IDLE_MEMORY.value + viewers * measured.VIEWER_MEMORY.value + pulls * _gop(media),
    )
