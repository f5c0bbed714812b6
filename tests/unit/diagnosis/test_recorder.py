"""The recorder stores values of live channels, and its file survives a restart."""

import asyncio
from pathlib import Path

import structlog

from gateway.diagnosis.history import History
from gateway.diagnosis.recorder import Recorder, load_history, save_history, stream_values
from gateway.live.publisher import PushOrigin
from gateway.live.sink import EndReason
from tests.support import builders
from tests.support.builders import AUDIO, VIDEO, channel

NOW = 1_800_000_000.0


def live(hub, name="c1"):
    publisher = hub.publish_from(PushOrigin("rtmp", "192.0.2.1:5"), channel(name), name, lambda reason: None)
    publisher.set_tracks(VIDEO, AUDIO, {})
    return publisher


async def test_ended_channels_keep_their_history_but_get_no_new_values():
    hub = builders.hub()
    recorder = Recorder(hub, lambda: {"cpu": 5.0}, stream_values(lambda stream: 7))
    publisher = live(hub)
    recorder.record(NOW)
    publisher.close()
    recorder.record(NOW + 5)
    hub.end("c1", EndReason.KICKED)
    recorder.record(NOW + 10)
    timeline = recorder.history.channel("c1")
    assert timeline is not None
    points = timeline.points(NOW + 10, 600)[1]
    assert [(at - NOW, values["live"][0], values["viewers"][0]) for at, values in points] == [(0, 1, 7), (5, 0, 7)]
    assert len(recorder.history.node.points(NOW + 10, 600)[1]) == 3
    hub.drain()
    await hub.drained()


async def test_a_restarted_recorder_continues_the_stored_history(tmp_path: Path):
    path = tmp_path / "history.bin"
    history = History()
    history.add_channel("c1", NOW, {"bitrate": 1.0})
    await save_history(history, path)
    recorder = Recorder(builders.hub(), dict, stream_values(lambda stream: 0), path, clock=lambda: NOW + 5)
    running = asyncio.create_task(recorder.run())
    while recorder.history.channel("c1") is None:
        await asyncio.sleep(0)
    running.cancel()
    recorder.history.add_channel("c2", NOW + 5, {"bitrate": 1.0})
    await recorder.save()
    assert len(load_history(path)) == 2
    assert [file.name for file in tmp_path.iterdir()] == ["history.bin"]


async def test_a_history_file_is_not_overwritten_before_it_was_read(tmp_path: Path):
    path = tmp_path / "history.bin"
    recorder = Recorder(builders.hub(), dict, stream_values(lambda stream: 0), path)
    await recorder.save()
    assert not path.exists()
    recorder.stop_saving()
    await recorder.save()
    assert not path.exists()


def test_an_invalid_file_gives_one_warning_and_an_empty_history(tmp_path: Path):
    path = tmp_path / "history.bin"
    path.write_bytes(b"something else")
    with structlog.testing.capture_logs() as logged:
        assert len(load_history(path)) == 0
    assert [line["log_level"] for line in logged] == ["warning"]
    with structlog.testing.capture_logs() as logged:
        assert len(load_history(tmp_path / "missing.bin")) == 0
    assert logged == []


async def test_a_failed_save_gives_one_warning(tmp_path: Path):
    with structlog.testing.capture_logs() as logged:
        await save_history(History(), tmp_path / "no folder" / "history.bin")
    assert [line["log_level"] for line in logged] == ["warning"]
