"""Splicer: the media of one run follow those of the run before without a gap."""

from gateway.inputs.demux_client import Item
from gateway.inputs.splicer import Splicer
from gateway.media.track import AccessUnit, Tracks
from tests.support.builders import AUDIO, sound


class Run:
    """A source with these items."""

    def __init__(self, *items: Item) -> None:
        self._items = list(items)

    async def next(self) -> Item | None:
        return self._items.pop(0) if self._items else None


async def test_a_run_begins_where_the_last_frame_of_the_run_before_ends() -> None:
    splicer = Splicer(10)
    times = []
    for _ in range(2):
        run = Run(Tracks(None, AUDIO), *(sound(90 * dts) for dts in (0, 21, 42, 64)))
        times.append([item.dts async for item in splicer.play([run]) if isinstance(item, AccessUnit)])
    assert [(time - times[0][0]) // 90 for time in times[1]] == [86, 107, 128, 150]  # the last frame lasts 22 ms
