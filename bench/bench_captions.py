"""CPU of captions: of a packaged stream without them, and with CEA-608 that viewers get as WebVTT.

    python -m bench.bench_captions [--plain]

It pushes 720p30 with AAC into streams with both packagers, faster than real time, in turns. So the figures are CPU time
per second of media. --plain measures only the stream without captions; it also runs in a tree without this bench:
copy the file there, and run both in turns.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence

from bench.bench_packaging import AUDIO, FPS, VIDEO, pictures
from gateway.live.stream import Stream
from gateway.media.track import AccessUnit
from gateway.packaging.cmaf.packager import CmafPackager, SequenceNumbers
from gateway.packaging.packager import Packager, SegmentPlan
from gateway.packaging.ts.packager import TsPackager
from tests.support import builders

BITRATE = 2_500_000
LINE = "A LINE OF THIRTY-TWO CHARACTERS."  # each two seconds, by two bytes a picture


class Sender:
    """A stream with both packagers. user_data: what each picture carries."""

    def __init__(self, user_data: Sequence[bytes]) -> None:
        self.stream: Stream = builders.stream()
        plan = SegmentPlan(2.0, 6, 0.5)
        self.ts, self.cmaf = TsPackager("c1", plan, 1.7e9), CmafPackager("c1", plan, 1.7e9, SequenceNumbers())
        self.stream.set_tracks(VIDEO, AUDIO, {}, True)
        self._user_data = user_data
        self._packagers: tuple[Packager, ...] = (self.ts, self.cmaf)

    async def begin(self) -> None:
        for packager in self._packagers:
            packager.begin(self.stream)

    def push(self, second: int, payloads: Sequence[tuple[bool, bytes]]) -> None:
        for n in range(FPS):
            number = second * FPS + n
            key, payload = payloads[number % len(payloads)]
            extra = self._user_data[number % len(self._user_data)] if self._user_data else b""
            dts = number * 1000 // FPS
            self._push(AccessUnit(VIDEO, dts, 0, key, 1.7e9 + dts / 1000, extra + payload))
        for n in range(47):
            dts = second * 1000 + n * 1000 // 47
            self._push(AccessUnit(AUDIO, dts, 0, True, 1.7e9 + dts / 1000, b"\x21" * 340))
        for packager in self._packagers:
            packager.catch_up()

    def _push(self, unit: AccessUnit) -> None:
        self.stream.received.add(unit, unit.wall)
        self.stream.push(unit)


def captions() -> list[bytes]:
    """The SEI of two seconds of pictures with one pop-on caption."""
    from tests.support.caption_writer import popped_on, sei, user_data

    pairs = [*popped_on(1, LINE), *[b"\x80\x80"] * 60][:60]
    units = [sei(user_data([(0, pair), (1, b"\x80\x80")])) for pair in pairs]
    return [len(unit).to_bytes(4, "big") + unit for unit in units]


def reader(sender: Sender) -> Callable[[], None]:
    """Returns what makes the files of a second for viewers: two parts, and half of the segments of both packagers."""
    from gateway.packaging.caption_files import TS_DELAY, dash_segment, segment_captions, vtt_file

    def read() -> None:
        cmaf = sender.cmaf.manifests
        main = cmaf.tracks[0]
        segment = main.window[-1]
        for part in segment.parts[:2]:
            vtt_file((part.captions or {}).get("cc1", ()), 0)
        if read.turn:  # type: ignore[attr-defined]
            vtt_file((segment_captions(segment) or {}).get("cc1", ()), 0)
            vtt_file((sender.ts.window[-1].captions or {}).get("cc1", ()), 0, TS_DELAY)
            dash_segment(segment, "cc1", 0)
        cmaf.caption_playlist()
        cmaf.caption_playlist()
        read.turn = not read.turn  # type: ignore[attr-defined]

    read.turn = False  # type: ignore[attr-defined]
    return read


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=400)
    parser.add_argument("--plain", action="store_true", help="only the stream without captions")
    options = parser.parse_args()
    payloads = pictures(60, BITRATE)
    plain = Sender([])
    await plain.begin()
    captioned = plain if options.plain else Sender(captions())
    read: Callable[[], None] = lambda: None  # noqa: E731
    if not options.plain:
        await captioned.begin()
    costs: dict[str, list[float]] = {"without": [], "with": [], "files": []}
    for second in range(options.seconds):
        began = time.process_time()
        plain.push(second, payloads)
        costs["without"].append(time.process_time() - began)
        if options.plain:
            continue
        began = time.process_time()
        captioned.push(second, payloads)
        costs["with"].append(time.process_time() - began)
        if second == 10:
            read = reader(captioned)
        began = time.process_time()
        read()
        costs["files"].append(time.process_time() - began)
    middle = {name: statistics.median(values[20:]) * 1e3 for name, values in costs.items() if values}
    print(f"without captions: {middle['without']:.3f} ms a stream-second")
    if not options.plain:
        more = middle["with"] - middle["without"]
        print(f"CEA-608: {more:.3f} ms more; as WebVTT for viewers: {middle['files']:.3f} ms more")
        print(f"together {(more + middle['files']) / 10:.3f} % of a core")


if __name__ == "__main__":
    import asyncio

    asyncio.run(main())
