"""What streams and viewers ask for: bits, requests and connections, by protocol."""

from __future__ import annotations

import math
from dataclasses import astuple, dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Media:
    """A stream as it is pushed. bitrate: bits a second; gop, segment, part, window (a playlist's length): seconds."""

    bitrate: float = 2_500_000
    gop: float = 2.0
    segment: float = 2.0
    part: float = 0.5
    window: float = 20.0

    @property
    def gigabit(self) -> float:
        return self.bitrate / 1e9

    @property
    def gb_hour(self) -> float:
        return self.bitrate * 3600 / 8e9


@dataclass(frozen=True, slots=True)
class Mix:
    """Shares of the viewers. flv: HTTP-FLV, WS-FLV and RTMP, a long connection each; hls: MPEG-TS segments."""

    flv: float
    hls: float
    llhls: float

    @property
    def cached(self) -> float:
        """Whose answers a CDN can keep."""
        return self.hls + self.llhls


MIXED: Final = Mix(flv=0.1, hls=0.6, llhls=0.3)
ONLY_FLV: Final = Mix(flv=1.0, hls=0.0, llhls=0.0)
ONLY_HLS: Final = Mix(flv=0.0, hls=1.0, llhls=0.0)
ONLY_LLHLS: Final = Mix(flv=0.0, hls=0.0, llhls=1.0)

LANES: Final = 2  # LL-HLS: picture and sound have playlists and parts of their own


def player_requests(mix: Mix, media: Media) -> float:
    """Requests a second of the average viewer: a playlist and a file for each segment, or for each part and lane."""
    return mix.hls * 2 / media.segment + mix.llhls * LANES * 2 / media.part


@dataclass(frozen=True, slots=True)
class Cdn:
    """The CDN in front. caches: that ask the edges each for itself (one: Origin Shield).

    kept: seconds that it keeps an HLS playlist (the templates' policy); 0: it passes every request for one on, as
    `no-cache` wants. Blocking reloads of LL-HLS are kept in any case.
    """

    caches: int = 1
    kept: float = 1.0


TELL: Final = 10.0  # seconds after which an edge tells each holder again how many watch
MOMENT: Final = 0.3  # for which an edge gives everybody the playlist that it fetched last


@dataclass(frozen=True, slots=True)
class Asked:
    """Of the edges, a second: playlists, media files, those of both that an edge has to fetch, bits, and how often an
    edge tells a holder how many watch."""

    playlists: float = 0.0
    files: float = 0.0
    fetched: float = 0.0
    bits: float = 0.0
    told: float = 0.0

    def __add__(self, other: Asked) -> Asked:
        return Asked(*(mine + its for mine, its in zip(astuple(self), astuple(other), strict=True)))

    def __mul__(self, factor: float) -> Asked:
        return Asked(*(factor * x for x in astuple(self)))

    @property
    def requests(self) -> float:
        return self.playlists + self.files

    @property
    def fetched_bits(self) -> float:
        """Of what an edge has to fetch; playlists weigh nothing."""
        return self.bits * min(1.0, self.fetched / self.files) if self.files else 0.0


def asked_of_edges(hls: float, llhls: float, media: Media, cdn: Cdn | None, edges: int) -> Asked:
    """What one channel's viewers ask of all edges together. hls, llhls: viewers now; cdn: None where players come
    themselves.

    Every file reaches an edge once for each cache, any edge; each edge fetches it once, however many ask for it.
    """
    out = Asked()
    if hls > 0:
        rate = 1 / media.segment
        askers = hls if cdn is None else min(hls, cdn.caches)
        playlists = hls * rate
        if cdn is not None and cdn.kept:
            playlists = min(playlists, askers / cdn.kept)
        fetched = edges / (MOMENT + edges / playlists) + rate * spread_over(askers, edges)
        out += Asked(playlists, askers * rate, fetched, askers * media.bitrate)
    if llhls > 0:
        rate = LANES / media.part
        askers = llhls if cdn is None else min(llhls, cdn.caches)
        out += Asked(askers * rate, askers * rate, 2 * rate * spread_over(askers, edges), askers * media.bitrate)
    asked_in_between = out.requests * TELL / edges  # of one edge, from one time it tells to the next
    return out + Asked(told=edges * (1 - math.exp(-asked_in_between)) / TELL)


def spread_over(n: float, bins: int) -> float:
    """How many of `bins` get at least one of n that fall evenly."""
    return bins * (1 - (1 - 1 / bins) ** n) if bins > 0 else 0.0
