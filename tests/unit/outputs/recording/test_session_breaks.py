"""The ad breaks of an on-demand session are date ranges in its playlist."""

from __future__ import annotations

import asyncio
import re
from datetime import datetime
from pathlib import Path

from gateway.live.sink import EndReason
from gateway.media.timed_data import AdCue, CueType
from gateway.media.track import TimedData
from tests.support import builders
from tests.support.builders import AUDIO, VIDEO, picture, sound
from tests.support.recording import RunningArchive, push

RANGE = re.compile(r'#EXT-X-DATERANGE:ID="([^"]+)",START-DATE="([^"]+)"(.*)')


def seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


async def test_a_break_has_the_dates_of_its_cues_and_other_cues_are_left_out(tmp_path: Path) -> None:
    async with RunningArchive(tmp_path).open() as archive:
        publisher = builders.publish(builders.hub(), "c1", ondemand_time=2)
        stream = publisher.stream
        publisher.set_tracks(VIDEO, AUDIO, {})
        output = archive.on_demand(stream)
        output.begin(stream)
        running = asyncio.ensure_future(output.run(stream))

        def cue(dts: int, type: CueType, at: int, length: float | None = None) -> None:
            stream.push_timed(TimedData(dts, AdCue(type, "7", at, length, b"")))

        cue(0, CueType.OUT, 500)  # before the first picture
        for dts in range(0, 8000, 40):
            await push(stream, [picture(dts, key=dts % 1000 == 0), sound(dts)])
            if dts == 2000:
                cue(dts, CueType.OUT, 3000, 2.0)
                cue(dts, CueType.OTHER, 3000)
            if dts == 4000:
                cue(dts, CueType.IN, 4500)
        stream.end(EndReason.PUBLISHER_GONE)
        await running
        (index,) = archive.files("**/*.m3u8")
        text = index.read_text()
    began = seconds(re.findall("#EXT-X-PROGRAM-DATE-TIME:(.*)", text)[0])
    (begin, end) = RANGE.findall(text)
    assert begin[0] == end[0] == "7"
    assert abs(seconds(begin[1]) - began - 3.0) < 0.5 and "PLANNED-DURATION=2.000" in begin[2]
    assert "DURATION=1.5" in end[2]
    assert text.index("#EXT-X-DATERANGE") < text.index("#EXTINF")
