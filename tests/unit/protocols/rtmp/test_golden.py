"""Recorded byte streams of real clients (tests/golden/rtmp) are read as expected, however they are cut."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from gateway.formats.flv.demuxer import MediaDemuxer
from gateway.formats.flv.tag import ScriptTag, TrackStart, Unsupported
from gateway.media.track import AccessUnit, MediaTrack
from gateway.protocols.rtmp.events import Connected, PlayRequested, PublishEnded, PublishRequested
from gateway.protocols.rtmp.message import Message
from gateway.protocols.rtmp.server import ServerConnection
from gateway.protocols.rtmp.wire import WireLimits

FOLDER = Path(__file__).parents[3] / "golden" / "rtmp"
EXPECTED: dict[str, dict[str, Any]] = json.loads((FOLDER / "expected.json").read_text())


def replay(data: bytes, size: int) -> dict[str, Any]:
    """The content of a capture: the request, the tracks, and a digest over every frame."""
    early = WireLimits(early_media=1 << 20)  # all of the capture may come in one read
    server, demux = ServerConnection(limits=early), MediaDemuxer()
    digest, tracks, frames, times, scripts = sha256(), [], 0, [], []
    told: dict[str, Any] = {}
    for at in range(0, len(data), size):
        events = list(server.receive(data[at : at + size]))
        while events:
            event = events.pop(0)
            if isinstance(event, Connected):
                told |= {"app": event.app, "flash_ver": event.flash_ver}
            elif isinstance(event, PublishRequested):
                told |= {"publish": event.name, "sign": event.query.get("sign"), "type": event.type}
                events += server.accept_publish()
            elif isinstance(event, PlayRequested):
                told |= {"play": event.name, "sign": event.query.get("sign")}
                server.accept_play()
            elif isinstance(event, PublishEnded):
                told["ended"] = event.reason
            elif isinstance(event, ScriptTag):
                scripts.append(event.name)
            elif isinstance(event, Message):
                demuxed = (demux.read_video if event.type_id == 9 else demux.read_audio)(event.timestamp, event.payload)
                assert not isinstance(demuxed, Unsupported)
                if isinstance(demuxed, TrackStart):
                    tracks.append(f"{demuxed.track.codec} {demuxed.track.config.hex()[:64]}")
                    demuxed = demuxed.unit
                if isinstance(demuxed, MediaTrack):
                    tracks.append(f"{demuxed.codec} {demuxed.config.hex()[:64]}")
                elif isinstance(demuxed, AccessUnit):
                    frames += 1
                    times.append(demuxed.dts)
                    digest.update(f"{demuxed.track.kind} {demuxed.dts} {demuxed.cts} {demuxed.key} ".encode())
                    digest.update(demuxed.payload)
    server.data_to_send()
    assert demux.dropped.total() == 0
    if times:
        told |= {
            "scripts": scripts,
            "tracks": tracks,
            "frames": frames,
            "last": max(times),
            "sha256": digest.hexdigest(),
        }
    return told


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_a_capture_has_its_expected_content(name: str) -> None:
    data = (FOLDER / name).read_bytes()
    for size in (len(data), 1448, 100, 1):
        assert replay(data, size) == EXPECTED[name]


def test_every_capture_has_its_expectation() -> None:
    assert {p.name for p in FOLDER.glob("*.bin")} == set(EXPECTED)
