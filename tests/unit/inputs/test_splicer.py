"""Splicer: the media of one run follow those of the run before without a gap."""

from collections.abc import Mapping

from gateway.inputs.demux_client import LeftOut, Media
from gateway.inputs.splicer import Splicer
from gateway.media.track import AccessUnit, Kind, Tracks
from tests.support.builders import AUDIO, sound


class Run:
    """A source with these items."""

    def __init__(self, *items: Media, left_out: Mapping[str, Kind] | None = None) -> None:
        self._items, self.left_out = list(items), left_out or {}

    async def close(self) -> None:
        pass

    async def next(self) -> Media | None:
        return self._items.pop(0) if self._items else None


async def test_a_run_begins_where_the_last_frame_of_the_run_before_ends() -> None:
    splicer = Splicer(10)
    times = []
    for _ in range(2):
        run = Run(Tracks(None, AUDIO), *(sound(90 * dts) for dts in (0, 21, 42, 64)))
        times.append([item.dts async for item in splicer.play([run]) if isinstance(item, AccessUnit)])
    assert [(time - times[0][0]) // 90 for time in times[1]] == [86, 107, 128, 150]  # the last frame lasts 22 ms


async def test_what_is_left_out_comes_before_the_tracks_and_once() -> None:
    splicer, items = Splicer(10), []
    lost = {"VP6": Kind.VIDEO, "DTS": Kind.AUDIO}
    for left_out in (lost, lost, {}):
        run = Run(Tracks(None, AUDIO), sound(0), left_out=left_out)
        items += [item async for item in splicer.play([run]) if not isinstance(item, AccessUnit)]
    only = LeftOut({"VP6": Kind.VIDEO})  # other sound takes the place of the sound
    assert items == [only, Tracks(None, AUDIO), LeftOut({})]
