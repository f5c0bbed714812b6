"""A stream counts what its publishers have sent, whatever stream they publish into."""

from __future__ import annotations

import pytest

from gateway.live.received import ReceivedMedia
from gateway.live.sink import EndReason
from gateway.live.stream import StreamKind
from gateway.live.stream_captions import StreamCaptions
from gateway.live.track_changes import ChangeLimiters
from tests.support import builders
from tests.support.builders import picture


def test_the_bitrate_is_the_average_of_the_last_seconds() -> None:
    received = ReceivedMedia(StreamCaptions(tuple), ChangeLimiters())
    assert received.bitrate == 0
    for second in range(10):
        received.add(picture(1000 * second, size=1000 if second < 4 else 2000), float(second))
        received.sample(float(second))
    assert received.bitrate == 16_000
    assert (received.bytes, received.last_dts_ms, received.last_push) == (16_000, 9_000, 9.0)


def test_an_earlier_time_does_not_set_the_last_one_back() -> None:
    received = ReceivedMedia(StreamCaptions(tuple), ChangeLimiters())
    received.add(picture(500), 1.0)
    received.add_time(picture(460), 2.0)
    assert (received.bytes, received.last_dts_ms, received.last_push) == (10, 500, 2.0)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("c1", StreamKind.SOURCE), ("c1@720p", StreamKind.RENDITION), ("c1/backup", StreamKind.SOURCE)],
)
def test_the_name_of_a_stream_tells_its_kind(name: str, kind: StreamKind) -> None:
    assert StreamKind.of(name) is kind


async def test_the_next_stream_of_a_name_has_the_limiters_of_the_earlier_one() -> None:
    hub = builders.hub()
    first = builders.publish(hub)
    first.set_tracks(builders.VIDEO, builders.AUDIO, {})
    hub.end("c1", EndReason.KICKED)
    assert builders.publish(hub).stream.received.limiters is first.stream.received.limiters
