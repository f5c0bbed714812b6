"""The quality of a connection in messages between nodes."""

from typing import Any

import pytest

from gateway.live.network_quality import NetworkQuality, quality_fields, quality_of
from gateway.media.errors import InvalidData
from gateway.protocols import wire
from gateway.protocols.srt.statistics import LinkPath, LinkStatistics

LINK = LinkStatistics(None, 2.5, 7, 1, 240, 230, (LinkPath("192.0.2.7", 100.0, None, "up"),))


@pytest.mark.parametrize("quality", [LINK, NetworkQuality(0.04, 0.0, 0.002), NetworkQuality(None, 0.0, 0.0)])
def test_a_quality_is_read_as_it_was_written(quality: Any) -> None:
    assert quality_of(wire.read_json(wire.write_json(quality_fields(quality)))) == quality


@pytest.mark.parametrize(
    "changes",
    [
        {"links": None},
        {"links": [1]},
        {"links": [{"peer": "x"}]},
        {"loss_percent": "2"},
        {"loss_percent": None},
        {"dropped": -1},
        {"latency_ms": True},
        {"rtt_ms": "x"},
    ],
)
def test_another_message_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidData):
        quality_of({**quality_fields(LINK), **changes})


def test_the_number_of_links_is_bounded() -> None:
    fields = quality_fields(LINK)
    quality = quality_of({**fields, "links": list(fields["links"]) * 1_000})
    assert isinstance(quality, LinkStatistics)
    assert len(quality.links) == 16
