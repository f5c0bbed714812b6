"""The WebRTC connections of viewers in the answer for a session."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from unittest.mock import Mock

from gateway.live.network_quality import NetworkQuality
from gateway.live.stream import Stream
from gateway.packaging.rtp.output import RtpOutput
from gateway.reports.sessions import MAX_VIEWERS, worst_viewers


@dataclass(eq=False)
class Viewer:
    address: str
    network: NetworkQuality
    transport: str = "udp"


def stream(*viewers: Viewer) -> Stream:
    output = RtpOutput(Mock(), Mock(), Mock())
    output.connections.update(viewers)
    return Mock(spec=Stream, output=lambda name: output if name == "whep" else None)


def test_times_are_in_milliseconds_and_unknown_values_are_null() -> None:
    assert asdict(NetworkQuality.of(0.0415, 3 / 256, 0.00321)) == {"roundTrip": 41.5, "lost": 0.0117, "jitter": 3.2}
    assert asdict(NetworkQuality.of(None, 0.0, 0.0)) == {"roundTrip": None, "lost": 0.0, "jitter": 0.0}


def test_only_the_worst_connections_are_listed_worst_first() -> None:
    far, lossy = (
        Viewer("far", NetworkQuality.of(0.3, 0.0, 0.0)),
        Viewer("lossy", NetworkQuality.of(0.01, 0.2, 0.0), "tcp"),
    )
    near = [Viewer(f"near{n}", NetworkQuality(None, 0.0, 0.0)) for n in range(MAX_VIEWERS)]
    shown = worst_viewers(stream(*near, far, lossy))
    assert len(shown) == MAX_VIEWERS
    assert [one["address"] for one in shown[:2]] == ["lossy", "far"]
    assert shown[0]["transport"] == "tcp"


def test_a_stream_without_whep_output_has_no_connections() -> None:
    assert worst_viewers(None) == worst_viewers(Mock(spec=Stream, output=lambda name: None)) == []
