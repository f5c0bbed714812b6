"""The health of real pushes: ffmpeg sends what is wrong, and the API says it within seconds."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from tests.support.clients import Program, until
from tests.support.gateway import Channel, Gateway
from tests.support.shared_gateway import shared_gateway

PICTURE = ("-f", "lavfi", "-i", "testsrc2=s=160x90:r=25")
TONE = ("-f", "lavfi", "-i", "sine=f=440:r=44100")
NOTHING = ("-f", "lavfi", "-i", "anullsrc=r=44100:cl=stereo")
VIDEO = ("-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-b:v", "200k", "-pix_fmt", "yuv420p")
AUDIO = ("-c:a", "aac", "-b:a", "64k")
LATEST = 25.0  # seconds; contract: a fault of ten seconds is reported within ten more. The machine may be busy

PUSHES = {
    "healthy": (*PICTURE, *TONE, *VIDEO, "-g", "50", *AUDIO),
    "long GOP": (*PICTURE, *TONE, *VIDEO, "-g", "250", *AUDIO),
    "silent": (*PICTURE, *NOTHING, *VIDEO, "-g", "25", *AUDIO),
    "no sound": (*PICTURE, *VIDEO, "-g", "25"),
    "B-frames": (*PICTURE, *TONE, "-c:v", "libx264", "-preset", "veryfast", "-bf", "2", "-g", "25", *AUDIO),
    "sound only": (*TONE, *AUDIO),
}


gateway = shared_gateway("ffmpeg", MILLRACE_STREAM__LINGER="60")


@pytest.fixture(scope="module")
def pushed(gateway: Gateway) -> Iterator[dict[str, tuple[Channel, Program]]]:
    """A channel for each of PUSHES, all live at once."""
    with contextlib.ExitStack() as stack:
        found = {}
        for name, source in PUSHES.items():
            channel = gateway.channel(videoname=name)
            command = ["ffmpeg", "-nostdin", "-v", "error", "-re", *source, "-f", "flv", channel.push]
            found[name] = channel, stack.enter_context(Program(command))
        for channel, _ in found.values():
            channel.wait_live()
        yield found


def codes(channel: Channel) -> list[str]:
    return [finding["code"] for finding in channel.session()["health"]]


@pytest.mark.parametrize(
    ("name", "code", "text"),
    [
        (
            "long GOP",
            "gop_long",
            "Key frame every 10 s: set 2 s in OBS, Output, Keyframe Interval.",
        ),
        ("silent", "audio_silent", "The sound has been silent for"),
        ("no sound", "audio_missing", "No sound for "),
    ],
)
def test_a_fault_is_reported_with_advice(pushed, name, code, text):
    channel, _ = pushed[name]
    until(lambda: codes(channel) == [code], f"{name} reported", LATEST)
    until(lambda: channel.session()["health"][0]["text"].startswith(text), f"{name} in words", LATEST)


@pytest.mark.parametrize("name", ["healthy", "B-frames", "sound only"])
def test_a_healthy_push_has_no_faults(pushed, name):
    channel, _ = pushed["no sound"]
    until(lambda: codes(channel) == ["audio_missing"], "enough time for any fault", LATEST)
    assert pushed[name][0].session()["health"] == []


def test_a_push_is_measured(pushed):
    channel, _ = pushed["healthy"]
    measured = until(lambda: (m := channel.session()["measured"])["driftMsPerS"] is not None and m, "measured")
    assert measured["fps"] == pytest.approx(25, rel=0.1)
    assert measured["declaredFps"] == 25
    assert measured["gop"] == pytest.approx(2, abs=0.1)
    assert measured["bitrate1m"] == pytest.approx(260_000, rel=0.4)
    assert (measured["width"], measured["height"], measured["bFrames"]) == (160, 90, False)
    assert abs(measured["avOffsetMs"]) < 200
    assert pushed["B-frames"][0].session()["measured"]["bFrames"] is True
    assert pushed["sound only"][0].session()["measured"]["bFrames"] is None


def test_lists_and_metrics_have_the_faults(gateway, pushed):
    channel, _ = pushed["long GOP"]
    until(lambda: codes(channel) == ["gop_long"], "reported", LATEST)
    online = {item["videoname"]: item for item in gateway.api("GET", "/videostreams/online").json()}
    assert [finding["code"] for finding in online["long GOP"]["health"]] == ["gop_long"]
    assert 'millrace_stream_health{code="gop_long"} 1.0' in gateway.api("GET", "/metrics").text
    assert '"fault":"gop_long"' in gateway.log


def test_an_idle_channel_has_neither_faults_nor_values(gateway):
    session = gateway.channel().session()
    assert session["health"] == []
    assert set(session["measured"].values()) == {None}


def test_a_push_that_ended_has_no_faults(pushed):
    channel, program = pushed["long GOP"]
    until(lambda: codes(channel) == ["gop_long"], "reported", LATEST)
    program.process.kill()
    until(lambda: channel.session()["state"] == "lingering" and codes(channel) == [], "withdrawn")
    assert set(channel.session()["measured"].values()) == {None}
