"""How long the segments and the playlists of a stream are to be."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SegmentPlan:
    """seconds, size: the channel's hls_time and hls_list_size. part: seconds wanted of a part, of CMAF alone."""

    seconds: float
    size: int
    part: float = 0.0
