"""Push over WebSocket: messages of `millrace.frames.v1` and the texts of the server."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.media.track import Kind
from gateway.protocols import push
from gateway.protocols.errors import RemoteProtocolError
from gateway.protocols.push import (
    AudioConfig,
    Chunk,
    Configured,
    FramesConnection,
    PushEnded,
    PushState,
    Stats,
    VideoConfig,
)
from tests.support.push_messages import chunk_bytes, config_text, end_text

VIDEO = VideoConfig("avc1.42E01F", b"\x01\x42\xe0\x1f", 1280, 720, 30.0)
AUDIO = AudioConfig("opus", 48000, 2)
BOTH = Configured(VIDEO, AUDIO)


def said(**changes: Any) -> str:
    """A configuration as a page writes it, with some of its values changed; `...` takes one out."""
    values: dict[str, Any] = json.loads(config_text(BOTH))
    for name, value in changes.items():
        kind, _, inner = name.partition("_")
        if not inner:
            values[kind] = value
        elif value is ...:
            del values[kind][inner]
        else:
            values[kind][inner] = value
    return json.dumps(values)


def streaming(configured: Configured = BOTH) -> FramesConnection:
    connection = FramesConnection()
    connection.receive(config_text(configured))
    return connection


def chunk(kind: Kind = Kind.VIDEO, *, key: bool = True, pts: int = 40_000, payload: bytes = b"x") -> Chunk:
    return Chunk(kind, key, pts, 33_333, payload)


# ---- messages ----


def test_a_frame_is_thirteen_bytes_of_header_and_the_coded_picture() -> None:
    message = bytes.fromhex("81 ffffffffffffffff 00008235") + b"\0\0\0\1e"
    assert push.read_chunk(message) == Chunk(Kind.VIDEO, True, -1, 33_333, b"\0\0\0\1e")
    assert push.read_chunk(b"\x02" + message[1:]) == Chunk(Kind.AUDIO, False, -1, 33_333, b"\0\0\0\1e")


@given(
    st.builds(
        Chunk,
        st.sampled_from(list(Kind)),
        st.booleans(),
        st.integers(-(2**63), 2**63 - 1),
        st.integers(0, 2**32 - 1),
        st.binary(min_size=1, max_size=100),
    )
)
def test_a_frame_that_is_written_is_read_as_the_same(frame: Chunk) -> None:
    assert push.read_chunk(chunk_bytes(frame)) == frame


@pytest.mark.parametrize("frame", [chunk(pts=2**63), Chunk(Kind.AUDIO, True, 0, 2**32, b"x")])
def test_times_that_do_not_fit_are_not_written(frame: Chunk) -> None:
    with pytest.raises(ValueError, match="a frame at"):
        chunk_bytes(frame)


@pytest.mark.parametrize("size", range(14))
def test_a_frame_cut_in_its_header_or_without_a_picture_is_refused(size: int) -> None:
    with pytest.raises(RemoteProtocolError, match=f"of {size} bytes"):
        push.read_chunk(chunk_bytes(chunk())[:size])


@pytest.mark.parametrize("kind", [0, 3, 0x7F])
def test_a_frame_of_an_unknown_kind_is_refused(kind: int) -> None:
    with pytest.raises(RemoteProtocolError, match=f"kind {kind}:"):
        push.read_chunk(bytes([kind]) + bytes(20))


@given(
    st.builds(
        Configured,
        st.none()
        | st.builds(
            VideoConfig,
            st.just("avc1.42E01F"),
            st.binary(min_size=1, max_size=64),
            st.integers(0, 8192),
            st.integers(0, 8192),
            st.floats(0, 240),
        ),
        st.builds(
            AudioConfig,
            st.sampled_from(["opus", "mp4a.40.2"]),
            st.integers(8000, 192_000),
            st.integers(1, 8),
            st.binary(max_size=64),
        ),
    )
)
def test_a_configuration_that_is_written_is_read_as_the_same(configured: Configured) -> None:
    assert push.read_text(config_text(configured)) == configured


def test_a_configuration_may_leave_out_unknown_values() -> None:
    read = push.read_text(said(video_width=..., video_height=None, video_framerate=..., audio=None))
    assert read == Configured(VideoConfig("avc1.42E01F", VIDEO.description), None)


def test_the_limit_of_a_description_is_in_bytes_of_any_padding() -> None:
    for size in range(push.DESCRIPTION_BYTES - 3, push.DESCRIPTION_BYTES + 1):
        text = said(video_description=base64.b64encode(bytes([1] * size)).decode())
        read = push.read_text(text)
        assert isinstance(read, Configured) and read.video is not None and len(read.video.description) == size
    with pytest.raises(RemoteProtocolError, match="at most 16384 bytes"):
        push.read_text(said(video_description=base64.b64encode(bytes(push.DESCRIPTION_BYTES + 1)).decode()))


def test_the_end_message_is_read() -> None:
    assert push.read_text(end_text()) == PushEnded()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[" * 100_000, "characters"),
        ("[" * 60_000, "not JSON"),
        ("[]", "not a JSON object"),
        ("{}", "without a .type."),
        ('{"type": "hello"}', "without a .type."),
        ('{"type": ["config"]}', "without a .type."),
        ('{"type": "config"}', "without video and audio"),
        (said(video=5), r"video\.codec is missing"),
        (said(video_codec=5), r"video\.codec is missing"),
        (said(video_codec="x" * 65), r"video\.codec is missing"),
        (said(video_codec="vp8"), "'vp8' is not supported, only H.264"),
        (said(video_description=None), "avcC"),
        (said(video_description=""), "avcC"),
        (said(video_description="%%%"), "not base64"),
        (said(video_description=[1]), "not base64"),
        (said(video_description="A" * 30_000), "at most 16384 bytes"),
        (said(video_width=-1), r"video\.width is not a number"),
        (said(video_width="640"), r"video\.width is not a number"),
        (said(video_height=True), r"video\.height is not a number"),
        (said(video_framerate=float("nan")), r"video\.framerate is not a number"),
        (said(video_framerate=float("inf")), r"video\.framerate is not a number"),
        (said(audio_codec="vorbis"), "'vorbis' is not supported, only opus"),
        (said(audio_sampleRate=...), "sampleRate or"),
        (said(audio_numberOfChannels=0), "numberOfChannels is missing"),
        (said(audio_numberOfChannels=9), "numberOfChannels is not a number from 0 to 8"),
        (said(video="\ud800"), r"video\.codec is missing"),
    ],
)
def test_an_invalid_text_message_is_refused_with_the_reason(text: str, words: str) -> None:
    with pytest.raises(RemoteProtocolError, match=words):
        push.read_text(text)


# ---- the order of messages ----


def test_a_push_is_configured_streams_and_ends() -> None:
    connection = FramesConnection()
    assert connection.state is PushState.EXPECTING
    assert connection.receive(config_text(BOTH)) == BOTH
    assert connection.receive(chunk_bytes(chunk())) == chunk()
    assert connection.receive(chunk_bytes(chunk(Kind.AUDIO))) == chunk(Kind.AUDIO)
    assert connection.receive(config_text(Configured(VIDEO, None))) == Configured(VIDEO, None)
    assert connection.receive(end_text()) == PushEnded()
    assert connection.state is PushState.ENDED


def test_a_push_may_end_before_it_began() -> None:
    assert FramesConnection().receive(end_text()) == PushEnded()


def test_a_frame_before_the_configuration_is_refused() -> None:
    with pytest.raises(RemoteProtocolError, match="before the configuration"):
        FramesConnection().receive(chunk_bytes(chunk()))


@pytest.mark.parametrize("message", [end_text(), config_text(BOTH), chunk_bytes(chunk())])
def test_nothing_comes_after_the_end(message: str | bytes) -> None:
    connection = streaming()
    connection.receive(end_text())
    with pytest.raises(RemoteProtocolError, match="after the end"):
        connection.receive(message)


def test_a_frame_of_an_unconfigured_track_is_refused() -> None:
    connection = streaming(Configured(VIDEO, None))
    with pytest.raises(RemoteProtocolError, match="a frame of audio"):
        connection.receive(chunk_bytes(chunk(Kind.AUDIO)))
    connection = streaming()
    connection.receive(config_text(Configured(None, AUDIO)))
    with pytest.raises(RemoteProtocolError, match="a frame of video"):
        connection.receive(chunk_bytes(chunk()))


# ---- what the server says ----


def test_the_servers_texts_are_json_with_a_type() -> None:
    assert json.loads(push.accepted_text("c1", "frames", None, "copy")) == {
        "type": "accepted",
        "id": "c1",
        "protocol": "frames",
        "video": None,
        "audio": "copy",
    }
    assert json.loads(push.stats_text(Stats(2_500_000, 10, 30, 1, 29.97, 0.1234, "copy", None))) == {
        "type": "stats",
        "bitrate": 2_500_000,
        "received": 10,
        "frames": 30,
        "dropped": 1,
        "fps": 30.0,
        "behind": 0.123,
        "video": "copy",
        "audio": None,
    }
    assert json.loads(push.error_text(push.CloseCode.IN_USE, "in use")) == {
        "type": "error",
        "code": 4409,
        "reason": "in use",
    }


@given(st.text(max_size=300))
def test_a_reason_fits_a_close_frame(reason: str) -> None:
    cut = push.close_reason(reason)
    assert len(cut.encode()) <= 123
    assert reason.encode("utf-8", "replace").decode().startswith(cut)
