"""A channel with a slate: viewers stay connected while the publisher leaves and returns."""

import io
import itertools
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from gateway.media.track import AccessUnit, Kind
from tests.support.clients import Program, new_ffmpeg, until
from tests.support.flv_reader import FlvFileDemuxer, FlvReader, Tag
from tests.support.gateway import Channel, Gateway
from tests.support.hls_rules import changes_of_media
from tests.support.media import Film
from tests.support.shared_gateway import shared_gateway
from tests.support.time_outs import at_most

FILM = Film("slate-source", 20, size="320x180", bframes=2)


gateway = shared_gateway("ffmpeg", "ffprobe", MILLRACE_EGRESS__ALLOW="")


def publishing(channel: Channel) -> Program:
    return Program(
        ["ffmpeg", "-nostdin", "-v", "error", "-re", "-i", str(FILM.path()), "-c", "copy", "-f", "flv", channel.push]
    )


def watching(channel: Channel, path: str, file: Path) -> Program:
    """A viewer who keeps the bytes (FLV) or the media (HLS)."""
    if path.endswith(".flv"):
        return Program(["curl", "-s", "-N", "-o", str(file), channel.url(path)])
    return Program(
        ["ffmpeg", "-nostdin", "-v", "error", "-i", channel.url(path), "-c", "copy", "-f", "mpegts", str(file)]
    )


def slate_state(channel: Channel) -> dict[str, Any]:
    inputs = channel.gateway.api("GET", f"/videostream/{channel.id}/inputs").json()
    return next(item for item in inputs if item["kind"] == "slate")


def wait_state(channel: Channel, state: str) -> None:
    until(lambda: slate_state(channel)["state"] == state, f"the slate is {state}", 20)


def wait_bytes(file: Path, more: int) -> None:
    """Waits until a viewer has got so many bytes more."""
    size = file.stat().st_size if file.exists() else 0
    until(lambda: file.exists() and file.stat().st_size > size + more, "the viewer gets media", 20)


def tags(file: Path) -> list[Tag]:
    return FlvReader().receive(file.read_bytes())


def check_decodes(file: Path) -> None:
    command = ["ffmpeg", "-nostdin", "-v", "error", "-err_detect", "explode", "-i", str(file), "-f", "framehash", "-"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=at_most(60), check=False)
    assert done.returncode == 0
    assert done.stderr == ""


def picture_at(file: Path, seconds: float) -> Image.Image:
    command = ["ffmpeg", "-nostdin", "-v", "error", "-i", str(file), "-ss", f"{seconds:.3f}", "-frames:v", "1"]
    done = subprocess.run(
        [*command, "-f", "image2pipe", "-c:v", "png", "-"], capture_output=True, timeout=at_most(60), check=True
    )
    return Image.open(io.BytesIO(done.stdout)).convert("RGB")


def brightness(image: Image.Image) -> float:
    data = image.convert("L").tobytes()
    return sum(data) / len(data)


def test_the_stream_continues_with_a_slate(gateway: Gateway, tmp_path: Path) -> None:
    channel = gateway.channel(videoname="Morning show", inputs=[{"kind": "slate"}])
    flv, ts = tmp_path / "live.flv", tmp_path / "live.ts"
    with publishing(channel) as publisher:
        channel.wait_live()
        channel.wait_playable("live.m3u8")
        with watching(channel, "live.flv", flv) as viewer, watching(channel, "live.m3u8", ts) as player:
            wait_bytes(flv, 60_000)
            wait_state(channel, "ready")
            publisher.kill()
            wait_state(channel, "on air")
            wait_bytes(flv, 8_000)
            with publishing(channel):
                wait_state(channel, "ready")
                wait_bytes(flv, 60_000)
            wait_state(channel, "on air")
            wait_bytes(flv, 8_000)
            until(lambda: ts.exists() and ts.stat().st_size > 100_000, "the player gets segments", 20)
            assert viewer.running
            assert player.running
            playlist = gateway_text(channel, "live.m3u8")
            player.stop()
    assert not changes_of_media(playlist)
    received = tags(flv)
    video, audio = ([t for t in received if t.type_id == kind] for kind in (9, 8))
    headers = [t for t in received if t.type_id in (8, 9) and t.payload[1] == 0]
    assert len(headers) == 2, "one of each kind: nothing was announced over three switches"
    for kind, longest in ((video, 1_000), (audio, 1_000)):
        times = [t.timestamp for t in kind if t.payload[1] != 0]
        gaps = [b - a for a, b in itertools.pairwise(times)]
        assert min(gaps) >= 0
        assert max(gaps) <= longest
    check_decodes(flv)
    # The slate is dark, the publisher's test picture is bright.
    times = [t.timestamp for t in video if t.payload[1] != 0]
    levels = [brightness(picture_at(flv, at)) < 60 for at in (0.5, (times[-1] - times[0]) / 1000 - 1.0)]
    assert levels == [False, True]
    # In the slate, sound and pictures have the same pace: neither is ahead.
    last = [max(t.timestamp for t in kind) for kind in (video, audio)]
    assert abs(last[0] - last[1]) <= 60


def gateway_text(channel: Channel, path: str) -> str:
    done = subprocess.run(
        ["curl", "-s", channel.url(path)], capture_output=True, text=True, timeout=at_most(20), check=True
    )
    return done.stdout


def test_slates_without_a_push_are_on_air(gateway: Gateway) -> None:
    """All channels are created first, because a slow scan finds the channels that are always on air."""
    slates = [
        ({"text": "Soon"}, None),
        ({"picture": "missing/picture.png"}, "the store has no missing/picture.png"),
        ({"picture": "http://127.0.0.1:9/picture.png"}, r"127\.0\.0\.1"),
    ]
    channels = [gateway.channel(inputs=[{"kind": "slate", "always": True, **slate}]) for slate, _ in slates]
    for channel, (_, reason) in zip(channels, slates, strict=True):
        channel.wait_live()
        tracks = [(t["codec"], t.get("width"), t.get("channels")) for t in channel.session()["tracks"]]
        assert tracks == [("h264", 1280, None), ("aac", None, 2)]
        if reason is not None:
            until(lambda channel=channel: slate_state(channel)["error"], "the error is shown")  # type: ignore[misc]
        state = slate_state(channel)
        assert state["state"] == "on air"
        assert (state["error"] is None) == (reason is None)
        assert reason is None or re.search(reason, state["error"]), state["error"]
    channels[0].wait_playable("live.m3u8")


@pytest.mark.parametrize(("encoder", "codec"), [("libmp3lame", "mp3"), ("ac3", "ac3"), ("eac3", "eac3")])
def test_a_slate_has_the_sound_format_of_the_push(gateway: Gateway, tmp_path: Path, encoder: str, codec: str) -> None:
    channel = gateway.channel(inputs=[{"kind": "slate"}], isCMAF=False)  # it would have the sound as AAC
    film = Film(f"slate-{codec}", 20, audio=encoder, ffmpeg=new_ffmpeg()).path()
    command = [new_ffmpeg(), "-nostdin", "-v", "error", "-re", "-i", str(film), "-c", "copy", "-f", "flv"]
    flv = tmp_path / "live.flv"
    with Program([*command, channel.push]) as publisher:
        channel.wait_live()
        with watching(channel, "live.flv", flv):
            wait_bytes(flv, 60_000)
            publisher.kill()
            wait_state(channel, "on air")
            # Until the slate is encoded in the form of the push, it has AAC.
            until(
                lambda: [track["codec"] for track in channel.session()["tracks"]] == ["h264", codec],
                "it has the form",
                20,
            )
            wait_bytes(flv, 8_000)
    units = [event for event in FlvFileDemuxer().receive(flv.read_bytes()) if isinstance(event, AccessUnit)]
    sound = [unit.track.codec for unit in units if unit.track.kind is Kind.AUDIO]
    assert sound[-10:] == 10 * [codec]
